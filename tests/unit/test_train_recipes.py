"""Training recipes are read strictly, and the built-in ones are what their sources say."""

import pytest

from edgese import catalog
from edgese.cli.reference import help_texts
from edgese.errors import ConfigError, InputError
from edgese.records.training import (
    Augmentation,
    Exponential,
    PadCrop,
    ResizedCrop,
    RmsProp,
    Sgd,
    Steps,
    TrainingRecipe,
)
from edgese.training.plan import Plan

TEXT = """
name = "mine"
summary = "A recipe."
sources = []
epochs = 3
batch = 4
optimizer = { kind = "sgd", lr = 0.1 }
schedule = { kind = "cosine" }
augmentation = { crop = { kind = "center" } }
"""
GROWING = "progressive = { stages = 2, resolution = [0.5, 1.0],"


def read(*changes):
    text = TEXT
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return TrainingRecipe.from_toml(text, "mine.toml")


@pytest.mark.parametrize("name", catalog.training_recipe_names())
def test_every_built_in_recipe_can_be_read_and_says_where_it_comes_from(name):
    recipe = catalog.training_recipe(name)
    assert recipe.name == name
    assert recipe.summary.endswith(".")
    assert recipe.sources


def test_there_are_eight_built_in_recipes():
    assert catalog.training_recipe_names() == (
        "cifar",
        "digits",
        "digits-efficientnet",
        "efficientnet",
        "efficientnetv2",
        "finetune",
        "qat",
        "senet",
    )


def test_the_help_names_every_built_in_recipe():
    text = dict(help_texts())["edgese train"]
    assert all(name in text for name in catalog.training_recipe_names())


def test_an_unknown_recipe_is_told_with_the_known_ones():
    with pytest.raises(ConfigError, match="no training recipe named 'cifra'") as told:
        catalog.training_recipe("cifra")
    assert "Did you mean 'cifar'?" in told.value.hint


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("batch = 4", "batch = 4\nbacth = 8"),
        ("lr = 0.1", "lr = 0.1, lrr = 0.2"),
        ('kind = "cosine"', 'kind = "cosine", factor = 0.1'),
        ('kind = "center"', 'kind = "center", padding = 4'),
        ('kind = "sgd"', 'kind = "lion"'),
        ("batch = 4", "batch = 0"),
        ("lr = 0.1", "lr = nan"),
        ("lr = 0.1", "lr = inf"),
        ("lr = 0.1", "lr = -0.1"),
        ("batch = 4", "batch = 4\nmixup = inf"),
        ("batch = 4", "batch = 4\nnorm_learns = 1.5"),
        ("batch = 4", 'batch = 4\nprecision = "fp16"'),
        ('kind = "cosine"', 'kind = "cosine", warmup = 1.0'),
    ],
)
def test_a_key_or_value_that_cannot_be_is_an_error(old, new):
    with pytest.raises(InputError, match=r"mine\.toml is not a readable TrainingRecipe"):
        read((old, new))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("epochs = 3", "", "either `epochs` or `steps`"),
        ("epochs = 3", "epochs = 3\nsteps = 9", "either `epochs` or `steps`"),
        ("lr = 0.1", "lr = 0.1, momentum = 0.0", "`nesterov` needs a `momentum`"),
        ('kind = "cosine"', 'kind = "steps", at = [0.5, 0.3]', "they must rise"),
        ('kind = "center"', 'kind = "resized", area = [1.0, 0.5]', "smallest to the largest"),
        (
            "batch = 4",
            f"batch = 4\nmixup = 0.2\n{GROWING} mixup = [0.0, 0.2] }}",
            "`mixup` stands in the recipe and under `progressive`",
        ),
        (
            "batch = 4",
            f"batch = 4\ndropout = 0.0\n{GROWING} dropout = [0.0, 0.2] }}",
            "`dropout` stands in the recipe and under `progressive`",
        ),
        (
            "batch = 4",
            "batch = 4\nlabel_smoothing = 0.1\ndistillation = { weight = 1.0 }",
            "`label_smoothing` has no effect",
        ),
    ],
)
def test_settings_that_contradict_each_other_are_an_error(old, new, message):
    with pytest.raises(InputError, match=message):
        read((old, new))


def at_epoch(recipe, epoch, pictures):
    plan = Plan(recipe=recipe, pictures=pictures, height=224, width=224)
    return plan.lr(round(epoch * pictures / recipe.batch))


def test_the_se_paper_s_recipe():
    recipe = catalog.training_recipe("senet")
    assert recipe.optimizer == Sgd(lr=0.6, momentum=0.9, nesterov=False, weight_decay=1e-4)
    assert (recipe.batch, recipe.epochs) == (1024, 100)
    assert recipe.augmentation == Augmentation(crop=ResizedCrop(area=(0.08, 1.0)), flip=True)
    rates = [at_epoch(recipe, epoch, 1_281_167) for epoch in (0, 29, 31, 61, 91)]
    assert rates == pytest.approx([0.6, 0.6, 0.06, 0.006, 0.0006])


def test_the_resnet_paper_s_recipe_for_cifar():
    recipe = catalog.training_recipe("cifar")
    assert recipe.optimizer == Sgd(lr=0.1, momentum=0.9, nesterov=False, weight_decay=1e-4)
    assert recipe.augmentation.crop == PadCrop(padding=4)
    assert recipe.schedule == Steps(at=(0.5, 0.75), factor=0.1)
    steps = Plan(recipe=recipe, pictures=50_000, height=32, width=32).steps
    assert steps == pytest.approx(64_000, rel=0.002)


def test_the_efficientnet_paper_s_recipe():
    recipe = catalog.training_recipe("efficientnet")
    assert recipe.optimizer == RmsProp(
        lr=0.256, decay=0.9, momentum=0.9, eps=1e-3, weight_decay=1e-5
    )
    assert isinstance(recipe.schedule, Exponential)
    assert recipe.stochastic_depth == 0.2
    # 100 whole distances of 2.4 epochs are behind after 241.
    assert at_epoch(recipe, 241, 1_281_167) == pytest.approx(0.256 * 0.97**100)
    assert at_epoch(recipe, 2.5, 1_281_167) == pytest.approx(0.128, rel=0.01)


def test_the_efficientnetv2_paper_s_progressive_learning():
    recipe = catalog.training_recipe("efficientnetv2")
    plan = Plan(recipe=recipe, pictures=1_281_167, height=384, width=384)
    phases = [plan.phase(plan.steps * eighth // 8) for eighth in (1, 3, 5, 7)]
    assert [phase.height for phase in phases] == [128, 184, 244, 300]
    assert [phase.randaugment for phase in phases] == pytest.approx([5, 25 / 3, 35 / 3, 15])
    assert [phase.dropout for phase in phases] == pytest.approx([0.1, 1 / 6, 7 / 30, 0.3])
    assert {phase.mixup for phase in phases} == {0}


def test_a_project_adds_a_training_recipe(tmp_path, monkeypatch):
    (tmp_path / "edgese.toml").write_text("")
    folder = tmp_path / "calibration/training"
    folder.mkdir(parents=True)
    (folder / "mine.toml").write_text(TEXT)
    monkeypatch.chdir(tmp_path)
    catalog.project.root.cache_clear()
    try:
        assert catalog.training_recipe("mine").batch == 4
    finally:
        catalog.project.root.cache_clear()

"""The training loop on real torch: what it learns, what every setting does, and how it resumes."""

import csv
import dataclasses
import json
import os
import re
import signal

import msgspec
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from edgese import store
from edgese.data.classes import UNLABELLED, ClassNames
from edgese.data.digits import digit_pictures
from edgese.data.sources import held_out
from edgese.errors import Collapsed, ConfigError, InputError, OutputError, StoreError
from edgese.models.builder import build
from edgese.records.model import (
    Head,
    ModelSpec,
    Preprocessing,
    SqueezeExcite,
    Stage,
    Stem,
)
from edgese.records.training import (
    AdamW,
    Augmentation,
    Average,
    CenterCrop,
    Cosine,
    Distillation,
    PadCrop,
    Progressive,
    ResizedCrop,
    RmsProp,
    Sgd,
    Steps,
    TrainingLog,
    TrainingRecipe,
)
from edgese.training import checkpoint
from edgese.training.extension import Extension, ParameterGroup
from edgese.training.log import CURVE, LOG, TABLE
from edgese.training.loop import TrainingData, fit
from edgese.training.processes import Processes, alone

pytestmark = pytest.mark.usefixtures("one_thread")

TINY = ModelSpec(
    name="tiny",
    family="mine",
    stem=Stem(channels=(8,), stride=1),
    stages=(
        Stage(block="basic", channels=8, depth=1, se=SqueezeExcite(reduction=2)),
        Stage(block="basic", channels=16, depth=1, stride=2),
    ),
    head=Head(dropout=0.1),
    classes=10,
    preprocessing=Preprocessing(height=8, width=8, crop=1.0, mean=(0.3,) * 3, std=(0.4,) * 3),
)
RECIPE = TrainingRecipe(
    name="mine",
    summary="A recipe.",
    sources=(),
    epochs=2,
    batch=16,
    optimizer=Sgd(lr=0.1),
    schedule=Cosine(),
    augmentation=Augmentation(crop=PadCrop(padding=1), flip=False),
)
ALL_DIGITS = digit_pictures(ClassNames(classes=10))


def some(count, val=20):
    """The first digits, and some to validate on."""
    train, own = ALL_DIGITS
    return TrainingData(
        train=held_out(train, count / len(train.labels))[1],
        val=held_out(own, val / len(own.labels))[1],
        preprocessing=TINY.preprocessing,
    )


@pytest.fixture
def drawn():
    """Lets curves be drawn."""


@pytest.fixture(autouse=True)
def undrawn(request, monkeypatch):
    """Draws no curve but where a test asks for it: each takes half a second."""
    if "drawn" not in request.fixturenames:
        monkeypatch.setattr("edgese.training.loop.draw_curve", lambda *_: None)


def network(spec=TINY, seed=0):
    torch.manual_seed(seed)
    return build(spec)


def trained(folder, recipe=RECIPE, *, data=None, student=None, **options):
    """The student and the log after a run."""
    folder.mkdir(exist_ok=True)
    student = student or network()
    options = {"workers": 0, "processes": alone("cpu")} | options
    log = fit(student, data or some(48), recipe, folder=folder, **options)
    return student, log


def changed(recipe=RECIPE, **changes):
    return msgspec.structs.replace(recipe, **changes)


def differing(first, second):
    """Names of the tensors that are not the same bit for bit."""
    others = second.state_dict()
    return [name for name, t in first.state_dict().items() if not torch.equal(t, others[name])]


class InterruptedAt(Extension):
    """Presses Ctrl-C in the middle of a step."""

    def __init__(self, step):
        self.step = step

    def before_step(self, student, step, steps):
        """See `Extension`."""
        del student, steps
        if step == self.step:
            os.kill(os.getpid(), signal.SIGINT)


def test_a_small_network_learns_the_digits(tmp_path):
    recipe = changed(epochs=6, batch=32)
    data = TrainingData(train=ALL_DIGITS[0], val=ALL_DIGITS[1], preprocessing=TINY.preprocessing)
    student, log = trained(tmp_path, recipe, data=data)
    assert log.val.of == 359
    assert log.val.share > 0.9
    assert log.epochs[-1].train_loss < 0.3 * log.epochs[0].train_loss
    assert not student.training


def test_the_same_seed_gives_the_same_weights_and_another_one_others(tmp_path):
    first, _ = trained(tmp_path / "a", seed=3)
    second, _ = trained(tmp_path / "b", seed=3)
    other, _ = trained(tmp_path / "c", seed=4)
    assert differing(first, second) == []
    assert differing(first, other) != []


def test_the_number_of_workers_makes_no_difference(tmp_path):
    here, _ = trained(tmp_path / "a", workers=0)
    elsewhere, _ = trained(tmp_path / "b", workers=2)
    assert differing(here, elsewhere) == []


def test_the_caller_s_random_numbers_are_left_alone(tmp_path):
    student = network()
    torch.manual_seed(11)
    trained(tmp_path, student=student)
    after = torch.rand(1)
    torch.manual_seed(11)
    assert torch.equal(after, torch.rand(1))


EVERYTHING = changed(
    epochs=2,
    optimizer=Sgd(lr=0.05, weight_decay=1e-3),
    mixup=0.2,
    label_smoothing=0.1,
    stochastic_depth=0.2,
    norm_learns=0.6,
    average=Average(decay=0.9),
    clip=1.0,
    distillation=Distillation(temperature=2.0, weight=0.5),
    progressive=Progressive(
        stages=2, resolution=(0.5, 1.0), randaugment=(2, 8), dropout=(0.1, 0.3)
    ),
)


@pytest.mark.parametrize("step", [0, 1, 2, 4])
def test_an_interrupted_run_resumes_to_the_same_bits(tmp_path, step):
    # 48 pictures in batches of 16: steps 2 and 5 are the last of their epochs.
    whole, log = trained(tmp_path / "a", EVERYTHING, teacher=network(seed=5))
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "b", EVERYTHING, teacher=network(seed=5), extension=InterruptedAt(step))
    # What the student was before makes no difference.
    parts, resumed = trained(
        tmp_path / "b", EVERYTHING, student=network(seed=9), teacher=network(seed=5), resume=True
    )
    assert differing(whole, parts) == []
    assert log.step == resumed.step == 6
    assert [timeless(row) for row in resumed.epochs] == [timeless(row) for row in log.epochs]
    assert resumed.val == log.val


@pytest.mark.parametrize("optimizer", [RmsProp(lr=0.01), AdamW(lr=0.01, weight_decay=0.1)])
def test_every_optimizer_resumes_to_the_same_bits(tmp_path, optimizer):
    recipe = changed(optimizer=optimizer)
    whole, _ = trained(tmp_path / "a", recipe)
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "b", recipe, extension=InterruptedAt(3))
    parts, _ = trained(tmp_path / "b", recipe, resume=True)
    assert differing(whole, parts) == []


class KilledAt(Extension):
    """Ends a run without a word."""

    def __init__(self, step):
        self.step = step

    def before_step(self, student, step, steps):
        """See `Extension`."""
        del student, steps
        if step == self.step:
            raise SystemExit


@pytest.mark.parametrize(("every_s", "resumed_from"), [(600.0, 3), (-1.0, 5)])
def test_a_run_that_was_killed_resumes_from_its_last_checkpoint(
    tmp_path, monkeypatch, every_s, resumed_from
):
    monkeypatch.setattr("edgese.training.loop.CHECKPOINT_EVERY_S", every_s)
    whole, _ = trained(tmp_path / "a")
    with pytest.raises(SystemExit):
        trained(tmp_path / "b", extension=KilledAt(5))
    told = []
    parts, _ = trained(tmp_path / "b", resume=True, progress=told.append)
    assert told[0].step == resumed_from + 1
    assert differing(whole, parts) == []


def timeless(row):
    return msgspec.structs.replace(row, seconds=0.0, images_per_s=0.0)


def test_short_epochs_share_a_checkpoint(tmp_path, monkeypatch):
    """Ten epochs within seconds, and nothing to validate: written once, at the end."""
    saved = []
    save = checkpoint.save
    monkeypatch.setattr(
        "edgese.training.loop.checkpoint.save", lambda *given: (saved.append(given), save(*given))
    )
    data = dataclasses.replace(some(16), val=None)
    _, log = trained(tmp_path, msgspec.structs.replace(RECIPE, epochs=10), data=data)
    assert len(saved) == 1
    assert [row.epoch for row in log.epochs] == list(range(1, 11))
    resumed = trained(tmp_path, msgspec.structs.replace(RECIPE, epochs=10), data=data, resume=True)
    assert resumed[1] == log


def test_a_run_that_ends_while_it_validates_resumes_with_the_validation(tmp_path, monkeypatch):
    whole, log = trained(tmp_path / "a")

    def killed(*_arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("edgese.training.loop.Judge.judge", killed)
        with pytest.raises(KeyboardInterrupt):
            trained(tmp_path / "b")
    parts, resumed = trained(tmp_path / "b", resume=True)
    assert differing(whole, parts) == []
    assert [timeless(row) for row in resumed.epochs] == [timeless(row) for row in log.epochs]


def test_a_finished_run_resumes_to_its_own_end(tmp_path):
    recipe = changed(average=Average(decay=0.9))
    whole, log = trained(tmp_path, recipe)
    again, resumed = trained(tmp_path, recipe, resume=True)
    assert differing(whole, again) == []
    assert resumed == log


def test_a_run_that_was_killed_after_its_last_checkpoint_still_gets_its_log(tmp_path):
    _, log = trained(tmp_path)
    files = [tmp_path / name for name in (LOG, TABLE)]
    whole = [path.read_bytes() for path in files]
    for path in files:
        path.unlink()
    assert trained(tmp_path, resume=True)[1] == log
    assert [path.read_bytes() for path in files] == whole


@pytest.mark.usefixtures("drawn")
@pytest.mark.parametrize("installed", [True, False])
def test_without_matplotlib_there_is_a_log_and_no_curve(tmp_path, monkeypatch, installed):
    if not installed:
        monkeypatch.setattr("edgese.training.log.find_spec", lambda _: None)
    trained(tmp_path, changed(epochs=1), data=some(16))
    assert (tmp_path / LOG).is_file()
    assert (tmp_path / CURVE).is_file() == installed


def test_a_second_ctrl_c_does_not_wait(tmp_path):
    class Impatient(Extension):
        def before_step(self, student, step, steps):
            del student, step, steps
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
            pytest.fail("it went on")

    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path, extension=Impatient())
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"seed": 1}, "seed 0, not 1"),
        ({"recipe": changed(batch=24)}, "recipe.batch 16, not 24"),
        ({"data": some(40)}, "pictures"),
        ({"depends": {"weights": "abc"}}, "weights None, not abc"),
    ],
)
def test_another_run_s_checkpoint_is_refused(tmp_path, options, told):
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path, extension=InterruptedAt(0))
    with pytest.raises(StoreError, match="holds another run") as caught:
        trained(tmp_path, resume=True, **options)
    assert told in caught.value.message


def test_nothing_to_resume_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match="no checkpoint"):
        trained(tmp_path, resume=True)


@pytest.mark.parametrize("keep", [0, 100, 5000])
def test_a_damaged_checkpoint_is_an_input_error(tmp_path, keep):
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path, extension=InterruptedAt(0))
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(InputError, match="read the checkpoint"):
        trained(tmp_path, resume=True)


def test_a_checkpoint_of_another_schema_is_told_from_a_damaged_one(tmp_path):
    torch.save({"schema": 99}, tmp_path / "checkpoint.pt")
    with pytest.raises(StoreError, match="from a newer edgese"):
        trained(tmp_path, resume=True)


def test_a_disk_that_fills_up_leaves_the_last_checkpoint(tmp_path, monkeypatch):
    whole, _ = trained(tmp_path / "a")
    written = []
    real = type(tmp_path).write_bytes

    def full(self, content):
        if "checkpoint" in self.name:
            written.append(len(content))
            if len(written) > 2:
                real(self, bytes(content)[:100])
                raise OSError(28, "No space left on device", str(self))
        return real(self, content)

    with monkeypatch.context() as patched:
        patched.setattr(type(tmp_path), "write_bytes", full)
        with pytest.raises(OutputError, match="the disk is full"):
            trained(tmp_path / "b")
    assert sorted(path.name for path in (tmp_path / "b").iterdir()) == [
        "checkpoint.pt",
        "log.csv",
        "log.json",
    ]
    parts, _ = trained(tmp_path / "b", resume=True)
    assert differing(whole, parts) == []


def test_the_log_has_a_row_for_each_epoch_in_both_forms(tmp_path):
    _, log = trained(tmp_path, changed(epochs=3))
    with (tmp_path / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert store.read_record(TrainingLog, tmp_path / "log.json", remake="x") == log
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert [float(row["train_loss"]) for row in rows] == [row.train_loss for row in log.epochs]
    assert rows[0]["val_agreement"] == ""
    for row in log.epochs:
        assert row.images_per_s > 0
        assert 0 <= row.train_top1 <= 1
    assert json.loads((tmp_path / "log.json").read_text())["recipe"]["batch"] == 16


@pytest.mark.usefixtures("drawn")
def test_the_curve_is_a_picture_with_something_on_it(tmp_path):
    trained(tmp_path)
    with Image.open(tmp_path / "curve.png") as image:
        pixels = np.asarray(image.convert("RGB")).reshape(-1, 3)
    assert len(np.unique(pixels, axis=0)) > 50


def test_progress_tells_how_far_it_is(tmp_path):
    told = []
    trained(tmp_path, progress=told.append)
    assert [advance.step for advance in told] == [1, 2, 3, 4, 5, 6]
    assert [advance.epoch for advance in told] == [1, 1, 1, 2, 2, 2]
    assert told[0].seconds_left > told[-1].seconds_left >= 0
    assert all(advance.images_per_s > 0 for advance in told)


BASE = changed(epochs=1, augmentation=Augmentation(crop=CenterCrop(), flip=False))


@pytest.mark.parametrize(
    "changes",
    [
        {"batch": 12},
        {"steps": 2, "epochs": None},
        {"optimizer": Sgd(lr=0.09)},
        {"optimizer": Sgd(lr=0.1, momentum=0.8)},
        {"optimizer": Sgd(lr=0.1, nesterov=False)},
        {"optimizer": Sgd(lr=0.1, weight_decay=0.01)},
        {"optimizer": RmsProp(lr=0.1)},
        {"optimizer": AdamW(lr=0.1)},
        {"schedule": Cosine(warmup=0.9)},
        {"schedule": Cosine(floor=0.5)},
        {"schedule": Steps(at=(0.5,))},
        {"precision": "bf16"},
        {"label_smoothing": 0.1},
        {"mixup": 0.5},
        {"dropout": 0.5},
        {"stochastic_depth": 0.9},
        {"norm_learns": 0.3},
        {"average": Average(decay=0.9)},
        {"clip": 0.01},
        {"augmentation": Augmentation(crop=CenterCrop(), flip=True)},
        {"augmentation": Augmentation(crop=CenterCrop(), flip=False, colour=0.4)},
        {"augmentation": Augmentation(crop=CenterCrop(), flip=False, randaugment=9)},
        {"augmentation": Augmentation(crop=PadCrop(padding=2), flip=False)},
        {"augmentation": Augmentation(crop=ResizedCrop(), flip=False)},
        {"progressive": Progressive(stages=2, resolution=(0.5, 1.0))},
    ],
    ids=str,
)
def test_every_setting_has_an_effect(tmp_path, changes):
    plain, _ = trained(tmp_path / "a", BASE)
    other, _ = trained(tmp_path / "b", changed(BASE, **changes))
    assert differing(plain, other) != []


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (RmsProp(lr=0.01), RmsProp(lr=0.01, decay=0.5)),
        (RmsProp(lr=0.01), RmsProp(lr=0.01, momentum=0.5)),
        (RmsProp(lr=0.01), RmsProp(lr=0.01, eps=0.1)),
        (RmsProp(lr=0.01), RmsProp(lr=0.01, weight_decay=0.1)),
        (AdamW(lr=0.01), AdamW(lr=0.01, betas=(0.5, 0.999))),
        (AdamW(lr=0.01), AdamW(lr=0.01, eps=0.1)),
        (AdamW(lr=0.01), AdamW(lr=0.01, weight_decay=0.1)),
    ],
    ids=str,
)
def test_every_setting_of_an_optimizer_has_an_effect(tmp_path, first, second):
    one, _ = trained(tmp_path / "a", changed(BASE, optimizer=first))
    other, _ = trained(tmp_path / "b", changed(BASE, optimizer=second))
    assert differing(one, other) != []


def test_frozen_norms_keep_their_statistics_and_learn_their_factors(tmp_path):
    before = network()
    after, _ = trained(tmp_path, changed(norm_learns=0.0))
    names = set(differing(before, after))
    assert not [name for name in names if "running" in name or "num_batches" in name]
    assert "stem.conv0.norm.weight" in names


def test_weight_decay_leaves_norms_and_biases_alone(tmp_path):
    # A learning rate of which nothing but the decay is left.
    recipe = changed(BASE, optimizer=AdamW(lr=1e-9, weight_decay=1e7))
    before = network()
    after, _ = trained(tmp_path, recipe)
    for name, parameter in before.named_parameters():
        moved = (parameter - after.get_parameter(name)).abs().max()
        assert (moved > 1e-6) == (parameter.ndim > 1), name


def test_the_average_is_what_remains(tmp_path):
    # Without warm-up the average of n steps would hold mostly the first weights.
    plain, _ = trained(tmp_path / "a", BASE)
    averaged, _ = trained(tmp_path / "b", changed(BASE, average=Average(decay=0.0)))
    assert differing(plain, averaged) == []


def test_a_loss_that_becomes_nan_ends_the_run_with_the_weights_it_began_with(tmp_path):
    student = nn.Sequential(nn.Flatten(), nn.Linear(192, 32), nn.Linear(32, 10))
    before = {name: tensor.clone() for name, tensor in student.state_dict().items()}
    _, log = trained(tmp_path, changed(optimizer=Sgd(lr=1e9), epochs=8), student=student)
    assert re.fullmatch(
        r"the loss is (nan|inf) in step \d+, at a learning rate of [0-9.e+]+; "
        "the weights are those before the first step",
        log.collapse,
    )
    assert log.step < log.steps
    for name, tensor in student.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    stored = TrainingLog.from_json((tmp_path / "log.json").read_text(), "log.json")
    assert stored.collapse == log.collapse


def test_a_network_that_only_diverges_when_it_is_judged_ends_as_well(tmp_path):
    # BatchNorm hides in training what its running statistics show.
    _, log = trained(tmp_path, changed(optimizer=Sgd(lr=1e9), epochs=8))
    assert log.collapse.startswith("it computes NaN or infinity on the validation images")


class Spoilt(Extension):
    """Makes the weights NaN in one step."""

    def __init__(self, step):
        self.step = step
        self.seen = -1

    def before_step(self, student, step, steps):
        """See `Extension`."""
        del student, steps
        self.seen = step

    def after_step(self, student):
        """See `Extension`."""
        if self.seen == self.step:
            with torch.no_grad():
                next(student.parameters()).fill_(float("nan"))


@pytest.mark.parametrize("average", [None, Average(decay=0.9)])
@pytest.mark.parametrize("val", [True, False])
@pytest.mark.parametrize("step", [4, 5])
def test_the_weights_of_the_last_sound_epoch_are_kept(tmp_path, step, val, average):
    data = some(48) if val else dataclasses.replace(some(48), val=None)
    recipe = changed(average=average, epochs=4, schedule=Steps(at=(1.0,)))
    good, _ = trained(tmp_path / "good", changed(recipe, epochs=1), data=data)
    spoilt, log = trained(tmp_path / "bad", recipe, data=data, extension=Spoilt(step))
    assert log.collapse.endswith("the weights are those after epoch 1")
    assert differing(good, spoilt) == []


def test_a_checkpoint_that_is_nan_already_is_refused(tmp_path):
    student = network()
    with torch.no_grad():
        student.classifier.weight.fill_(float("nan"))
    with pytest.raises(Collapsed, match="NaN or infinite"):
        trained(tmp_path, student=student)


def test_a_student_follows_its_teacher_without_labels(tmp_path):
    data = some(200, val=60)
    teacher, _ = trained(tmp_path / "a", changed(epochs=8), data=data)
    nameless = without_labels(data)
    recipe = changed(epochs=9, distillation=Distillation())
    student, log = trained(
        tmp_path / "b", recipe, data=nameless, student=network(seed=7), teacher=teacher
    )
    first, last = log.epochs[0], log.epochs[-1]
    assert log.val is None
    assert (last.train_top1, last.val_top1) == (None, None)
    # Chance is a tenth.
    assert last.val_agreement > 0.3
    assert last.val_loss < first.val_loss
    assert not teacher.training
    assert differing(teacher, student) != []


class Nameless:
    """Pictures whose labels are not known."""

    def __init__(self, pictures):
        self.pictures = pictures
        self.info = pictures.info
        self.class_names = ()
        self.labels = np.full(len(pictures.labels), UNLABELLED)

    def name(self, index):
        """See `Pictures`."""
        return self.pictures.name(index)

    def read(self, index):
        """See `Pictures`."""
        return self.pictures.read(index)


def without_labels(data):
    return TrainingData(
        train=Nameless(data.train), val=Nameless(data.val), preprocessing=data.preprocessing
    )


def test_the_teacher_s_weight_and_temperature_have_an_effect(tmp_path):
    def run(name, settings):
        recipe = changed(BASE, distillation=settings)
        return trained(tmp_path / name, recipe, teacher=network(seed=5))[0]

    base = run("a", Distillation(temperature=2, weight=0.5))
    assert differing(base, run("b", Distillation(temperature=2, weight=0.6)))
    assert differing(base, run("c", Distillation(temperature=3, weight=0.5)))


@pytest.mark.parametrize(
    ("recipe", "teacher", "message"),
    [
        (changed(distillation=Distillation()), None, "no teacher was given"),
        (RECIPE, "one", "has no teacher, and one was given"),
    ],
)
def test_teacher_and_recipe_belong_together(tmp_path, recipe, teacher, message):
    with pytest.raises(ConfigError, match=message):
        trained(tmp_path, recipe, teacher=network() if teacher else None)


def test_pictures_without_labels_cannot_be_learnt_from(tmp_path):
    with pytest.raises(ConfigError, match="learns from labels; digits has none"):
        trained(tmp_path, data=without_labels(some(48)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"dropout": 0.1}, "has none"), ({"stochastic_depth": 0.1}, "not built from a")],
)
def test_a_setting_that_the_student_has_no_place_for_is_refused(tmp_path, changes, message):
    student = nn.Sequential(nn.Flatten(), nn.Linear(192, 10))
    with pytest.raises(ConfigError, match=message):
        trained(tmp_path, changed(**changes), student=student)


def test_any_module_can_be_trained(tmp_path):
    student = nn.Sequential(nn.Flatten(), nn.Linear(192, 10))
    before = student[1].weight.clone()
    _, log = trained(tmp_path, changed(epochs=4), data=some(300), student=student)
    assert log.val.share > 0.5
    assert not torch.equal(before, student[1].weight)


def test_without_validation_pictures_nothing_is_judged(tmp_path):
    data = TrainingData(train=some(48).train, val=None, preprocessing=TINY.preprocessing)
    _, log = trained(tmp_path, data=data)
    assert (log.val, log.epochs[-1].val_loss, log.epochs[-1].val_top1) == (None, None, None)


def test_an_extension_has_its_say_before_and_after_each_step_and_its_own_rates(tmp_path):
    class Recorder(Extension):
        def __init__(self):
            self.said = []

        def groups(self, student):
            stem = student.stem.parameters()
            return [ParameterGroup(parameters=list(stem), lr_scale=0.0)]

        def before_step(self, student, step, steps):
            self.said.append(("before", step, steps, student.training))

        def after_step(self, student):
            self.said.append("after")
            with torch.no_grad():
                student.classifier.bias.clamp_(-0.001, 0.001)

    recorder = Recorder()
    before = network()
    after, _ = trained(tmp_path, extension=recorder, student=network())
    assert recorder.said[:4] == [("before", 0, 6, True), "after", ("before", 1, 6, True), "after"]
    assert len(recorder.said) == 12
    assert after.classifier.bias.abs().max() <= 0.001
    learnt = {name.split(".")[0] for name, _ in after.named_parameters()} - {
        name.split(".")[0]
        for name, parameter in after.named_parameters()
        if torch.equal(parameter, before.get_parameter(name))
    }
    assert "stem" not in learnt
    assert {"stages", "classifier"} <= learnt


def test_an_extension_adds_to_the_loss(tmp_path):
    class Shrinking(Extension):
        """Wants the bias of the classifier to grow."""

        def groups(self, student):
            self.bias = student.classifier.bias
            return ()

        def loss(self):
            return 10 * (1 - self.bias).sum()

    plain, _ = trained(tmp_path / "a")
    shrunk, log = trained(tmp_path / "b", extension=Shrinking())
    assert shrunk.classifier.bias.mean() > plain.classifier.bias.mean() + 0.01
    assert log.epochs[-1].train_loss < -50


def test_a_batch_that_the_processes_cannot_share_is_refused(tmp_path):
    two = Processes(rank=0, size=2, device=torch.device("cpu"))
    with pytest.raises(ConfigError, match="A batch of 15 pictures cannot be shared by 2"):
        trained(tmp_path, changed(batch=15), processes=two)

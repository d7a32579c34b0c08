"""What targets refuse before any of their packages is needed."""

import subprocess
import sys
from types import SimpleNamespace

import msgspec
import pytest

from edgese import targets
from edgese.catalog import recipe, target_facts, target_names
from edgese.errors import ConfigError
from edgese.records.artifact import ModelCard, ParityBound, Recipe, TargetOptions
from edgese.records.model import Preprocessing
from edgese.targets import TARGETS, target_module
from edgese.targets.executorch.flatbuffer import BrokenFlatbuffer, Table

CARD = ModelCard(name="tiny", classes=3, preprocessing=Preprocessing())


def test_every_target_has_its_facts_and_they_fit():
    assert sorted(TARGETS) == sorted(target_names())
    for name, module in TARGETS.items():
        facts = target_facts(name)
        assert module.NAME == name == facts.name
        assert facts.default_recipe == ("fp16" if name == "coreml" else "fp32")
        assert {"fp16", "fp32", "int8"} <= set(facts.precisions)


@pytest.mark.parametrize("name", TARGETS)
def test_what_it_can_do_is_accepted(name):
    facts = target_facts(name)
    for chosen in facts.precisions:
        TARGETS[name].check(
            CARD, recipe(chosen.replace("_", "-")), TargetOptions(delegate=facts.delegates[0])
        )


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("options", [{"io": "int8"}, {"activations": "int8"}])
def test_codes_are_refused_where_nothing_is_integer(name, options):
    with pytest.raises(ConfigError, match=next(iter(options))):
        TARGETS[name].check(CARD, recipe("fp32"), TargetOptions(**options))


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize(
    ("options", "told"),
    [({"delegate": "hexagon"}, "hexagon"), ({"batch": 0}, "batch of 0")],
)
def test_an_unknown_delegate_and_no_batch_are_refused(name, options, told):
    with pytest.raises(ConfigError, match=told):
        TARGETS[name].check(CARD, recipe("fp32"), TargetOptions(**options))


@pytest.mark.parametrize("name", [name for name in TARGETS if name != "coreml"])
@pytest.mark.parametrize(
    "options", [{"deployment_target": "iOS17"}, {"compute_units": "all"}, {"image_input": True}]
)
def test_another_targets_option_is_refused(name, options):
    with pytest.raises(ConfigError, match=next(iter(options)).replace("_", "-")):
        TARGETS[name].check(CARD, recipe("fp32"), TargetOptions(**options))


@pytest.mark.parametrize("name", TARGETS)
def test_a_users_recipe_is_judged_by_its_precision(name, monkeypatch):
    bound = ParityBound(min_cosine=0.9, min_sqnr_db=20)
    mine = Recipe(name="mine", precision="fp16", summary="", parity=bound)
    TARGETS[name].check(CARD, mine, TargetOptions())
    only_fp32 = msgspec.structs.replace(target_facts(name), precisions=("fp32",))
    monkeypatch.setattr("edgese.targets.requests.target_facts", lambda _: only_fp32)
    with pytest.raises(ConfigError, match=r"'mine' \(fp16\)"):
        TARGETS[name].check(CARD, mine, TargetOptions())


@pytest.mark.parametrize("name", TARGETS)
def test_labels_that_do_not_fit_the_classes_are_refused(name):
    two = ModelCard(name="tiny", classes=3, preprocessing=Preprocessing(), labels=("a", "b"))
    with pytest.raises(ConfigError, match="3 classes and 2 labels"):
        TARGETS[name].check(two, recipe("fp32"), TargetOptions())


def test_an_unknown_target_names_the_nearest():
    with pytest.raises(ConfigError, match="tflight") as caught:
        target_module("tflight")
    assert "tflite" in caught.value.hint


def test_a_third_partys_target_is_loaded_when_its_name_is_not_built_in(monkeypatch):
    class Offered(dict):
        names = property(set)

    ours = SimpleNamespace(load=lambda: "theirs")
    offered = Offered(tvm=ours, tflite=SimpleNamespace(load=lambda: "not to be loaded"))
    monkeypatch.setattr(
        targets, "entry_points", lambda group: offered if group == "edgese.targets" else Offered()
    )
    assert target_module("tvm").target == "theirs"
    assert target_module("tflite").target is TARGETS["tflite"]


def test_importing_the_targets_loads_none_of_their_packages():
    heavy = ("torch", "numpy", "coremltools", "executorch", "litert_torch", "onnx", "onnxruntime")
    code = f"import sys, edgese.targets; print([n for n in {heavy!r} if n in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert found.stdout.strip() == "[]"


# A table at 8 whose layout, at 20, has two fields: a number at 4 and a string at 8.
FLATBUFFER = bytes.fromhex(
    "08000000 00000000 f4ffffff 07000000 0c000000 0800 0c00 0400 0800 02000000 6869 0000"
)


def test_a_flatbuffers_fields_are_read_by_number():
    table = Table.root(FLATBUFFER)
    assert table.integer(0) == 7
    assert table.text(1) == "hi"
    assert table.integer(2) == 0
    assert table.tables(2) == ()
    assert table.table(2) is None


@pytest.mark.parametrize("size", range(0, 33, 4))
def test_a_truncated_flatbuffer_is_told_and_not_read_beyond(size):
    with pytest.raises(BrokenFlatbuffer):
        Table.root(FLATBUFFER[:size]).text(1)

import msgspec
import pytest

from edgese.conversion.plan import expanded, planned, start_order
from edgese.errors import ConfigError
from edgese.models.registry import customized, find_model
from edgese.models.subject import model_name
from edgese.records.artifact import ModelCard, ParityBound, Recipe, TargetOptions
from edgese.records.conversion import TargetFacts

KNOWN = ("coreml", "executorch", "tflite")


def facts(name, **changes):
    settings = {
        "name": name,
        "title": name,
        "suffix": f".{name}",
        "extra": name,
        "modules": (),
        "runtime": name,
        "packages": (),
        "precisions": ("fp32", "fp16"),
        "default_recipe": "fp32",
        "delegates": ("cpu", "gpu"),
        "worker_memory_mb": 100,
        "worker_seconds": 1.0,
    }
    return TargetFacts(**settings | changes)


COREML = facts("coreml", default_recipe="fp16", options=("image_input", "deployment_target"))
TFLITE = facts("tflite", precisions=("fp32",))
EXECUTORCH = facts("executorch", options=("delegate",))


def recipe(name):
    return Recipe(
        name=name,
        precision="fp32",
        summary="",
        parity=ParityBound(min_cosine=0.9, min_sqnr_db=30),
    )


def plan(*targets, recipe_name=None, **options):
    return planned(
        "net",
        targets,
        recipe=recipe,
        recipe_name=recipe_name,
        options=TargetOptions(**options),
        known=(COREML, TFLITE, EXECUTORCH),
    )


def test_all_is_every_known_target():
    assert expanded(["all"], KNOWN) == KNOWN


def test_targets_keep_the_order_of_the_asking():
    assert expanded(["tflite", "coreml"], KNOWN) == ("tflite", "coreml")


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        ([], "No target was named."),
        (["tflite", "coreml", "tflite"], "The target tflite was named 2 times."),
        (["all", "coreml"], "The target all was named beside coreml."),
    ],
)
def test_targets_that_make_no_sense_are_refused(targets, message):
    with pytest.raises(ConfigError) as caught:
        expanded(targets, KNOWN)
    assert caught.value.message == message


def test_each_target_takes_its_own_default_recipe():
    assert [p.artifact for p in plan(COREML, TFLITE)] == ["net-fp16.coreml", "net-fp32.tflite"]


def test_a_recipe_that_is_named_is_for_every_target():
    assert [p.recipe.name for p in plan(COREML, TFLITE, recipe_name="fp32")] == ["fp32", "fp32"]


def test_a_target_gets_only_the_options_that_it_owns():
    coreml, tflite = plan(COREML, TFLITE, image_input=True, batch=4)
    assert coreml.options == TargetOptions(image_input=True, batch=4)
    assert tflite.options == TargetOptions(batch=4)


def test_an_option_that_no_asked_target_owns_is_refused_with_its_owner():
    with pytest.raises(ConfigError, match="image-input means nothing to tflite") as caught:
        plan(TFLITE, image_input=True)
    assert caught.value.hint == "It belongs to: coreml."


def test_the_default_delegate_is_filled_in():
    assert [p.delegate for p in plan(EXECUTORCH, TFLITE)] == ["cpu", "cpu"]


@pytest.mark.parametrize(
    ("targets", "options", "name"),
    [
        (EXECUTORCH, {"delegate": "gpu"}, "net-fp32-gpu.executorch"),
        (EXECUTORCH, {"delegate": "cpu"}, "net-fp32.executorch"),
        (COREML, {"image_input": True}, "net-fp16-image.coreml"),
        (COREML, {"deployment_target": "iOS18"}, "net-fp16-iOS18.coreml"),
    ],
)
def test_options_that_change_the_artifact_are_in_its_name(targets, options, name):
    assert plan(targets, **options)[0].artifact == name


@pytest.mark.parametrize(
    ("changes", "batch", "trained", "name"),
    [
        ({}, 1, True, "efficientnet_lite0"),
        ({"resolution": (192, 192)}, 1, True, "efficientnet_lite0-192px"),
        ({"resolution": (192, 320)}, 1, True, "efficientnet_lite0-192x320px"),
        ({"classes": 10}, 1, True, "efficientnet_lite0-10cls"),
        ({"classes": 0}, 4, True, "efficientnet_lite0-features-batch4"),
        ({}, 1, False, "efficientnet_lite0-untrained"),
    ],
)
def test_what_differs_from_the_published_model_is_in_the_name(changes, batch, trained, name):
    native = find_model("efficientnet_lite0")
    spec = customized(native, **changes)
    card = ModelCard(name=spec.name, classes=spec.classes, preprocessing=spec.preprocessing)
    assert model_name(card, native=native, batch=batch, trained=trained) == name


def test_the_longest_conversion_starts_first():
    slow = msgspec.structs.replace(TFLITE, worker_seconds=9.0)
    assert [p.facts.name for p in start_order(plan(COREML, slow))] == ["tflite", "coreml"]

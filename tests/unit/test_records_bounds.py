"""Records know what their numbers can be: anything else is an error with file and field."""

import importlib
import pkgutil
from typing import Annotated, get_args, get_origin

import msgspec
import pytest

import edgese.records
from edgese.errors import InputError
from edgese.records.base import Interval, Record
from edgese.records.evaluation import Prediction
from edgese.records.inspection import Inspection
from edgese.records.measurement import Block, DeviceInfo, Launch, MeasurePlan, Profile

# Floats that may be anything finite, or that are bounded beside their type, with the reason.
FREE = {
    # A diverged training's loss is what it is.
    ("Advance", "loss"),
    ("Advance", "images_per_s"),
    ("EpochRow", "train_loss"),
    ("EpochRow", "val_loss"),
    # Read from a budget, whose tables check them.
    ("Limit", "bound"),
    # `Preprocessing` checks both.
    ("Preprocessing", "mean"),
    ("Preprocessing", "std"),
}
# Whole numbers that may be anything.
FREE_INTEGERS = {
    ("QuantizationRecipe", "seed"),
    ("TrainingLog", "seed"),
    # See the note there: the checker of unions of bounded numbers is at fault.
    ("Listed", "resolution"),
}


def kinds():
    modules = [
        importlib.import_module(f"edgese.records.{module.name}")
        for module in pkgutil.iter_modules(edgese.records.__path__)
    ]
    return sorted(
        {
            kind
            for module in modules
            for kind in vars(module).values()
            if isinstance(kind, type) and issubclass(kind, Record)
        },
        key=lambda kind: (kind.__module__, kind.__name__),
    )


def bare_numbers(annotation):
    """The number types in an annotation that have no bounds."""
    if get_origin(annotation) is Annotated:
        inner, *rest = get_args(annotation)
        return set() if inner in (int, float) and rest else bare_numbers(inner)
    if annotation in (int, float):
        return {annotation}
    return {found for inner in get_args(annotation) for found in bare_numbers(inner)}


@pytest.mark.parametrize("kind", kinds(), ids=lambda kind: f"{kind.__module__}.{kind.__name__}")
def test_every_number_of_every_record_has_bounds(kind):
    fields = msgspec.structs.fields(kind)
    name = kind.__name__
    missing = {
        field.name
        for field in fields
        if field.name != "schema"
        for number in bare_numbers(field.type)
        if (name, field.name) not in (FREE if number is float else FREE | FREE_INTEGERS)
    }
    assert missing == set()


BLOCK = Block(start_ms=0.0, samples_ns=(1, 2))
LAUNCH = Launch(
    import_ms=1.0,
    load_ms=1.0,
    first_run_ms=1.0,
    memory_before_load_mb=1.0,
    peak_memory_mb=1.0,
    peak_since_load=True,
    overhead_ns=1.0,
    blocks=(BLOCK,),
)
INFO = DeviceInfo(name="host", cpu="x", architecture="x", cores=1, physical_cores=1, system="Linux")
INSPECTION = Inspection(
    label="a",
    sha256="a",
    target="tflite",
    recipe="fp32",
    model="m",
    resolution=(8, 8),
    trained=True,
    operators={"conv": 1},
    delegates=(),
    not_asked=(),
    edgese="0",
    created="",
)
ANSWER = Prediction(file="f", label=0, classes=(0,), probabilities=(1.0,))


@pytest.mark.parametrize(
    ("record", "field", "value"),
    [
        (LAUNCH, "load_ms", 0),
        (LAUNCH, "load_ms", -1.0),
        (LAUNCH, "load_ms", 1e300),
        (LAUNCH, "blocks", []),
        (LAUNCH, "peak_memory_mb", -7),
        (BLOCK, "samples_ns", []),
        (BLOCK, "samples_ns", [0]),
        (BLOCK, "samples_ns", [2**63 - 1]),
        (BLOCK, "samples_ns", [10**30]),
        (BLOCK, "start_ms", -1),
        (INFO, "cores", 0),
        (INFO, "load_average", -0.5),
        (MeasurePlan(threads=1), "launches", 0),
        (Interval(low=0, high=1), "confidence", 1.5),
        (INSPECTION, "operators", {"conv": -1}),
        (INSPECTION, "resolution", [0, 8]),
        (ANSWER, "classes", []),
        (ANSWER, "classes", [-1]),
        (ANSWER, "probabilities", [1.5]),
    ],
)
def test_a_value_that_cannot_be_names_file_and_field(record, field, value):
    told = record.to_dict() | {field: value}
    with pytest.raises(InputError, match=rf"x\.json is not a readable .*\$\.{field}"):
        type(record).from_json(msgspec.json.encode(told), "x.json")


@pytest.mark.parametrize("spelt", ["NaN", "Infinity", "-Infinity", "1e999", "9" * 400])
def test_no_spelling_of_what_is_no_number_is_read(spelt):
    text = LAUNCH.to_json().replace('"load_ms": 1.0', f'"load_ms": {spelt}')
    with pytest.raises(InputError, match=r"x\.json"):
        Launch.from_json(text, "x.json")


def test_a_profile_without_a_process_is_none(profile_of):
    told = profile_of().to_dict() | {"launches": []}
    with pytest.raises(InputError, match=r"\$\.launches"):
        Profile.from_json(msgspec.json.encode(told), "x.json")

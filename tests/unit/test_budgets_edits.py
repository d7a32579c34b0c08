"""Records that were edited and sealed again: none of them passes, and none crashes the gate.

A seal is no signature, so an edit with a new seal is what is tried here. Each case has one limit,
which the truth misses or leaves unclear; then one field at a time becomes something else.
"""

import functools
import json
import random
from itertools import islice

import msgspec
import numpy as np
import pytest

from edgese.budgets.api import gate, update_baseline
from edgese.evaluation.scoring import top1
from edgese.models.registry import find_model
from edgese.records.artifact import Manifest, WeightsInfo
from edgese.records.budget import Baseline, NoiseFile
from edgese.records.evaluation import (
    Evaluation,
    EvaluationData,
    EvaluationResult,
    Prediction,
    Unreadable,
)
from edgese.records.inspection import Inspection
from edgese.records.profile import ProfileResult
from edgese.records.quantization import Calibration, Fidelity, Quantization
from edgese.seals import sealed
from edgese.store import manifest_path, sha256_of, size_of, write_record

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


TRIES = 70
SPEC = find_model("efficientnet_b0")


def model_file(path):
    """An ONNX model of two convolutions."""
    from onnx import TensorProto, helper, numpy_helper, save

    weight = numpy_helper.from_array(np.full((3, 3, 3, 3), 0.1, np.float32), "w")
    nodes = [
        helper.make_node("Conv", [f"x{i}", "w"], [f"x{i + 1}"], pads=[1, 1, 1, 1]) for i in (0, 1)
    ]
    shapes = {"x0": (1, 3, 16, 16), "x2": (1, 3, 16, 16)}
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in shapes.items()]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], [weight])
    opsets = [helper.make_opsetid("", 13)]
    save(helper.make_model(graph, opset_imports=opsets, ir_version=8), str(path))


def evaluation(sha256, right, *, of=200, unread=0, recipe="int8", target="onnxruntime"):
    predictions = tuple(
        Prediction(
            file=f"{n}",
            label=0,
            classes=(0 if n < right else 1,),
            probabilities=(1.0,),
            sha256=f"{n:064x}",
        )
        for n in range(of - unread)
    )
    return Evaluation(
        subject=recipe,
        model="tiny",
        target=target,
        recipe=recipe,
        delegate="",
        artifact_sha256=sha256,
        weights=WeightsInfo(source="w", sha256="f" * 64, naming="edgese", trained=True),
        preprocessing=SPEC.preprocessing,
        data=EvaluationData(source="d", split="", labelled_by="name", listed=of, sha256="d"),
        pictures=len(predictions),
        top1=top1(predictions, unread),
        top5=None,
        predictions=predictions,
        unreadable=tuple(
            Unreadable(file=f"{of - n - 1}", reason="truncated") for n in range(unread)
        ),
        seconds=1.0,
        threads=1,
        versions={},
        edgese="0.1.0",
        created="2026-01-01T00:00:00+00:00",
        architecture="a" * 64,
    )


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("edits")


@pytest.fixture(scope="module")
def case(place, manifest_of, profile_of, result_of, noise_of):
    """All files of a gate: an artifact, and records of it that are true."""
    patch = pytest.MonkeyPatch()
    patch.setenv("EDGESE_CACHE_DIR", str(place / "cache"))
    patch.chdir(place)
    # Its answer for one artifact is the same each time.
    from edgese.inspection import api

    inspect = functools.lru_cache(api.inspect)
    patch.setattr(api, "inspect", inspect)

    artifact = place / "a.onnx"
    model_file(artifact)
    own = {"sha256": sha256_of(artifact), "size_bytes": size_of(artifact)}
    manifest = msgspec.structs.replace(
        manifest_of(artifact.name, **own),
        weights=WeightsInfo(source="w", sha256="f" * 64, naming="edgese", trained=True),
        recipe=msgspec.structs.replace(manifest_of("x").recipe, name="int8"),
    )
    write_record(sealed(manifest), manifest_path(artifact))
    same = {"target": "onnxruntime", "delegate": "cpu", "recipe": "int8", "model": "tiny"}
    macs = manifest.spec and gate_macs(manifest)
    then = result_of(profile_of(str(artifact), macs=macs, peak_memory_mb=80.0, **same, **own))
    write_record(then, place / "then.json")
    update_baseline([place / "then.json"], place / "baseline.json", kept=True)
    slow = profile_of(str(artifact), ms=14.0, seed=3, macs=macs, **same, **own)
    heavier = tuple(
        msgspec.structs.replace(launch, peak_memory_mb=120.0) for launch in slow.launches
    )
    slow = msgspec.structs.replace(slow, launches=heavier, peak_memory_mb=120.0)
    write_record(result_of(slow), place / "profile.json")
    noise = noise_of(target="onnxruntime", delegate="cpu")
    write_record(sealed(NoiseFile(noises=(noise,), edgese="0.1.0")), place / "noise.json")
    write_record(inspect(artifact, "cpu"), place / "inspection.json")
    sha256 = own["sha256"]
    for name, found in {
        "low.json": (evaluation(sha256, 120),),
        "unread.json": (evaluation(sha256, 90, unread=110),),
        "drop.json": (evaluation("", 180, recipe="fp32"), evaluation(sha256, 120)),
    }.items():
        result = EvaluationResult(evaluations=found, agreements=())
        write_record(sealed(result), place / name)
    yield place
    patch.undo()


def gate_macs(manifest):
    from edgese.models.cost import cost

    pixels = manifest.model.preprocessing
    return cost(manifest.spec, pixels.height, pixels.width).macs


KINDS = {
    "profile.json": ProfileResult,
    "a.onnx.json": Manifest,
    "inspection.json": Inspection,
    "low.json": EvaluationResult,
    "unread.json": EvaluationResult,
    "drop.json": EvaluationResult,
    "baseline.json": Baseline,
    "noise.json": NoiseFile,
}
BESIDE = {"baseline": "baseline.json", "noise": "noise.json"}
# The limit, the file that is edited, what is given beside it, and the gate's answer to the truth.
CASES = [
    ("latency_p50_ms = 12", "profile.json", ["profile.json"], {"noise": "noise.json"}, 1),
    ("size_mb = 0.0001", "profile.json", ["profile.json", "a.onnx"], {}, 1),
    ("size_mb = 0.0001", "a.onnx.json", ["profile.json", "a.onnx"], {}, 1),
    ("memory_mb = 100", "profile.json", ["profile.json"], {}, 1),
    ("macs = 1000", "profile.json", ["profile.json", "a.onnx"], {}, 1),
    # The artifact is not named, and stands where the result says.
    ("macs = 1000", "profile.json", ["profile.json"], {}, 1),
    ("partitions = 0", "profile.json", ["profile.json"], {}, 1),
    ("partitions = 0", "a.onnx.json", ["profile.json", "a.onnx"], {}, 1),
    ("partitions = 0", "inspection.json", ["profile.json", "a.onnx", "inspection.json"], {}, 1),
    ("accuracy = 0.8", "low.json", ["profile.json", "low.json"], {}, 1),
    ("accuracy = 0.8", "unread.json", ["profile.json", "unread.json"], {}, 6),
    ("accuracy_drop = 0.05", "drop.json", ["profile.json", "a.onnx", "drop.json"], {}, 1),
    ("max_slowdown = 0.05", "baseline.json", ["profile.json"], BESIDE, 1),
    ("max_slowdown = 0.05", "noise.json", ["profile.json"], BESIDE, 1),
    ("max_memory_growth = 0.1", "baseline.json", ["profile.json"], BESIDE, 1),
]


def leaves(value, path=()):
    """Where every field stands, lists and tables themselves included."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key not in ("seal", "schema"):
                yield (*path, key)
                yield from leaves(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield (*path, index)
            yield from leaves(inner, (*path, index))


OTHERS = {
    bool: lambda value, _: [not value],
    int: lambda value, _: [-value, 0, 1, value // 2, value * 2, value + 1, 2**62, 10**30],
    float: lambda value, rng: [
        *(-value, 0.0, value / 2, value * 2, value * rng.uniform(0.5, 1.5), 1e-300, 1e300)
    ],
    str: lambda value, _: [
        *("", value[:-1], f"{value}x", "2026-13-01T00:00:00+00:00", "2031-01-01", "0" * 64)
    ],
    list: lambda value, _: [[], value[:-1], value[1:], value * 2, value[::-1]],
    dict: lambda value, _: [{}, dict(islice(value.items(), len(value) // 2))],
    type(None): lambda _value, _rng: [0, 1.0, "x", []],
}


def others(value, rng):
    """What a field may be made: what cannot be, and what could."""
    return OTHERS[type(value)](value, rng)


def edited(text, path, value):
    """The text with one field changed."""
    found = json.loads(text)
    place = found
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return json.dumps(found)


def at(found, path):
    for key in path:
        found = found[key]
    return found


def sealed_again(text, kind):
    """The text with a seal of its own; one that is no such record is left as it is."""
    try:
        return sealed(msgspec.json.decode(text, type=kind)).to_json()
    except msgspec.DecodeError:
        return text


@pytest.mark.parametrize(("limit", "name", "given", "options", "code"), CASES)
def test_no_edit_of_one_field_passes(case, limit, name, given, options, code):
    (case / "budget.toml").write_text(f"[[budget]]\ndevice = 'host'\n{limit}\n")

    def judged():
        return gate(
            [case / each for each in given],
            budget=case / "budget.toml",
            **{option: case / file for option, file in options.items()},
        ).exit_code

    truth = (case / name).read_text()
    assert judged() == code
    rng = random.Random(f"{limit} {name}")
    paths = list(leaves(json.loads(truth)))
    # Every field that is no sample, and as many of these as fit.
    paths.sort(key=lambda path: (len(path), rng.random()))
    chosen = paths[:TRIES] + rng.sample(paths, min(len(paths), TRIES))
    passed, seen = [], set()
    try:
        for path in chosen:
            value = rng.choice(others(at(json.loads(truth), path), rng))
            text = sealed_again(edited(truth, path, value), KINDS[name])
            (case / name).write_text(text)
            found = judged()
            seen.add(found)
            if found == 0:
                passed.append((path, value))
    finally:
        (case / name).write_text(truth)
    assert passed == []
    assert len(seen) > 1, "no edit made any difference"


def test_the_truth_passes_where_it_keeps_to_its_limits(case):
    (case / "budget.toml").write_text(
        "[[budget]]\nlatency_p50_ms = 20\nsize_mb = 1\npartitions = 1\ncpu_operators = 0\n"
        "accuracy = 0.5\naccuracy_drop = 0.5\n"
    )
    files = ["profile.json", "a.onnx", "inspection.json", "drop.json"]
    result = gate(
        [case / each for each in files], budget=case / "budget.toml", noise=case / "noise.json"
    )
    assert (result.exit_code, len(result.cells)) == (0, 6)


@pytest.mark.parametrize("quantity", ["max_slowdown", "max_memory_growth"])
def test_a_growth_between_files_needs_noise(case, quantity):
    (case / "budget.toml").write_text(f"[budget]\n{quantity} = 9\n")
    asked = {"budget": case / "budget.toml", "baseline": case / "baseline.json"}
    (cell,) = gate([case / "profile.json"], **asked).cells
    assert cell.judged.verdict == "unclear"
    assert "--calibrate-noise" in cell.judged.next_step
    (cell,) = gate([case / "profile.json"], **asked, noise=case / "noise.json").cells
    assert cell.judged.verdict == "meets"


def test_an_artifact_that_collapsed_never_passes(case):
    place = manifest_path(case / "a.onnx")
    truth = place.read_text()
    manifest = msgspec.json.decode(truth, type=Manifest)
    (case / "budget.toml").write_text("[budget]\nsize_mb = 1\n")
    asked = [case / "profile.json", case / "a.onnx"]
    try:
        for collapse, code in (("", 0), ("it answers 1 class", 6)):
            quantization = Quantization(
                calibration=Calibration(source="embedded", pictures=()),
                fidelity=Fidelity(pictures=32, sqnr_db=3.0),
                collapse=collapse,
            )
            told = sealed(msgspec.structs.replace(manifest, quantization=quantization))
            place.write_text(told.to_json())
            result = gate(asked, budget=case / "budget.toml")
            assert result.exit_code == code
        (untrusted,) = result.untrusted
        assert "it answers 1 class" in untrusted.message
    finally:
        place.write_text(truth)


def test_an_artifact_that_collapsed_and_is_gone_never_passes(
    case, tmp_path, monkeypatch, profile_of
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "budget.toml").write_text("[budget]\nlatency_p50_ms = 1000\nmacs = 1e9\n")
    plan = msgspec.json.decode((case / "profile.json").read_bytes(), type=ProfileResult).plan
    for collapse in ("", "it answers 1 class"):
        profile = profile_of("gone.onnx", sha256="b" * 64, collapse=collapse)
        result = ProfileResult(
            device="host", plan=plan, profiles=(profile,), edgese="0.1.0", created=""
        )
        write_record(sealed(result), tmp_path / "profile.json")
        judged = gate([tmp_path / "profile.json"], budget=tmp_path / "budget.toml")
        assert judged.exit_code == 6
        assert [collapse in one.message for one in judged.untrusted] == [True] * bool(collapse)


def test_counts_of_an_absent_artifact_are_unclear(case, tmp_path, monkeypatch, profile_of):
    monkeypatch.chdir(tmp_path)
    budget = tmp_path / "budget.toml"
    budget.write_text("[budget]\nsize_mb = 100\npartitions = 9\ncpu_operators = 9\n")
    profile = profile_of("gone.onnx", target="onnxruntime", delegate="cpu", sha256="b" * 64)
    plan = msgspec.json.decode((case / "profile.json").read_bytes(), type=ProfileResult).plan
    result = ProfileResult(
        device="host", plan=plan, profiles=(profile,), edgese="0.1.0", created=""
    )
    write_record(sealed(result), tmp_path / "profile.json")
    found = gate([tmp_path / "profile.json"], budget=budget)
    assert [cell.judged.verdict for cell in found.cells] == ["unclear"] * 3
    assert all("give the artifact too" in cell.judged.reason for cell in found.cells)


FACTS = {"target": "tflite", "resolution": [16, 16], "batch": 7, "recipe": "fp32", "model": "other"}


@pytest.mark.parametrize("fact", FACTS)
def test_a_result_agrees_with_the_manifest_of_an_artifact_that_was_not_named(case, fact):
    (case / "budget.toml").write_text("[[budget]]\nsize_mb = 1.0\n")
    profile = case / "profile.json"
    truth = profile.read_text()
    try:
        assert gate([profile], budget=case / "budget.toml").exit_code == 0
        path = ("profiles", 0, fact)
        profile.write_text(sealed_again(edited(truth, path, FACTS[fact]), ProfileResult))
        assert gate([profile], budget=case / "budget.toml").exit_code == 7
    finally:
        profile.write_text(truth)


def test_multiply_adds_of_an_artifact_that_is_gone_are_unclear(case):
    (case / "budget.toml").write_text("[[budget]]\nmacs = 1e12\n")
    artifact, aside = case / "a.onnx", case / "aside"
    artifact.rename(aside)
    try:
        found = gate([case / "profile.json"], budget=case / "budget.toml")
    finally:
        aside.rename(artifact)
    assert found.exit_code == 6
    assert "is not here" in found.cells[0].judged.reason


@pytest.mark.parametrize("label", ["x" * 5000, "a\0b"])
def test_a_label_that_no_path_can_be_is_of_nothing_here(case, label):
    (case / "budget.toml").write_text("[[budget]]\nsize_mb = 1.0\n")
    truth = (case / "profile.json").read_text()
    try:
        text = edited(truth, ("profiles", 0, "label"), label)
        (case / "profile.json").write_text(sealed_again(text, ProfileResult))
        assert gate([case / "profile.json"], budget=case / "budget.toml").exit_code == 6
    finally:
        (case / "profile.json").write_text(truth)

"""One small network with gates through all four real converters, from end to end."""

import platform
from pathlib import Path

import msgspec
import pytest

from edgese import catalog, store
from edgese.conversion.api import convert, exit_code
from edgese.models.registry import customized, find_model

BUILT_IN = ("coreml", "executorch", "onnxruntime", "tflite")


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """What converting to all targets at their default recipes told."""
    place = tmp_path_factory.mktemp("all")
    spec = customized(find_model("efficientnet_b0"), classes=10, resolution=(64, 64))
    small = msgspec.structs.replace(
        spec, name="small", stages=spec.stages[:2], labels=tuple(f"class {i}" for i in range(10))
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(store.CACHE_VARIABLE, str(place / "cache"))
        return {row.target: row for row in convert(small, "all", weights="none", out=place / "out")}


def test_every_target_is_converted(rows):
    assert tuple(rows) == BUILT_IN
    assert {row.target: (row.status, row.error) for row in rows.values()} == dict.fromkeys(
        BUILT_IN, ("converted", "")
    )
    assert exit_code(rows.values()) == 0


@pytest.mark.parametrize("target", BUILT_IN)
def test_the_artifact_is_what_its_manifest_says(rows, target):
    row = rows[target]
    manifest = store.read_manifest(Path(row.artifact))
    facts = catalog.target_facts(target)
    assert manifest.artifact == f"small-untrained-{facts.default_recipe}{facts.suffix}"
    assert manifest.size_bytes == store.size_of(Path(row.artifact))
    assert manifest.model.labels[9] == "class 9"
    assert set(facts.packages) <= set(manifest.toolchain)
    assert manifest.interface.output.shape == (1, 10)
    assert manifest.interface.input.layout == ("NHWC" if target == "tflite" else "NCHW")
    assert sum(manifest.operators.operators.values()) > 0


@pytest.mark.parametrize("target", ["executorch", "onnxruntime", "tflite"])
def test_the_artifact_computes_what_pytorch_does(rows, target):
    parity = rows[target].parity
    assert (parity.verdict, parity.pictures, parity.top1_agreement) == ("passed", 8, 1.0)
    assert parity.sqnr_db > 80


def test_core_ml_passes_in_fp16_and_says_who_executed_it(rows):
    parity = rows["coreml"].parity
    assert (parity.verdict, parity.pictures, parity.top1_agreement) == ("passed", 8, 1.0)
    assert parity.sqnr_db > 40
    assert ("evaluator" in parity.by) == (platform.system() != "Darwin")


@pytest.mark.parametrize("target", ["executorch", "tflite"])
def test_the_whole_network_is_one_piece_for_the_delegate(rows, target):
    assert (rows[target].partitions, rows[target].outside_operators) == (1, 0)

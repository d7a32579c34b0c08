"""Qualcomm's real compiler and simulator on artifacts; where its package is installed."""

from pathlib import Path

import pytest

from edgese import convert, inspect

for package in ("torch", "onnx", "onnxruntime"):
    pytest.importorskip(package)
pytest.importorskip(
    "onnxruntime_qnn",
    reason="Qualcomm's compiler is not installed: pip install 'edgese[qualcomm]'",
)


@pytest.fixture(scope="module")
def artifacts(tiny_spec, tmp_path_factory):
    """A tiny network with gates, in floats and in integers."""
    folder = tmp_path_factory.mktemp("qnn")
    spec = folder / "tiny.toml"
    spec.write_text(tiny_spec)
    made = {}
    for recipe, data in (("fp32", None), ("int8", "embedded")):
        (row,) = convert(
            spec, ["onnxruntime"], weights="none", recipe=recipe, data=data, out=folder
        )
        assert row.error == ""
        made[recipe] = Path(row.artifact)
    return made


def test_the_compiler_takes_an_integer_network_but_for_its_ends(artifacts):
    (report,) = inspect(artifacts["int8"], "qnn", soc="galaxy_s24").delegates
    assert (report.basis, report.partitions) == ("asked", 1)
    # The processor quantizes the picture and dequantizes the logits.
    assert {one.code for one in report.left_out} == {"ORT-QNN-ENDS"}
    assert report.operators - report.taken == 2
    (compiled,) = report.compiled
    assert (compiled.soc, compiled.architecture) == ("sm8650", "v75")
    assert compiled.size_bytes > 0
    (drift,) = report.drifts
    assert (drift.arithmetic, drift.pictures) == ("int8", 8)
    assert drift.cosine > 0.9


def test_the_compiler_computes_floats_in_fp16(artifacts):
    (report,) = inspect(artifacts["fp32"], "qnn", soc="sm8650").delegates
    assert report.whole
    (drift,) = report.drifts
    assert drift.arithmetic == "fp16"
    assert 0 < drift.max_abs_diff < 0.1 * drift.logit_std


def test_each_architecture_is_compiled_for(artifacts):
    (report,) = inspect(artifacts["int8"], "qnn", drift=False).delegates
    assert [each.architecture for each in report.compiled] == [
        f"v{number}" for number in (81, 79, 75, 73, 69, 68)
    ]
    assert all(each.size_bytes for each in report.compiled)
    assert report.drifts == ()

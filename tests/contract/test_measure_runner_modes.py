"""Operators and minutes without a pause, on this host with ONNX Runtime."""

import signal
import subprocess
import sys
from itertools import pairwise

import pytest

from edgese.devices import host
from edgese.errors import DeviceError
from edgese.measure.operators import operator_times
from edgese.measure.sustained import sustained
from edgese.records.measurement import SustainedResult
from edgese.store import read_record


def onnx_file(path, repeats):
    """An ONNX model that convolves and takes cosines ``repeats`` times."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper, save

    nodes = []
    for i in range(repeats):
        nodes.append(helper.make_node("Conv", [f"x{i}", "w"], [f"y{i}"], pads=[1, 1, 1, 1]))
        nodes.append(helper.make_node("Cos", [f"y{i}"], [f"x{i + 1}"]))
    sides = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, (1, 3, 64, 64))
        for name in ("x0", f"x{repeats}")
    ]
    weight = numpy_helper.from_array(np.full((3, 3, 3, 3), 0.1, np.float32), "w")
    graph = helper.make_graph(nodes, "tiny", sides[:1], sides[1:], [weight])
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.fixture(scope="module")
def tiny(tmp_path_factory, described):
    """An artifact that executes."""
    return described(onnx_file(tmp_path_factory.mktemp("artifacts") / "tiny.onnx", 20))


@pytest.fixture
def broken(tmp_path, described):
    """An artifact that does not load."""
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"no model at all")
    return described(path)


def test_onnxruntime_tells_each_operator(tiny):
    found = operator_times(tiny, host, threads=1, runs=10)
    assert found.unavailable == ""
    assert {kind.operator: kind.count for kind in found.kinds}["Cos"] == 20
    assert sum("Conv" in one.operator for one in found.operators) == 20
    assert all(one.dtype == "float" for one in found.operators)
    assert 0 < sum(one.mean_ms for one in found.operators) <= found.inference_ms
    assert found.outside_ms >= 0
    assert found.versions["onnxruntime"]


def test_recording_leaves_nothing_behind(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    operator_times(tiny, host, threads=1, runs=2)
    assert list(tmp_path.iterdir()) == []
    assert {path.name for path in tiny.parent.iterdir()} == {"tiny.onnx", "tiny.onnx.json"}


def test_an_artifact_that_does_not_load_is_a_device_error(broken):
    with pytest.raises(DeviceError, match="InvalidProtobuf"):
        operator_times(broken, host, threads=1)


def test_windows_follow_each_other_and_fill_the_time(tiny):
    (curve,) = sustained([tiny], host, seconds=1.2, window_s=0.1, threads=1).curves
    blocks = curve.launch.blocks
    assert blocks[0].start_ms < 1
    assert 6 <= len(blocks) <= 12
    for block, following in pairwise(blocks):
        assert sum(block.samples_ns) >= 0.1e9
        assert block.start_ms + sum(block.samples_ns) / 1e6 <= following.start_ms
    assert blocks[-1].start_ms + sum(blocks[-1].samples_ns) / 1e6 >= 1150
    assert curve.complete
    assert curve.launch.peak_memory_mb > 10


def test_an_artifact_that_does_not_load_is_told_and_the_other_one_runs(tiny, broken):
    result = sustained([broken, tiny], host, seconds=0.3, window_s=0.05, rest_s=0.0, threads=1)
    assert [curve.label for curve in result.curves] == [str(tiny)]
    assert [failure.label for failure in result.failures] == [str(broken)]
    assert "during load" in result.failures[0].error


def test_what_was_seen_before_an_interruption_is_on_disk(tiny, tmp_path):
    out = tmp_path / "sustained.json"
    script = (
        "import sys; from pathlib import Path; from edgese.devices import host;"
        "from edgese.measure.sustained import sustained; from edgese.store import write_record;"
        "sustained([Path(sys.argv[1])], host, seconds=600, window_s=0.1, threads=1,"
        " save=lambda result: write_record(result, Path(sys.argv[2])),"
        " progress=lambda stage, fraction: print(stage, flush=True))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tiny), str(out)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        heard = 0
        for line in process.stdout:
            heard += line.startswith("minute")
            if heard == 4:
                break
        process.send_signal(signal.SIGINT)
        process.wait(timeout=30)
    result = read_record(SustainedResult, out, remake="edgese profile")
    (curve,) = result.curves
    assert len(curve.launch.blocks) >= 3
    assert not curve.complete
    assert not result.complete

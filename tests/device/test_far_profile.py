"""`edgese.measure.api.profile` on a phone and on a board: the stand-alone runner, end to end."""

import sys

import pytest

from edgese.devices.adb import AdbDevice
from edgese.devices.ssh import SshDevice
from edgese.errors import DeviceError
from edgese.measure.api import profile
from edgese.models.registry import find_model
from edgese.records.artifact import (
    Interface,
    Manifest,
    ModelCard,
    OperatorReport,
    Parity,
    ParityBound,
    Recipe,
    TargetOptions,
    TensorInfo,
    WeightsInfo,
)
from edgese.store import manifest_path, sha256_of, size_of

QUICK = {
    "threads": 1,
    "launches": 2,
    "blocks": 4,
    "min_runs": 20,
    "min_time_s": 0.0,
    "warmup_time_s": 0.0,
}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """An ONNX artifact of one convolution, with its manifest."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    np = pytest.importorskip("numpy")
    helper = onnx.helper
    path = tmp_path_factory.mktemp("artifact") / "tiny.onnx"
    weight = onnx.numpy_helper.from_array(np.full((3, 3, 3, 3), 0.1, np.float32), "w")
    sides = [
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, (1, 3, 16, 16)) for name in "xy"
    ]
    node = helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1])
    graph = helper.make_graph([node], "tiny", sides[:1], sides[1:], [weight])
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)
    picture = TensorInfo(name="x", shape=(1, 3, 16, 16), layout="NCHW", dtype="float32")
    spec = find_model("efficientnet_b0")
    manifest = Manifest(
        artifact=path.name,
        sha256=sha256_of(path),
        size_bytes=size_of(path),
        target="onnxruntime",
        delegate="cpu",
        recipe=Recipe(
            name="fp32",
            precision="fp32",
            summary="",
            parity=ParityBound(min_cosine=0.999, min_sqnr_db=40),
        ),
        model=ModelCard(name="tiny", classes=4, preprocessing=spec.preprocessing),
        spec=spec,
        weights=WeightsInfo(source="none", sha256="", naming="edgese", trained=False),
        options=TargetOptions(),
        interface=Interface(
            input=picture, output=TensorInfo(name="y", shape=(1, 4), layout="NC", dtype="float32")
        ),
        operators=OperatorReport(operators={}, delegate="cpu", partitions=1),
        parity=Parity(verdict="not_run"),
        program_sha256="",
        toolchain={},
        edgese="0.1.0",
        created="2026-01-01T00:00:00+00:00",
    )
    manifest_path(path).write_text(manifest.to_json(), encoding="utf-8")
    return path


@pytest.fixture
def phone(phones):
    return phones(properties={"ro.product.model": "Pixel 8"})


@pytest.fixture
def attached(phone, adb_server):  # noqa: ARG001  # it must be there
    return AdbDevice(
        server=adb_server.address,
        environment=adb_server.environment,
        python=(sys.executable,),
        cool_c=None,
    )


def check(result, tiny):
    (one,) = result.profiles
    assert one.sha256 == sha256_of(tiny)
    assert [len(launch.blocks) for launch in one.launches] == [2, 2]
    assert one.latency.count == 20
    assert one.versions["onnxruntime"]


def test_an_artifact_is_profiled_on_a_phone(attached, phone, tiny):
    news = []
    result = profile([tiny], device=attached, progress=lambda *one: news.append(one), **QUICK)
    check(result, tiny)
    assert result.profiles[0].device.name == "Pixel 8"
    assert result.profiles[0].device.system.startswith("Android 14")
    assert news[0][0] == "launch 1 of 2: load tiny.onnx"
    assert not any(phone.storage.iterdir())


def test_an_artifact_is_profiled_on_a_board(ssh_server, tiny):
    board = SshDevice(ssh_server.address, config=ssh_server.config, python=(sys.executable,))
    result = profile([tiny], device=board, **QUICK)
    check(result, tiny)
    assert result.profiles[0].device.system.startswith("Linux")
    assert not any(ssh_server.cache.iterdir())


def test_a_profile_that_was_cut_off_is_a_device_error(attached, phone, tiny):
    phone.fault = "drop_in_run"
    with pytest.raises(DeviceError, match="end mark did not come"):
        profile([tiny], device=attached, **QUICK)

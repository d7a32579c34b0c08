"""`edgese.measure.api.profile` on a phone and on a board: the stand-alone runner, end to end."""

import sys

import pytest

from edgese.devices.adb import AdbDevice
from edgese.devices.ssh import SshDevice
from edgese.errors import DeviceError
from edgese.measure.api import profile
from edgese.measure.sustained import sustained
from edgese.store import sha256_of

QUICK = {
    "threads": 1,
    "launches": 2,
    "blocks": 4,
    "min_runs": 20,
    "min_time_s": 0.0,
    "warmup_time_s": 0.0,
}


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
    board = SshDevice(
        ssh_server.address, config=ssh_server.config, python=(sys.executable,), cool_c=None
    )
    result = profile([tiny], device=board, **QUICK)
    check(result, tiny)
    assert result.profiles[0].device.system.startswith("Linux")
    assert not any(ssh_server.cache.iterdir())


def check_curve(result, tiny):
    (curve,) = result.curves
    assert result.complete
    assert curve.complete
    assert curve.sha256 == sha256_of(tiny)
    assert len(curve.launch.blocks) >= 6
    assert curve.last.p50_ms > 0


def test_a_curve_without_a_pause_comes_from_a_phone_window_by_window(attached, phone, tiny):
    kept = []
    result = sustained([tiny], attached, seconds=1.2, window_s=0.2, threads=1, save=kept.append)
    check_curve(result, tiny)
    assert result.device.name == "Pixel 8"
    assert not any(phone.storage.iterdir())


def test_a_curve_without_a_pause_comes_from_a_board(ssh_server, tiny):
    board = SshDevice(
        ssh_server.address, config=ssh_server.config, python=(sys.executable,), cool_c=None
    )
    check_curve(sustained([tiny], board, seconds=1.2, window_s=0.2, threads=1), tiny)
    assert not any(ssh_server.cache.iterdir())


def test_a_curve_that_was_cut_off_keeps_its_windows_or_is_a_device_error(attached, phone, tiny):
    phone.fault = "drop_in_run"
    with pytest.raises(DeviceError, match="end mark did not come"):
        sustained([tiny], attached, seconds=60, window_s=0.2, threads=1)


def test_a_profile_that_was_cut_off_is_a_device_error(attached, phone, tiny):
    phone.fault = "drop_in_run"
    with pytest.raises(DeviceError, match="end mark did not come"):
        profile([tiny], device=attached, **QUICK)

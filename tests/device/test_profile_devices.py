"""`edgese profile` by a device's name: found, absent with something in its place, or refused."""

import json
import re
import sys
from functools import partial

import pytest
from typer.testing import CliRunner

from edgese import devices
from edgese.cli.app import app
from edgese.devices import Reach, ssh
from edgese.devices.ssh import SshDevice
from edgese.errors import ConfigError, DeviceAbsent, DeviceError, MissingDependency
from edgese.measure import api, fallback
from edgese.measure.api import profile

QUICK = {
    "threads": 1,
    "launches": 2,
    "blocks": 4,
    "min_runs": 20,
    "min_time_s": 0.0,
    "warmup_time_s": 0.0,
}


@pytest.fixture
def no_emulator(monkeypatch):
    def missing(*_, **__):
        raise MissingDependency("There is no sysroot.", hint="edgese emulator setup")

    monkeypatch.setattr(fallback, "emulated", missing)


@pytest.fixture
def here(monkeypatch):
    """Phones and boards on this machine have this machine's own interpreter."""
    monkeypatch.setattr(devices.sysroot, "find", lambda: (sys.executable,))


@pytest.fixture
def tflite(described, tmp_path):
    """A TFLite artifact to predict, which nothing opens."""
    path = tmp_path / "tiny.tflite"
    path.write_bytes(b"a network")
    return described(path, target="tflite", delegate="xnnpack")


@pytest.mark.usefixtures("here")
def test_a_phone_is_found_by_its_name_in_the_catalogue(phones, adb_server, tiny):
    phones(properties={"ro.product.model": "Pixel 8"})
    reach = Reach(adb_server=adb_server.address)
    result = profile([tiny], device="pixel8", reach=reach, **QUICK)
    (one,) = result.profiles
    assert (result.device, one.device.name, one.source) == ("pixel8", "pixel8", "measured")
    assert one.latency.count == 20
    assert not result.absence
    assert result.before.model == "Pixel 8"
    assert result.after is not None


@pytest.mark.usefixtures("here")
def test_two_phones_of_a_kind_are_an_error_and_not_an_absence(phones, adb_server, tiny):
    serials = [phones(properties={"ro.product.model": "Pixel 8"}).serial for _ in range(2)]
    with pytest.raises(DeviceError, match="2 phones are attached") as caught:
        profile([tiny], device="pixel8", reach=Reach(adb_server=adb_server.address), **QUICK)
    assert not isinstance(caught.value, DeviceAbsent)
    assert all(serial in str(caught.value) for serial in serials)
    chosen = Reach(adb_server=adb_server.address, serial=serials[1])
    result = profile([tiny], device="pixel8", reach=chosen, **QUICK)
    assert result.before.serial == serials[1]


@pytest.mark.usefixtures("here", "no_emulator")
def test_another_phone_is_not_taken_for_it(phones, adb_server, tflite):
    phones(properties={"ro.product.model": "Pixel 7"})
    result = profile([tflite], device="pixel8", reach=Reach(adb_server=adb_server.address))
    assert "there is" in result.absence
    assert "Pixel 7" in result.absence
    assert result.profiles == ()


@pytest.mark.usefixtures("here")
def test_a_board_is_found_at_its_address(ssh_server, tiny, monkeypatch):
    monkeypatch.setattr(devices, "SshDevice", partial(SshDevice, config=ssh_server.config))
    # This machine is no Raspberry Pi, and says so.
    monkeypatch.setattr(ssh, "recognised", lambda *_: True)
    result = profile([tiny], device="rpi5", reach=Reach(address=ssh_server.address), **QUICK)
    assert result.device == "rpi5"
    assert result.profiles[0].latency.count == 20


@pytest.mark.usefixtures("nothing_attached", "sysroot")
def test_an_absent_phone_is_counted_and_says_so(tiny):
    result = profile([tiny], device="pixel8")
    assert result.profiles == ()
    assert "not attached" in result.absence
    (counted,) = result.emulations
    assert (counted.source, counted.device) == ("emulated", "arm64-a710")
    # No table has latencies of this runtime, and that is told.
    assert result.predictions == ()
    assert any("Not predicted" in note for note in result.notes)


@pytest.mark.usefixtures("nothing_attached", "no_emulator")
def test_without_an_emulator_the_prediction_stands_alone_and_the_reason_is_told(tflite):
    told = CliRunner().invoke(app, ["profile", str(tflite), "--device", "pixel8", "--json"])
    assert told.exit_code == 0, told.output
    result = json.loads(told.stdout)
    assert result["profiles"] == []
    assert [one["source"] for one in result["predictions"]] == ["predicted"]
    assert any("edgese emulator setup" in note for note in result["notes"])


@pytest.mark.usefixtures("nothing_attached", "no_emulator")
def test_a_batch_is_not_predicted_as_one_picture(tflite, described):
    described(tflite, target="tflite", delegate="xnnpack", batch=8)
    with pytest.raises(DeviceAbsent, match="several pictures at once"):
        profile([tflite], device="pixel8")


@pytest.mark.usefixtures("nothing_attached", "no_emulator")
def test_a_table_never_shows_a_stand_in_as_measured(tflite):
    told = CliRunner().invoke(app, ["profile", str(tflite), "--device", "pixel8"])
    assert told.exit_code == 0, told.output
    assert "NOT MEASURED on pixel8" in told.stdout
    assert "predicted for pixel8" in told.stdout
    assert not re.search("^measured on", told.stdout, re.MULTILINE)


@pytest.mark.usefixtures("nothing_attached")
def test_a_device_that_is_required_must_be_there(tiny):
    told = CliRunner().invoke(app, ["profile", str(tiny), "--device", "pixel8", "--require-device"])
    assert isinstance(told.exception, DeviceAbsent)
    assert told.exception.exit_code == 5


def test_where_nothing_can_stand_in_it_is_an_error_with_every_reason(tiny):
    with pytest.raises(DeviceAbsent) as caught:
        profile([tiny], device="iphone15")
    for said in ("iPhone 15", "Mac", "No emulated processor", "Not predicted"):
        assert said in str(caught.value)


def test_a_board_without_an_address_is_absent(tiny):
    with pytest.raises(DeviceAbsent, match="has no address"):
        profile([tiny], device="rpi5", require_device=True)


@pytest.mark.parametrize("device", ["arm64-a76", "ethos-u55-128"])
def test_what_is_no_machine_runs_no_program(device, tiny, tmp_path):
    with pytest.raises(ConfigError, match="runs no program"):
        profile([tiny], device=device, runner=tmp_path / "benchmark_model")


def test_a_delegate_needs_a_program_that_has_it(tiny):
    with pytest.raises(ConfigError, match="--runner"):
        profile([tiny], delegate="gpu")


def test_a_program_that_is_not_there_is_named(tiny, tmp_path):
    with pytest.raises(ConfigError, match="benchmark_model cannot be read"):
        profile([tiny], runner=tmp_path / "benchmark_model")


@pytest.mark.usefixtures("here")
def test_a_runtimes_own_program_is_run_and_read(tmp_path, tiny, phones, adb_server):
    """A stand-in program that prints onnxruntime_perf_test's words, on the fake phone."""
    phones(properties={"ro.product.model": "Pixel 8"})
    program = tmp_path / "onnxruntime_perf_test"
    program.write_text(
        "#!/bin/sh\n"
        "echo 'Session creation time cost: 0.0123 s'\n"
        "echo 'First inference time cost: 7 ms'\n"
        "echo 'Total inference time cost: 0.2 s'\n"
        "echo 'Total inference requests: 100'\n"
        "echo 'Average inference time cost: 2.0 ms'\n"
    )
    result = profile(
        [tiny],
        device="pixel8",
        reach=Reach(adb_server=adb_server.address),
        runner=program,
        delegate="xnnpack",
        threads=1,
    )
    (one,) = result.programs
    assert (one.run.delegate, one.run.mean_ms, one.run.count) == ("xnnpack", 2.0, 100)
    assert len(one.program_sha256) == 64
    assert result.profiles == ()


@pytest.mark.usefixtures("here")
def test_a_device_of_ones_own_runs_a_program_too(tmp_path, tiny, phones, adb_server):
    phones(properties={"ro.product.model": "Pixel 8"})
    place = devices.find_device("pixel8", Reach(adb_server=adb_server.address))
    with pytest.raises(ConfigError, match="benchmark_model cannot be read"):
        profile([tiny], device=place, runner=tmp_path / "benchmark_model")


@pytest.mark.usefixtures("nothing_attached")
def test_nothing_takes_the_place_of_a_half_result(tflite, tmp_path):
    half = tmp_path / "half.json"
    half.write_text("half")
    with pytest.raises(DeviceAbsent):
        profile([tflite], device="pixel8", out=half, resume=True)
    assert half.read_text() == "half"


@pytest.mark.parametrize("more", [{"operators": True}, {"sustained_s": 60.0}, {"resume": True}])
def test_a_runtimes_own_program_does_nothing_else(more, tiny, tmp_path):
    out = tmp_path / "result.json"
    with pytest.raises(ConfigError, match="measures in its own way"):
        profile([tiny], runner=tmp_path / "benchmark_model", out=out, **more)


def test_the_public_function_is_the_one_that_was_tried():
    import edgese

    assert edgese.profile is api.profile

"""ARM's Python and runtimes on the fake phone, behind an emulator: copied, started, measured."""

import shutil

import pytest

from edgese.devices.adb import AdbDevice
from edgese.measure.api import profile

QUICK = {
    "threads": 1,
    "launches": 1,
    "blocks": 2,
    "min_runs": 4,
    "min_time_s": 0.0,
    "warmup_runs": 1,
    "warmup_time_s": 0.0,
}


@pytest.fixture
def emulated():
    """The sysroot, and the words that run its programs here."""
    sysroot = pytest.importorskip("edgese.devices.sysroot").find()
    cpus = pytest.importorskip("edgese.devices.emulator.cpus")
    program = pytest.importorskip("edgese.devices.emulator.program")
    if shutil.which("qemu-aarch64") is None:
        pytest.skip("qemu-aarch64 is missing: apt-get install qemu-user")
    if sysroot is None:
        pytest.skip("the sysroot is missing: edgese emulator setup")
    cpu, qemu = cpus.find_cpu("arm64-a76"), program.find_qemu()
    folder, _ = cpus.view(cpu, qemu, sysroot)
    quiet = ("-U", "LD_PRELOAD", "-U", "LD_LIBRARY_PATH")
    return sysroot, (str(qemu.path), *quiet, "-cpu", cpu.qemu, "-L", str(folder))


@pytest.mark.slow
def test_the_aarch64_runtime_runs_behind_adb(phones, adb_server, emulated, tiny):
    sysroot, prefix = emulated
    phone = phones(properties={"ro.product.model": "Pixel 8"})
    device = AdbDevice(
        server=adb_server.address,
        environment=adb_server.environment,
        python=sysroot,
        prefix=prefix,
        cool_c=None,
    )
    device.check("onnxruntime")
    (one,) = profile([tiny], device=device, **QUICK).profiles
    assert one.device.architecture == "aarch64"
    assert one.versions["onnxruntime"] == sysroot.versions["onnxruntime"]
    assert [path.name for path in phone.storage.iterdir()] == [
        f"edgese-python-{sysroot.digest[:16]}"
    ]

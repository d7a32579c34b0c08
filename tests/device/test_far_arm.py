"""ARM's Python and runtimes on the fake phone, behind an emulator: copied, started, measured."""

import pytest

from edgese.devices.adb import AdbDevice
from edgese.devices.qemu import Emulated
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


@pytest.mark.slow
def test_the_aarch64_runtime_runs_behind_adb(phones, adb_server, sysroot, tiny):
    phone = phones(properties={"ro.product.model": "Pixel 8"})
    device = AdbDevice(
        server=adb_server.address,
        environment=adb_server.environment,
        python=sysroot,
        prefix=Emulated("arm64-a76").prefix,
        cool_c=None,
    )
    device.check("onnxruntime")
    (one,) = profile([tiny], device=device, **QUICK).profiles
    assert one.device.architecture == "aarch64"
    assert one.versions["onnxruntime"] == sysroot.versions["onnxruntime"]
    assert [path.name for path in phone.storage.iterdir()] == [
        f"edgese-python-{sysroot.digest[:16]}"
    ]

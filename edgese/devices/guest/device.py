"""The guest as a device: the same one that phones are."""

from collections.abc import Iterator
from contextlib import contextmanager

from edgese.devices import sysroot
from edgese.devices.adb import AdbDevice
from edgese.devices.adb_client import AdbClient
from edgese.devices.guest.machine import running
from edgese.errors import DeviceError


@contextmanager
def answering(name: str, *, timeout_s: float = 300.0) -> Iterator[AdbDevice]:
    """A guest that runs jobs; it is gone when the block ends, and with it all that was copied.

    Args:
        name: of the processor, as in "arm64-a76".
        timeout_s: within which it must have booted.

    Raises:
        ConfigError: there is no such processor.
        MissingDependency: QEMU, the image, the sysroot or adb is not there.
        DeviceError: it did not answer.
    """
    python = sysroot.required()
    with running(name, timeout_s=timeout_s) as machine:
        client = AdbClient()
        said = client.run("connect", machine.address)
        if "connected to" not in said.stdout:
            raise DeviceError(
                f"adb cannot connect to the guest {name}: {(said.stdout + said.stderr).strip()}",
                hint="`adb kill-server` starts adb's server afresh.",
            )
        try:
            # It has one core, and nothing in it gets warm.
            yield AdbDevice(serial=machine.address, python=python, threads=1, cool_c=None)
        finally:
            client.run("disconnect", machine.address)

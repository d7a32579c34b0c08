"""Starts the guest, waits until it answers, and ends it."""

import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from shutil import which
from time import monotonic, sleep
from typing import Final

from edgese.devices.emulator.cpus import Cpu, find_cpu
from edgese.devices.guest.image import ARCHIVE, KERNEL, required
from edgese.errors import DeviceError, MissingDependency
from edgese.lifeline import Child
from edgese.scratch import temporary

INSTALL: Final = "sudo apt-get install --no-install-recommends qemu-system-arm"
PROGRAM: Final = "qemu-system-aarch64"
_READY: Final = "EDGESE-GUEST-IS-READY"
# adb takes odd ports from here on for emulators of its own, and shows each twice.
_ADBS_OWN: Final = range(5554, 5586)


@dataclass(frozen=True, slots=True)
class Guest:
    """A machine that runs.

    Attributes:
        address: what `adb connect` takes; on this machine alone.
        cpu: what is emulated.
        boot_s: how long it took to answer.
    """

    address: str
    cpu: Cpu
    boot_s: float


@contextmanager
def running(name: str, *, memory_mb: int = 2048, timeout_s: float = 180.0) -> Iterator[Guest]:
    """A guest with one core of an emulated processor; it is gone when the block ends.

    Args:
        name: of the processor, as in "arm64-a76".
        memory_mb: of the guest; its files lie there too.
        timeout_s: within which it must answer.

    Raises:
        ConfigError: there is no such processor.
        MissingDependency: QEMU or the image is not there; the hint is the command.
        DeviceError: it did not answer in time, or ended.
    """
    cpu = find_cpu(name)
    program = which(PROGRAM)
    if program is None:
        raise MissingDependency(f"{PROGRAM} is not installed.", hint=INSTALL)
    image = required()
    started = monotonic()
    with temporary("guest") as place:
        port, log = _free_port(), place / "console"
        process = Child(
            command(program, image, cpu, port, log, memory_mb),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        try:
            _wait(process, log, cpu, started + timeout_s)
            yield Guest(f"127.0.0.1:{port}", cpu, monotonic() - started)
        finally:
            process.end()


def command(program: str, image: Path, cpu: Cpu, port: int, log: Path, memory_mb: int) -> list[str]:
    """QEMU's arguments."""
    forward = f"hostfwd=tcp:127.0.0.1:{port}-:5555"
    return [
        program,
        *("-machine", "virt", "-cpu", cpu.qemu, "-smp", "1", "-m", str(memory_mb)),
        *("-nodefaults", "-display", "none", "-monitor", "none", "-serial", f"file:{log}"),
        *("-kernel", str(image / KERNEL), "-initrd", str(image / ARCHIVE)),
        *("-append", f"console=ttyAMA0 rdinit=/init quiet edgese.device={cpu.name}"),
        # Nothing leads out of the guest, and one port of this machine alone leads in.
        *("-netdev", f"user,id=net,restrict=on,{forward}"),
        *("-device", "virtio-net-pci,netdev=net,romfile="),
        # The clock moves by a nanosecond with each instruction, and skips what is slept.
        *("-icount", "shift=0,sleep=off"),
    ]


def _wait(process: subprocess.Popen[bytes], log: Path, cpu: Cpu, deadline: float) -> None:
    while True:
        said = log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""
        if _READY in said:
            return
        last = " ".join(said.split())[-300:] or "nothing"
        if process.poll() is not None:
            assert process.stderr is not None  # noqa: S101  # it was asked for
            error = process.stderr.read().decode("utf-8", "replace").strip()[-300:]
            raise DeviceError(
                f"The guest {cpu.name} ended before it answered: {error or last}",
                hint="`edgese emulator doctor` tells what is wrong.",
            )
        if monotonic() > deadline:
            raise DeviceError(
                f"The guest {cpu.name} did not answer in time; its console says: {last}",
                hint="This machine may be busy: allow more time.",
            )
        sleep(0.1)


def _free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on now."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        if port not in _ADBS_OWN:
            return port

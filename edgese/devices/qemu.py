"""Emulated 64-bit ARM processors as devices: they run jobs, and their times mean nothing.

A vector instruction costs an emulator a hundred times what it costs a core, and floating point more
than integers; `edgese.measure.emulation` counts instructions instead.
"""

import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import msgspec

from edgese import machine, store
from edgese.devices import host
from edgese.devices.emulator import cpus
from edgese.devices.emulator.program import find_qemu
from edgese.devices.sysroot import required
from edgese.errors import DeviceError, MissingDependency
from edgese.records.measurement import DeviceInfo, Job, Outcome

# Packages of a target's runtime, as the sysroot knows them.
RUNTIMES: Final = {
    "tflite": "ai-edge-litert",
    "onnxruntime": "onnxruntime",
    "executorch": "executorch",
}


class Emulated:
    """A processor under QEMU's user mode, with the sysroot's Python and runtimes.

    Attributes:
        cpu: what is emulated.
        qemu: the program that does it.
        features: that programs see there, in /proc/cpuinfo's words.
        python: a command of this machine that starts the emulated Python; what that starts by
            ``sys.executable`` is emulated too.
        prefix: words before any program for ARM that let this machine execute it; what that starts
            is not emulated.
        versions: of the runtimes there.

    Raises:
        ConfigError: there is no such processor.
        MissingDependency: QEMU or the sysroot is not there; the hint is the command.
        DeviceError: QEMU cannot start the sysroot's Python.
    """

    def __init__(self, name: str) -> None:
        self.cpu = cpus.find_cpu(name)
        self.qemu = find_qemu()
        sysroot = required()
        self.versions = sysroot.versions
        folder, self.features = cpus.view(self.cpu, self.qemu, sysroot)
        self.python = folder / "python"
        root = sysroot.root
        environment = {
            "PYTHONHOME": root / sysroot.home,
            "PYTHONPATH": ":".join(str(root / name) for name in sysroot.site),
            # What is compiled once lies apart, so that the sysroot stays as it was verified.
            "PYTHONPYCACHEPREFIX": store.cache_folder() / "emulator/pycache",
            "PYTHONHASHSEED": "0",
        }
        self.prefix = (
            self.qemu.path,
            # What this machine's loader was told is not for ARM's.
            *("-U", "LD_PRELOAD", "-U", "LD_LIBRARY_PATH"),
            *("-cpu", self.cpu.qemu, "-L", str(folder)),
        )
        _write_starter(
            self.python,
            [
                *self.prefix,
                # So sys.executable is the starter, and not a program that this machine cannot run.
                *("-0", str(self.python)),
                *(word for key, value in environment.items() for word in ("-E", f"{key}={value}")),
                str(root / sysroot.python),
            ],
        )

    def check(self, target: str) -> None:
        """Raises where artifacts of ``target`` cannot be executed there.

        Raises:
            DeviceError: there is no runtime of this target for ARM Linux.
            MissingDependency: ExecuTorch was not set up; the hint is the command.
        """
        package = RUNTIMES.get(target)
        if package is None:
            raise DeviceError(
                f"{self.cpu.name} emulates Linux on ARM, which has no runtime of {target}.",
                hint=f"It executes {', '.join(RUNTIMES)}.",
            )
        if package not in self.versions:
            raise MissingDependency(
                f"{package} for ARM is not set up for the emulator.",
                hint=f"edgese emulator setup --{target}",
            )

    def info(self) -> DeviceInfo:
        """What is emulated; the cores are this machine's."""
        return DeviceInfo(
            name=self.cpu.name,
            cpu=f"{self.cpu.core} (emulated by QEMU {self.qemu.version})",
            architecture="aarch64",
            cores=machine.cores(),
            physical_cores=machine.cores(),
            system="Linux (user-mode emulation)",
        )

    def run(
        self,
        job: Job,
        hear: Callable[[str], None],
        environment: Mapping[str, str] | None = None,
    ) -> Outcome:
        """Runs a job in a temporary folder of this machine, as `edgese.devices.host` does.

        Args:
            environment: more variables for the job; QEMU has settings there too.

        Raises:
            DeviceError: it could not be started, or did not end in its time.
            OutputError: the temporary folder cannot be written.
        """
        settings = [f"{key}={value}" for key, value in (environment or {}).items()]
        argv = [str(self.python) if word == "{python}" else word for word in job.argv]
        # Nothing is timed there, so nobody need wait for it.
        return host.executed(msgspec.structs.replace(job, argv=("env", *settings, *argv)), hear)


def _write_starter(path: Path, command: list[str]) -> None:
    """A script that becomes the emulator; subprocesses can only start programs of this machine."""
    text = f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n'
    if path.is_file() and path.read_text(encoding="utf-8") == text:
        return
    with store.staging(path) as (part,):
        part.write_text(text, encoding="utf-8")
        part.chmod(0o755)

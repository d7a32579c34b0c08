"""This machine as a device."""

import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

from edgese import machine
from edgese.devices import locking
from edgese.devices.listening import heard_out, tail
from edgese.errors import DeviceError
from edgese.lifeline import Child
from edgese.records.measurement import DeviceInfo, Job, Outcome, Push
from edgese.scratch import temporary
from edgese.store import writing
from edgese.targets import target_module
from edgese.targets.requests import check_runtime

_CPUS: Final = Path("/sys/devices/system/cpu")


def check(target: str) -> None:
    """Raises where this machine cannot execute artifacts of ``target``.

    Raises:
        DeviceError: the target's artifacts do not run on this system.
        MissingDependency: the runtime is not installed.
    """
    module = target_module(target)
    if reason := module.unavailable():
        raise DeviceError(
            f"This host is {platform.system()}: {reason}", hint="Leave such artifacts out here."
        )
    if found := module.stand_in():
        raise DeviceError(
            f"This host is {platform.system()}: artifacts of the target {target} are executed by "
            f"{found}. Its time is not the runtime's.",
            hint="Leave such artifacts out here; `edgese evaluate` judges what they compute.",
        )
    check_runtime(target)


def info() -> DeviceInfo:
    """What this machine is, and how busy it is now."""
    return DeviceInfo(
        name="host",
        cpu=_cpu_name(_text(Path("/proc/cpuinfo"))) or platform.processor() or platform.machine(),
        architecture=platform.machine(),
        cores=machine.cores(),
        # A container may be given fewer cores' time than it sees cores.
        physical_cores=min(physical_cores(_allowed_cores(), _CPUS), machine.cores()),
        system=f"{platform.system()} {platform.release()}",
        governor=_text(_CPUS / "cpu0/cpufreq/scaling_governor").strip(),
        memory_mb=machine.total_memory_mb(),
        load_average=round(os.getloadavg()[0], 2),
    )


def run(
    job: Job, hear: Callable[[str], None], *, busy_timeout_s: float = locking.WAIT_S
) -> Outcome:
    """Measures: `executed`, and no other run of edgese measures here meanwhile.

    Args:
        busy_timeout_s: another run is waited for that long.

    Raises:
        DeviceError: another run still measures here, or as `executed` raises.
        OutputError: the cache folder cannot be written, or as `executed` raises.
    """
    with locking.held("host", "this host", hear, wait_s=busy_timeout_s):
        return executed(job, hear)


def executed(job: Job, hear: Callable[[str], None]) -> Outcome:
    """Runs a job in a temporary folder; when it is left, by Ctrl-C too, all its processes are gone.

    Raises:
        DeviceError: the command cannot be started, or does not end in its time.
        OutputError: the temporary folder cannot be written.
    """
    argv = [sys.executable if word == "{python}" else word for word in job.argv]
    with temporary("job") as folder, tempfile.TemporaryFile() as log:
        for push in job.push:
            with writing(folder):
                _place(push, folder / push.name)
        try:
            process = Child(argv, cwd=folder, stdout=subprocess.PIPE, stderr=log)
        except OSError as error:
            raise DeviceError(
                f"{argv[0]} cannot be started: {error.strerror}.", hint="Check that it exists."
            ) from error
        try:
            stdout = heard_out(process, job.timeout_s, hear, "this host")
        finally:
            process.end()
        return Outcome(
            returncode=process.returncode,
            stdout=stdout,
            stderr=tail(log),
            files={
                name: (folder / name).read_bytes() for name in job.pull if (folder / name).is_file()
            },
        )


def physical_cores(allowed: set[int], cpus: Path) -> int:
    """How many cores ``allowed`` stands for when the hyper-threads of one count once.

    Args:
        cpus: as /sys/devices/system/cpu; where it does not tell, every thread is taken for a core.
    """
    siblings = {
        _text(cpus / f"cpu{number}/topology/thread_siblings_list").strip() or str(number)
        for number in allowed
    }
    return len(siblings)


def _place(push: Push, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if push.source:
        # Nothing is copied: artifacts are large and this machine has them already.
        path.symlink_to(Path(push.source).absolute())
    else:
        path.write_bytes(push.content)


def _allowed_cores() -> set[int]:
    # macOS does not let anyone choose cores.
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))


def _cpu_name(cpuinfo: str) -> str:
    """The first name that /proc/cpuinfo has; ARM kernels often have none."""
    for line in cpuinfo.splitlines():
        key, _, value = line.partition(":")
        if key.strip() in {"model name", "Hardware", "Model"}:
            return value.strip()
    return ""


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""

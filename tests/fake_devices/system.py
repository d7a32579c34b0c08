"""The files and programs that make a folder look like a phone's root to a shell in it."""

import os
import shlex
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

# Of what Android 8 has, everything that a remote job may need.
TOOLS: Final = (
    "basename",
    "cat",
    "chmod",
    "cp",
    "cut",
    "df",
    "dirname",
    "du",
    "echo",
    "env",
    "false",
    "find",
    "grep",
    "head",
    "id",
    "kill",
    "ln",
    "ls",
    "mkdir",
    "mktemp",
    "mv",
    "nohup",
    "printf",
    "ps",
    "pwd",
    "readlink",
    "realpath",
    "rm",
    "rmdir",
    "sed",
    "setsid",
    "sha256sum",
    "sleep",
    "sort",
    "stat",
    "tail",
    "tar",
    "taskset",
    "tee",
    "test",
    "timeout",
    "touch",
    "tr",
    "true",
    "uname",
    "wc",
    "which",
)
PROPERTIES: Final[Mapping[str, str]] = {
    "ro.product.model": "Fake Phone",
    "ro.product.name": "fake",
    "ro.product.device": "fake",
    "ro.product.cpu.abi": "arm64-v8a",
    "ro.soc.model": "Fake SoC",
    "ro.build.version.release": "14",
    "ro.build.version.sdk": "34",
    "ro.build.id": "FAKE.240101.001",
}
BIN: Final = "system/bin"
TEMPORARY: Final = "data/local/tmp"


def build(
    root: Path,
    properties: Mapping[str, str],
    architecture: str,
    clusters: Sequence[tuple[int, float]],
) -> None:
    """Fills ``root`` with what a phone has.

    Android's own shell (mksh) and tools (toybox) are taken where this system has them, so that what
    works here is what works there; else its own shell and tools.

    Args:
        architecture: what `uname -m` says.
        clusters: count and highest clock in MHz of each kind of core, as numbered.
    """
    binaries = root / BIN
    for folder in (binaries, root / TEMPORARY, root / "proc", root / "sys/class/thermal"):
        folder.mkdir(parents=True, exist_ok=True)
    toybox = shutil.which("toybox")
    for name in TOOLS:
        if program := toybox or shutil.which(name):
            (binaries / name).symlink_to(program)
    (binaries / "sh").symlink_to(shutil.which("mksh") or "/bin/sh")
    answers = root / "answers"
    answers.mkdir()
    lines = [f"[{name}]: [{value}]" for name, value in sorted(properties.items())]
    (answers / "properties").write_text("\n".join([*lines, ""]), encoding="utf-8")
    for name, value in properties.items():
        (answers / f"property.{name}").write_text(f"{value}\n", encoding="utf-8")
    place = shlex.quote(str(answers))
    cat = shlex.quote(shutil.which("cat") or "/bin/cat")
    replace(
        root,
        "getprop",
        f'if [ -n "$1" ]; then {cat} {place}/"property.$1" 2>/dev/null || echo; '
        f"else {cat} {place}/properties; fi",
    )
    replace(root, "dumpsys", f'{cat} {place}/"dumpsys.$1"')
    uname = shlex.quote(shutil.which("uname") or "/bin/uname")
    replace(
        root,
        "uname",
        f'if [ "$1" = -m ]; then echo {shlex.quote(architecture)}; else {uname} "$@"; fi',
    )
    _cores(root / "sys/devices/system/cpu", clusters)
    for name in ("meminfo", "loadavg", "cpuinfo"):
        (root / "proc" / name).symlink_to(f"/proc/{name}")
    warm(root, case_c=25.0, status=0)


def replace(root: Path, name: str, script: str) -> None:
    """Puts a script of its own in the place of a program."""
    path = root / BIN / name
    path.unlink(missing_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    path.chmod(0o755)


def warm(root: Path, *, case_c: float, status: int) -> None:
    """Sets the temperatures that the phone tells, and Android's thermal status.

    The texts have the form of what an Android 12 phone prints
    (https://android.stackexchange.com/questions/246774).
    """
    answers = root / "answers"
    (answers / "dumpsys.battery").write_text(
        "Current Battery Service state:\n  AC powered: false\n  USB powered: true\n"
        "  Wireless powered: false\n  status: 2\n  health: 2\n  present: true\n  level: 84\n"
        f"  scale: 100\n  voltage: 4063\n  temperature: {round(case_c * 10)}\n"
        "  technology: Li-ion\n",
        encoding="utf-8",
    )
    (answers / "dumpsys.thermalservice").write_text(
        f"IsStatusOverride: false\nThermal Status: {status}\nCached temperatures:\n"
        "HAL Ready: true\nCurrent temperatures from HAL:\n"
        f"\tTemperature{{mValue={case_c + 4:.1f}, mType=0, mName=CPU, mStatus={status}}}\n"
        f"\tTemperature{{mValue={case_c:.1f}, mType=3, mName=VIRTUAL-SKIN, mStatus={status}}}\n"
        "Current cooling devices from HAL:\n",
        encoding="utf-8",
    )
    zone = root / "sys/class/thermal/thermal_zone0"
    zone.mkdir(exist_ok=True)
    (zone / "type").write_text("cpu-0-0\n", encoding="ascii")
    (zone / "temp").write_text(f"{round(case_c * 1000) + 4000}\n", encoding="ascii")


def _cores(folder: Path, clusters: Sequence[tuple[int, float]]) -> None:
    number = 0
    for count, mhz in clusters:
        for _ in range(count):
            place = folder / f"cpu{number}" / "cpufreq"
            place.mkdir(parents=True)
            khz = f"{round(mhz * 1000)}\n"
            (place / "cpuinfo_max_freq").write_text(khz, encoding="ascii")
            (place / "scaling_cur_freq").write_text(khz, encoding="ascii")
            (place / "scaling_governor").write_text("schedutil\n", encoding="ascii")
            (place.parent / "online").write_text("1\n", encoding="ascii")
            number += 1


def environment(root: Path) -> dict[str, str]:
    """Variables of every command there."""
    variables = {
        "PATH": str(root / BIN),
        "HOME": str(root / TEMPORARY),
        "TMPDIR": str(root / TEMPORARY),
        MARK: str(root),
    }
    # Python's own library path, where the interpreter that tests take needs one.
    return variables | {name: os.environ[name] for name in ("LANG", "LC_ALL") if name in os.environ}


# By this variable everything that ran there is found again.
MARK: Final = "EDGESE_FAKE_PHONE"

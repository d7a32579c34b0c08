"""Wheels of Python packages for aarch64, fetched and unpacked by pip under pinned hashes."""

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from edgese import store
from edgese.errors import MissingDependency, OutputError
from edgese.lifeline import run

# From the newest glibc that Debian 12 satisfies down to what these packages were built for.
_PLATFORM: Final = (
    *("--platform", "manylinux_2_28_aarch64"),
    *("--platform", "manylinux_2_27_aarch64"),
    *("--platform", "manylinux_2_17_aarch64"),
    *("--platform", "manylinux2014_aarch64"),
    *("--python-version", "3.11"),
    *("--implementation", "cp"),
    "--only-binary=:all:",
    "--no-deps",
)


_PIN: Final = re.compile(r"^([\w-]+)==(\S+) --hash=sha256:([0-9a-f]{64})$", re.MULTILINE)


def pins(lock: str) -> dict[str, str]:
    """Version of each package that a lock file names."""
    return {name: version for name, version, _ in _PIN.findall(lock)}


def download(lock: Path, folder: Path) -> dict[str, str]:
    """Fetches the wheels of a lock file; where all are there already it needs no network.

    Returns:
        SHA-256 of each wheel by its name.

    Raises:
        MissingDependency: this Python has no pip.
        OutputError: pip could not fetch them; its own words are told.
    """
    wanted = {digest for *_, digest in _PIN.findall(lock.read_text(encoding="utf-8"))}
    found = _wheels(folder)
    if not wanted <= set(found.values()):
        # pip takes a file that is there by its name.
        for name in [name for name, digest in found.items() if digest not in wanted]:
            (folder / name).unlink()
        _pip(["download", "--require-hashes", "--requirement", lock, "--dest", folder, *_PLATFORM])
        found = _wheels(folder)
    return {name: digest for name, digest in found.items() if digest in wanted}


def _wheels(folder: Path) -> dict[str, str]:
    return {path.name: store.sha256_of(path) for path in sorted(folder.glob("*.whl"))}


def unpack(lock: Path, folder: Path, site: Path) -> None:
    """Installs the wheels of a lock file from ``folder`` into ``site``."""
    source: list[str | Path] = [
        "--no-index",
        "--find-links",
        folder,
        "--require-hashes",
        "--requirement",
        lock,
    ]
    _pip(["install", "--no-compile", "--target", site, *source, *_PLATFORM])
    # Commands would start this machine's Python.
    store.remove(site / "bin")


def _pip(arguments: Sequence[str | Path]) -> None:
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--no-input"]
    outcome = run([*command, *arguments])
    if outcome.returncode == 0:
        return
    if "No module named pip" in outcome.stderr:
        raise MissingDependency(
            f"{sys.executable} has no pip, which fetches the wheels.",
            hint=f"{sys.executable} -m ensurepip",
        )
    lines = [line for line in outcome.stderr.splitlines() if line.startswith("ERROR")]
    raise OutputError(
        f"pip {arguments[0]} failed: {' '.join(lines[:3]) or outcome.stderr[-300:]}",
        hint="Check the network and the space in the cache folder, then set up again: it goes on "
        "where it stopped.",
    )

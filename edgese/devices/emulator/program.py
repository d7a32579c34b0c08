"""QEMU's own program: found, its version, and whether it takes plugins."""

import os
import re
from dataclasses import dataclass
from shutil import which
from typing import Final

from edgese.errors import MissingDependency
from edgese.lifeline import run

VARIABLE: Final = "EDGESE_QEMU"
INSTALL: Final = "sudo apt-get install qemu-user"
# Those of Debian 13 and later are built without.
WITH_PLUGINS: Final = f"Debian 12's package qemu-user takes them; ${VARIABLE} names its program."
_NAME: Final = "qemu-aarch64"


@dataclass(frozen=True, slots=True)
class Qemu:
    """The emulator.

    Attributes:
        version: as in "7.2.22".
        plugins: whether it can load the counter.
    """

    path: str
    version: str
    plugins: bool


def find_qemu() -> Qemu:
    """QEMU for programs of 64-bit ARM: ``$EDGESE_QEMU``, or the first on the PATH.

    Raises:
        MissingDependency: there is none; the hint is the command that installs it.
    """
    path = os.environ.get(VARIABLE) or which(_NAME)
    if path is None or which(path) is None:
        raise MissingDependency(
            f"{path or _NAME} is not installed; it emulates ARM's processors.", hint=INSTALL
        )
    said = run([path, "--version"]).stdout
    usage = run([path, "-h"]).stdout
    return Qemu(path=path, version=version_of(said), plugins="QEMU_PLUGIN" in usage)


def version_of(said: str) -> str:
    """The version in what ``--version`` prints; "unknown" where there is none."""
    found = re.search(r"version (\d+(?:\.\d+)+)", said)
    return found[1] if found else "unknown"

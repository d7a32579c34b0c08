"""What a folder of ARM programs for boards, phones and the emulator consists of."""

from typing import Literal

from edgese.records.base import Record

SYSROOT_SCHEMA = 1


class SysrootManifest(Record, frozen=True):
    """Stands beside a sysroot, or a later part of it, and says what is in it; written last.

    Attributes:
        key: of what it is made from: names of packages, pins and hashes of wheels.
        digest: over all files; it names the sysroot where it is copied to.
        versions: of the Python packages.
        packages: Debian packages and their versions; empty where the system came from a folder.
        downloads: SHA-256 of every file that was fetched, by name.
        files: SHA-256 of every file by its path in the root; "-> target" for a symbolic link.
        created: UTC, ISO 8601.
    """

    key: str
    digest: str
    versions: dict[str, str]
    packages: dict[str, str]
    downloads: dict[str, str]
    files: dict[str, str]
    created: str
    schema: int = SYSROOT_SCHEMA


class EmulatorPart(Record, frozen=True):
    """One thing that emulation needs, and how it is.

    Attributes:
        status: "ok"; "missing" (not there); "broken" (there, and not what it should be).
        found: version or place; "" where there is none.
        remedy: the command that mends it; "" where nothing is to be done.
        needed: False for what only some artifacts need.
    """

    name: str
    status: Literal["ok", "missing", "broken"]
    found: str = ""
    error: str = ""
    remedy: str = ""
    needed: bool = True


class EmulatorDiagnosis(Record, frozen=True):
    """Everything that emulation needs.

    Attributes:
        sysroot: the folder that it is kept in.
    """

    sysroot: str
    parts: tuple[EmulatorPart, ...]

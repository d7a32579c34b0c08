"""What is installed, what is missing and what is broken."""

from typing import Literal

from edgese.records.base import Record
from edgese.records.bounds import Count


class PackageState(Record, frozen=True):
    """One package of one extra.

    Attributes:
        status: "ok"; "other_version" (installed, imports, not the version that is known to work);
            "missing"; "broken" (installed, and importing it fails).
        expected: the version that edgese was tested with, or a range.
        found: the version that is installed; "" where none is.
        remedy: the command that mends it; "" where nothing is to be done.
        error: the last line of what importing it said.
    """

    extra: str
    package: str
    status: Literal["ok", "other_version", "missing", "broken"]
    expected: str
    found: str = ""
    remedy: str = ""
    error: str = ""


class Diagnosis(Record, frozen=True):
    """The host and everything that edgese may need on it.

    Attributes:
        cache: folder of the artifact cache.
        notes: sentences about this host, such as a runtime that it can never have.
    """

    edgese: str
    python: str
    system: str
    cpus: Count
    memory_mb: Count
    cache: str
    packages: tuple[PackageState, ...]
    notes: tuple[str, ...] = ()

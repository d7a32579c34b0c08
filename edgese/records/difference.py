"""What changed between two artifacts, or between two profiles."""

from typing import Final, Literal

from edgese.records.base import Record
from edgese.records.bounds import NotNegative

DIFFERENCE_SCHEMA: Final = 1

Area = Literal[
    "network", "numbers", "operators", "coverage", "toolchain", "file", "machine", "time"
]


class Change(Record, frozen=True):
    """One thing that is not the same.

    Attributes:
        what: in the words of manifests and profiles.
        before, after: "-" where one has none.
        slower: why this may make the second slower, as a sentence; "" where it does not.
        weight: of that among the reasons: the largest is told first.
    """

    area: Area
    what: str
    before: str
    after: str
    slower: str = ""
    weight: NotNegative = 0.0


class Differences(Record, frozen=True):
    """What ``edgese diff`` leaves.

    Attributes:
        first, second: as they were named.
        changes: area by area.
        reasons: why the second may be slower, the likeliest first.
        notes: what could not be looked at.
    """

    first: str
    second: str
    changes: tuple[Change, ...]
    reasons: tuple[str, ...]
    notes: tuple[str, ...]
    schema: int = DIFFERENCE_SCHEMA

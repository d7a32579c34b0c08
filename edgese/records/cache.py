"""What the conversion cache holds."""

from typing import Literal

from edgese.records.base import Record
from edgese.records.bounds import Count


class CacheEntry(Record, frozen=True):
    """One stored result of a conversion, or the program that several were made from.

    Attributes:
        title: the artifact's name, or the model's for a program.
        used: when it last served, or was made; UTC, ISO 8601.
    """

    kind: Literal["artifact", "program"]
    key: str
    title: str
    size_bytes: Count
    used: str

"""A range that a quantity lies in with a stated confidence."""

from edgese.records.base import Record


class Interval(Record, frozen=True):
    """From ``low`` to ``high``, both included, with the given confidence.

    Attributes:
        confidence: share of such intervals that hold the true value, in 0..1.
    """

    low: float
    high: float
    confidence: float = 0.95

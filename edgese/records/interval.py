"""A range that a quantity lies in with a stated confidence."""

from edgese.records.base import Record
from edgese.records.bounds import Confidence, Finite


class Interval(Record, frozen=True):
    """From ``low`` to ``high``, both included, with the given confidence.

    Attributes:
        confidence: share of such intervals that hold the true value, in 0..1.
    """

    low: Finite
    high: Finite
    confidence: Confidence = 0.95

"""A limit held against what was observed: meets, misses or unclear, with what decided."""

from typing import Literal

from edgese.records.base import Record
from edgese.records.bounds import Finite, Share
from edgese.records.interval import Interval

Verdict = Literal["meets", "misses", "unclear"]

# The most trustworthy first.
ObservationSource = Literal[
    "measured",
    "evaluated",
    "read",
    "counted",
    "published",
    "emulated",
    "estimated",
    "predicted",
    "expected",
    "bounded",
]


class Observation(Record, frozen=True):
    """One thing that is known of an artifact.

    Attributes:
        quantity: in the words of budgets, its unit at the end.
        value: the best guess.
        low, high: ends of its interval; None as ``high`` is no bound.
        told: what it rests on, in words.
    """

    quantity: str
    value: Finite
    low: Finite
    high: Finite | None
    source: ObservationSource
    told: str = ""


class Judged(Record, frozen=True):
    """One limit of the budget, held against one artifact.

    Attributes:
        limit: the key in the budget.
        verdict: "unclear" where the interval holds the bound, or where nothing that the budget
            accepts is known.
        value, interval: what it was judged by; None where nothing is known. The confidence is what
            is left for this cell where several are judged together.
        source: of that; "" where nothing is known.
        p_value: of the hypothesis that the true figure is just the bound; None where the figure is
            exact, or where it is not known how it spreads.
        smallest_seen: the least figure beyond the bound that such data would call a miss in 95 of
            100 cases; None where it is exact.
        reason: what decided, or what is missing, as a sentence.
        next_step: of an unclear verdict: the command that would settle it. A word of it in
            capitals stands for something that the user has.
    """

    limit: str
    quantity: str
    bound: Finite
    at_most: bool
    verdict: Verdict
    value: Finite | None = None
    interval: Interval | None = None
    source: str = ""
    p_value: Share | None = None
    smallest_seen: Finite | None = None
    reason: str = ""
    next_step: str = ""

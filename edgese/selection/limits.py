"""One limit held against what is known of one candidate; pure."""

from collections.abc import Sequence
from typing import Final, NamedTuple

from edgese.records.decision import Figure, Judged, Verdict

# The most trustworthy first; where two say something of one quantity, the first one counts.
TRUST: Final = (
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
)


class Limit(NamedTuple):
    """A bound on one quantity.

    Attributes:
        quantity: as in `Figure.quantity`.
        at_most: False where the figure must be at least the bound.
        sources: of figures that can show it met. Any figure can show that it is missed.
        target: that it is for; "" is every one.
    """

    name: str
    quantity: str
    bound: float
    at_most: bool
    sources: frozenset[str]
    target: str = ""


def judged(limit: Limit, figures: Sequence[Figure]) -> Judged:
    """Whether a candidate meets a limit at the pessimistic end, or misses it even at the other."""
    known = sorted(
        (one for one in figures if one.quantity == limit.quantity),
        key=lambda one: TRUST.index(one.source),
    )
    accepted = [one for one in known if one.source in limit.sources]
    # What the budget does not accept cannot show a limit met, and may well show it out of reach.
    for one in accepted[:1] or known:
        if _beyond(limit, one.low if limit.at_most else one.high):
            return _told(limit, one, "misses")
    if not accepted:
        return Judged(limit=limit.name, bound=limit.bound, at_most=limit.at_most, verdict="unclear")
    first = accepted[0]
    worst = first.high if limit.at_most else first.low
    met = worst is not None and not _beyond(limit, worst)
    return _told(limit, first, "meets" if met else "unclear")


def guessed(limit: Limit, figures: Sequence[Figure]) -> float | None:
    """How far the best guess is beyond a limit, see `Judged.excess`; None where there is none."""
    known = sorted(
        (one for one in figures if one.quantity == limit.quantity),
        key=lambda one: TRUST.index(one.source),
    )
    guesses = [one for one in known if one.source != "bounded"]
    return excess(limit, guesses[0].value) if guesses else None


def excess(limit: Limit, value: float) -> float:
    """How far a value is beyond a limit, as a factor."""
    if limit.at_most:
        return value / limit.bound if limit.bound > 0 else 1 + value - limit.bound
    return limit.bound / value if value > 0 else float("inf")


def _beyond(limit: Limit, value: float | None) -> bool:
    if value is None:
        return False
    return value > limit.bound if limit.at_most else value < limit.bound


def _told(limit: Limit, figure: Figure, verdict: Verdict) -> Judged:
    worst = figure.high if limit.at_most else figure.low
    # Of what was ruled out unseen, the least that it is beyond is all that is known.
    at = figure.low if worst is None else worst
    beyond = excess(limit, at)
    return Judged(
        limit=limit.name,
        bound=limit.bound,
        at_most=limit.at_most,
        verdict=verdict,
        low=figure.low,
        high=figure.high,
        source=figure.source,
        excess=beyond if beyond != float("inf") else None,
    )

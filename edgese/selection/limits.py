"""One limit held against what is known of one candidate, while it is being found out; pure.

A gate judges what was measured. Here figures that the budget does not accept count too, but on one
side alone: a prediction can show a limit out of reach, and never met.
"""

from collections.abc import Sequence
from math import inf, isfinite

from edgese.budgets.judging import TRUST, verdict_of
from edgese.records.budget import Limit, Observation, Verdict
from edgese.records.selection import LimitStanding


def held(limit: Limit, known: Sequence[Observation]) -> LimitStanding:
    """Whether a candidate meets a limit at the pessimistic end, or misses it even at the other."""
    told = _of(limit, known)
    accepted = [one for one in told if one.source in limit.sources][:1]
    for one in accepted or told:
        if verdict_of(limit, one.low, one.high) == "misses":
            return _standing(limit, one, "misses")
    if not accepted:
        return LimitStanding(limit=limit, verdict="unclear")
    first = accepted[0]
    return _standing(limit, first, verdict_of(limit, first.low, first.high))


def guessed(limit: Limit, known: Sequence[Observation]) -> float | None:
    """How far the best guess is beyond a limit, see `excess`; None where there is none."""
    guesses = [one for one in _of(limit, known) if one.source != "bounded"]
    return excess(limit, guesses[0].value) if guesses else None


def excess(limit: Limit, value: float) -> float:
    """How far a value is beyond a limit, as a factor; 1 or less keeps to it."""
    if limit.at_most:
        return value / limit.bound if limit.bound > 0 else 1 + value - limit.bound
    return limit.bound / value if value > 0 else inf


def in_words(limit: Limit) -> str:
    """A limit as people read it, in the unit of its quantity."""
    side = "at most" if limit.at_most else "at least"
    target = f" ({limit.target})" if limit.target else ""
    return f"{limit.quantity} {side} {limit.bound:g}{target}"


def _of(limit: Limit, known: Sequence[Observation]) -> list[Observation]:
    """What is known of the limit's quantity, the most trustworthy first."""
    told = [one for one in known if one.quantity == limit.quantity]
    return sorted(told, key=lambda one: TRUST.index(one.source))


def _standing(limit: Limit, one: Observation, verdict: Verdict) -> LimitStanding:
    worst = one.high if limit.at_most else one.low
    # Of what was ruled out unseen, the least that it is beyond is all that is known.
    beyond = excess(limit, one.low if worst is None else worst)
    return LimitStanding(
        limit=limit,
        verdict=verdict,
        low=one.low,
        high=one.high,
        source=one.source,
        excess=beyond if isfinite(beyond) else None,
    )

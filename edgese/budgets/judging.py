"""Holds limits against what is known; pure.

A verdict has three values. "meets": even the pessimistic end of the interval keeps to the limit.
"misses": even the optimistic end does not. Everything else is "unclear", and never a pass.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

from edgese.budgets.evidence import Evidence, Exact, Unknown
from edgese.records.base import Interval
from edgese.records.budget import Judged, Limit, ObservationSource, Verdict

# Of a wrong verdict anywhere among cells that are judged together, at most.
ERROR_RATE: Final = 0.05

TRUST: Final[tuple[ObservationSource, ...]] = (
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


class Cell(NamedTuple):
    """One limit and what is known for it.

    Attributes:
        evidence: None where nothing that the budget accepts is known; ``reason`` says what is
            missing then, and how to get it.
        source: of the evidence.
        reason: what the evidence rests on.
        next_step: the command that would settle the verdict, were it unclear.
    """

    limit: Limit
    evidence: Evidence | None
    source: str = ""
    reason: str = ""
    next_step: str = ""


def verdict_of(limit: Limit, low: float | None, high: float | None) -> Verdict:
    """What an interval says of a limit; a bound that is just reached is kept to.

    Args:
        low, high: None has no end on that side.
    """
    best, worst = (low, high) if limit.at_most else (high, low)
    if best is not None and _beyond(limit, best):
        return "misses"
    return "meets" if worst is not None and not _beyond(limit, worst) else "unclear"


def judged_together(cells: Sequence[Cell], error_rate: float = ERROR_RATE) -> tuple[Judged, ...]:
    """Cells judged so that all verdicts together are wrong in at most ``error_rate`` of all cases.

    A cell's p-value is that of its bound, two-sided. Going from the smallest, Holm's step for m
    cells allows error_rate / m, then / (m - 1) and so on; the first that is above it and all after
    it are unclear. The side that a figure lies on decides between meets and misses. Figures that
    are exact cannot be wrong, and what has no known spread is always unclear: neither takes a share
    of it. The order of cells does not matter, nor how they depend on each other.

    Source: Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of
    Statistics 6 (1979); Shaffer, Annals of Statistics 8 (1980), for the directions.
    """
    p_values = [
        None if cell.evidence is None else cell.evidence.p_value(cell.limit.bound) for cell in cells
    ]
    ranked = sorted(p for p in p_values if p is not None)
    levels: dict[float, float] = {}
    failed_at: float | None = None
    for rank, p in enumerate(ranked):
        level = error_rate / (len(ranked) - rank)
        if failed_at is None and p > level:
            failed_at = level
        # Of equal p-values the first step, the strictest, is that of all.
        levels.setdefault(p, failed_at if failed_at is not None else level)
    return tuple(
        _at(cell, error_rate if p is None else levels[p])
        for cell, p in zip(cells, p_values, strict=True)
    )


def accepts(limit: Limit) -> str:
    """What the budget accepts for a limit, as a clause."""
    return f"and the budget accepts {' or '.join(limit.sources)}"


def _at(cell: Cell, level: float) -> Judged:
    if cell.evidence is None:
        return _unclear(cell)
    limit, evidence = cell.limit, cell.evidence
    interval = evidence.interval(1 - level)
    # Rounding must not put an interval's end beside the p-value's answer.
    p = evidence.p_value(limit.bound)
    if p is not None and p > level:
        verdict: Verdict = "unclear"
    elif p is not None:
        verdict = verdict_of(limit, evidence.value, evidence.value)
    elif interval is None:
        verdict = "unclear"
    else:
        verdict = verdict_of(limit, interval.low, interval.high)
    return Judged(
        limit=limit.name,
        quantity=limit.quantity,
        bound=limit.bound,
        at_most=limit.at_most,
        verdict=verdict,
        value=evidence.value,
        interval=None if isinstance(evidence, Exact) else interval,
        source=cell.source,
        p_value=p,
        smallest_seen=evidence.smallest_seen(limit.bound, 1 - level),
        reason=_why(cell, verdict, interval, level),
        next_step=cell.next_step if verdict == "unclear" else "",
    )


def _why(cell: Cell, verdict: Verdict, interval: Interval | None, level: float) -> str:
    """Return what decided, before what the figure rests on."""
    if isinstance(cell.evidence, Unknown) or verdict == "meets":
        return cell.reason
    if interval is None:
        told = (
            f"What is known of errors is of too few groups for {100 * (1 - level):.4g} % "
            "confidence, which all limits together need"
        )
    elif verdict == "unclear":
        told = "The limit lies in the interval"
    else:
        told = f"It is {'above' if cell.limit.at_most else 'below'} the limit"
    return f"{told}: {cell.reason}"


def _unclear(cell: Cell) -> Judged:
    limit = cell.limit
    return Judged(
        limit=limit.name,
        quantity=limit.quantity,
        bound=limit.bound,
        at_most=limit.at_most,
        verdict="unclear",
        reason=cell.reason,
        next_step=cell.next_step,
    )


def _beyond(limit: Limit, value: float) -> bool:
    return value > limit.bound if limit.at_most else value < limit.bound

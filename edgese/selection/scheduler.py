"""What is worth finding out next, given what is known; pure.

A candidate is spared where it misses a limit, or where even what it can still turn out to be is not
better than a candidate of which everything is known. Of the others, the one that is likely to win
comes first: where it does, all that are less accurate need not be looked at. A look of a second
tells most that are too slow, with a wide interval; only what it does not rule out is measured in
full.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from edgese.records.selection import Candidate
from edgese.selection.deciding import (
    ACCURACIES,
    ACCURACY,
    LATENCY,
    Aim,
    Known,
    figure,
    hope,
    judge,
    key,
    limits_of,
    merit,
)
from edgese.selection.expectation import Anchor, expected
from edgese.selection.limits import guessed

if TYPE_CHECKING:
    from edgese.records.budget import Observation

Work = Literal["look", "artifact", "sustained", "accuracy"]
# In the order of what they cost.
WORKS: Final[tuple[Work, ...]] = ("look", "artifact", "sustained", "accuracy")

# Two candidates are measured as they come; a third can be expected beside one that was.
_WORTH_AN_ANCHOR: Final = 3


class Step(NamedTuple):
    """A piece of work on a candidate."""

    candidate: Candidate
    work: Work


class Open(NamedTuple):
    """A candidate with what was done for it.

    Attributes:
        series: what its latency can be compared within: family, target and recipe.
        done: work that is behind, whatever it found.
    """

    known: Known
    series: tuple[str, ...]
    done: frozenset[Work] = frozenset()


def with_expectations(opened: Sequence[Open]) -> list[Open]:
    """Adds to candidates that were not measured what can be expected beside those that were."""
    anchors: dict[tuple[str, ...], list[Anchor]] = {}
    for one in opened:
        measured = figure(one.known, LATENCY, ("measured",))
        macs = figure(one.known, "macs")
        if measured and macs:
            anchors.setdefault(one.series, []).append(Anchor(macs.value, measured))
    return [_expecting(one, anchors) for one in opened]


def _expecting(one: Open, anchors: Mapping[tuple[str, ...], Sequence[Anchor]]) -> Open:
    told = tuple(each for each in one.known.figures if each.source != "expected")
    macs = figure(one.known, "macs")
    if macs is None or figure(one.known, LATENCY, ("measured",)):
        return one._replace(known=one.known._replace(figures=told))
    found = expected(macs.value, anchors.get(one.series, ()))
    figures: tuple[Observation, ...] = (*told, found) if found else told
    return one._replace(known=one.known._replace(figures=figures))


def steps(opened: Sequence[Open], aim: Aim, count: int = 1) -> list[Step]:
    """At most ``count`` pieces of work, each on another candidate; none where all is decided.

    Args:
        opened: as `with_expectations` gives them.
    """
    wanted = contenders(opened, aim)
    unmeasured = [one for one in wanted if not _is_measured(one, aim)]
    if unmeasured:
        first = _anchors(unmeasured, opened)
        chosen = first or sorted(unmeasured, key=lambda one: _promise(one, aim))
        return [
            Step(one.known.candidate, "artifact" if "look" in one.done else "look")
            for one in chosen[:count]
        ]
    if warm := [one for one in wanted if "sustained" not in one.done and not _meets(one, aim)]:
        warm.sort(key=lambda one: _promise(one, aim))
        return [Step(one.known.candidate, "sustained") for one in warm[:count]]
    # The dearest last, and the largest first, which is the likeliest to be the most accurate.
    wanted.sort(key=lambda one: (-_macs(one), one.known.candidate))
    return [Step(one.known.candidate, "accuracy") for one in wanted[:count]]


def contenders(opened: Sequence[Open], aim: Aim) -> list[Open]:
    """Candidates that something can still be found out of, and that can still win by it."""
    settled = [key(one.known, aim) for one in opened if _is_settled(one, aim) and _meets(one, aim)]
    best = max(settled, default=None)
    return [
        one
        for one in opened
        if not one.known.failed
        and not _is_finished(one, aim)
        and all(each.verdict != "misses" for each in judge(one.known, aim))
        and (best is None or hope(one.known, aim) >= best)
    ]


def _is_settled(one: Open, aim: Aim) -> bool:
    return not one.known.failed and _is_finished(one, aim) and merit(one.known, aim) is not None


def _is_finished(one: Open, aim: Aim) -> bool:
    """Whether nothing more can be found out of it, or nothing more needs to be."""
    is_timed = one.done >= {"artifact", "sustained"} or _meets(one, aim)
    return _is_rated(one) and _is_measured(one, aim) and is_timed


def _is_measured(one: Open, aim: Aim) -> bool:
    """Whether it was measured in full, or need not be: nothing is delivered after a look alone."""
    return "artifact" in one.done or (_meets(one, aim) and not _is_looked_at(one))


def _is_looked_at(one: Open) -> bool:
    return figure(one.known, LATENCY, ("measured",)) is not None


def _is_rated(one: Open) -> bool:
    return figure(one.known, ACCURACY, ACCURACIES) is not None or "accuracy" in one.done


def _meets(one: Open, aim: Aim) -> bool:
    return all(each.verdict == "meets" for each in judge(one.known, aim))


def _anchors(unmeasured: Sequence[Open], opened: Sequence[Open]) -> list[Open]:
    """The cheapest of each series of which nothing was measured yet."""
    measured = {one.series for one in opened if figure(one.known, LATENCY, ("measured",))}
    series: dict[tuple[str, ...], list[Open]] = {}
    for one in unmeasured:
        series.setdefault(one.series, []).append(one)
    return [
        min(group, key=lambda one: (_macs(one), one.known.candidate))
        for name, group in sorted(series.items())
        if name not in measured
        and len(group) >= _WORTH_AN_ANCHOR
        and not any("artifact" in one.done for one in opened if one.series == name)
        and all(figure(one.known, LATENCY) is None for one in group)
    ]


def _promise(one: Open, aim: Aim) -> tuple[bool, float, float, float, Candidate]:
    """The order of the work: first what is expected to fit, and of that what is worth most."""
    guesses = [guessed(limit, one.known.figures) for limit in limits_of(one.known.candidate, aim)]
    excess = max((guess for guess in guesses if guess is not None), default=0.0)
    fits = excess <= 1
    worth = hope(one.known, aim).merit
    return (
        not fits,
        0.0 if fits else excess,
        -worth,
        -_macs(one) if figure(one.known, ACCURACY, ACCURACIES) is None else _macs(one),
        one.known.candidate,
    )


def _macs(one: Open) -> float:
    found = figure(one.known, "macs")
    return found.value if found else 0.0

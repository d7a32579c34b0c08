"""The figure of accuracy against latency: candidates, their intervals, what the budget allows."""

from collections.abc import Callable, Sequence
from math import inf
from typing import Final, NamedTuple

from edgese.budgets.judging import TRUST
from edgese.records.budget import Limit, Observation
from edgese.records.selection import SelectionResult, Standing
from edgese.report import svg
from edgese.report.markup import Markup, joined, tag
from edgese.report.scale import Scale, around
from edgese.report.tables import table

LATENCY: Final = "latency_p50_ms"
ACCURACY: Final = "accuracy"
# Intervals of what was neither measured nor evaluated here are broken lines.
_SEEN: Final = frozenset({"measured", "evaluated"})
_STATES: Final = {
    "chosen": "chosen",
    "meets": "meets",
    "misses": "misses",
    "unclear": "open",
    "cannot win": "open",
    "failed": "misses",
}
_WORDS: Final = (
    ("chosen", "chosen"),
    ("meets", "meets the budget"),
    ("open", "unclear, or cannot win"),
    ("misses", "misses the budget"),
)


Placing = Callable[[float, float], svg.Point]


class Point(NamedTuple):
    """A candidate that has a latency and an accuracy."""

    number: int
    label: str
    state: str
    latency: Observation
    accuracy: Observation


def points(standings: Sequence[Standing], *, judged: bool) -> list[Point]:
    """The candidates that can be drawn, numbered as in the table.

    Args:
        judged: False where there was no budget, so that nobody meets or misses one.
    """
    found = []
    for number, one in enumerate(standings, 1):
        latency, accuracy = best(one, LATENCY), best(one, ACCURACY)
        if latency and accuracy:
            state = _STATES[one.state] if judged else "meets"
            found.append(Point(number, one.label, state, latency, accuracy))
    return found


def best(one: Standing, quantity: str) -> Observation | None:
    """The most trustworthy figure of a quantity."""
    known = [figure for figure in one.figures if figure.quantity == quantity]
    return min(known, key=lambda figure: TRUST.index(figure.source), default=None)


def figure(drawn: Sequence[Point], limits: Sequence[Limit]) -> Markup:
    """Accuracy in percent over latency in ms, with the front of what nothing beats in both.

    Args:
        limits: of the budget; what lies within those on latency and accuracy is shaded.
    """
    bound = min(_bounds(limits, LATENCY), default=None)
    floor = max(_bounds(limits, ACCURACY), default=None)
    x = around(
        [
            *(edge for one in drawn for edge in _ends(one.latency)),
            *([bound] if bound is not None else []),
        ],
        wide=4.0,
    )
    y = around(
        [
            *(100 * edge for one in drawn for edge in _ends(one.accuracy)),
            *([100 * floor] if floor is not None else []),
        ]
    )

    def at(latency_ms: float, share: float) -> svg.Point:
        return svg.SIDE * x.place(latency_ms), svg.SIDE * (1 - y.place(100 * share))

    plot = svg.canvas(
        _budget(bound, floor, x, y),
        svg.grid_x(x),
        svg.grid_y(y, 5),
        svg.curve(_front(drawn, at), "front") if len(drawn) > 1 else "",
        *(_intervals(one, at) for one in drawn),
        *(
            svg.dot(at(one.latency.value, one.accuracy.value), one.state, _told(one))
            for one in drawn
        ),
        label=f"accuracy over latency of {len(drawn)} candidates",
    )
    marks = (
        tag(
            "span",
            str(one.number),
            class_=f"number {one.state}",
            style=f"left:{100 * x.place(one.latency.value):.2f}%;"
            f"bottom:{100 * y.place(100 * one.accuracy.value):.2f}%",
        )
        for one in drawn
    )
    framed = joined(plot, tag("div", *marks, class_="numbers", aria_hidden="true"))
    return tag(
        "div",
        svg.panel("", framed, x, y, x_unit="ms", y_unit="%", most_y=5),
        class_="wide pareto",
    )


def legend(drawn: Sequence[Point], limits: Sequence[Limit]) -> Markup:
    """What colours and shapes mean; only what is there."""
    states = {one.state for one in drawn}
    words = _WORDS if states - {"meets"} or limits else (("meets", "measured or published"),)
    guess = not {told.source for one in drawn for told in (one.latency, one.accuracy)} <= _SEEN
    return tag(
        "p",
        *(
            tag("span", tag("i", class_=f"spot {state}"), word)
            for state, word in words
            if state in states
        ),
        tag("span", tag("i", class_="key dashed"), "not measured, or not evaluated here")
        if guess
        else None,
        tag("span", tag("i", class_="spot area"), "within the budget") if limits else None,
        class_="legend",
    )


def candidates(result: SelectionResult, *, judged: bool) -> Markup:
    """Every candidate with its figures, and why it is what it is."""
    return table(
        (
            "candidate",
            *(("state",) if judged else ()),
            "accuracy",
            "p50",
            "first run",
            "memory",
            "size",
            "MACs",
        ),
        [
            (
                _name(number, one, judged=judged),
                *((one.state,) if judged else ()),
                _cell(best(one, ACCURACY), 100, "%", 2),
                _cell(best(one, LATENCY), 1, "ms", 2),
                _cell(best(one, "first_run_ms"), 1, "ms", 1),
                _cell(best(one, "memory_mb"), 1, "MiB", 0),
                _cell(best(one, "size_bytes"), 1e-6, "MB", 1),
                _cell(best(one, "macs"), 1e-6, "M", 0),
            )
            for number, one in enumerate(result.decision.standings, 1)
        ],
        words=2 if judged else 1,
    )


def _name(number: int, one: Standing, *, judged: bool) -> Markup:
    why = tag("small", one.reason) if judged and one.reason else None
    return joined(tag("b", f"{number} "), one.label, why)


def _cell(one: Observation | None, factor: float, unit: str, digits: int) -> Markup:
    """A figure, and below it the interval and where it comes from."""
    if one is None:
        return joined("")
    told = f"{one.value * factor:,.{digits}f} {unit}"
    return joined(f"> {told}" if one.source == "bounded" else told, _small(one, factor, digits))


def _small(one: Observation, factor: float, digits: int) -> Markup | None:
    told = []
    if one.high is not None and one.high > one.low:
        told.append(f"{one.low * factor:,.{digits}f} to {one.high * factor:,.{digits}f}")
    if one.source not in (*_SEEN, "read", "counted", "bounded"):
        told.append(one.source)
    return tag("small", ", ".join(told)) if told else None


def _ends(one: Observation) -> tuple[float, float]:
    return one.low, one.value if one.high is None else one.high


def _bounds(limits: Sequence[Limit], quantity: str) -> list[float]:
    """The bounds on a quantity, of all targets."""
    return [limit.bound for limit in limits if limit.quantity == quantity]


def _budget(bound: float | None, floor: float | None, x: Scale, y: Scale) -> Markup | str:
    if bound is None and floor is None:
        return ""
    right = svg.SIDE * (x.place(bound) if bound is not None else 1.0)
    bottom = svg.SIDE * (1 - (y.place(100 * floor) if floor is not None else 0.0))
    return svg.area([(0.0, 0.0), (right, 0.0)], [(0.0, bottom), (right, bottom)], "budget")


def _front(drawn: Sequence[Point], at: Placing) -> list[svg.Point]:
    """A step through the candidates that none beats in both."""
    corners: list[svg.Point] = []
    highest = -inf
    for one in sorted(drawn, key=lambda one: (one.latency.value, -one.accuracy.value)):
        if one.accuracy.value > highest:
            if corners:
                corners.append(at(one.latency.value, highest))
            highest = one.accuracy.value
            corners.append(at(one.latency.value, highest))
    return corners


def _intervals(one: Point, at: Placing) -> Markup:
    (left, right), (low, high) = _ends(one.latency), _ends(one.accuracy)
    return joined(
        svg.line(
            at(left, one.accuracy.value),
            at(right, one.accuracy.value),
            f"interval {_kind(one, one.latency)}",
        ),
        svg.line(
            at(one.latency.value, low),
            at(one.latency.value, high),
            f"interval {_kind(one, one.accuracy)}",
        ),
    )


def _kind(one: Point, told: Observation) -> str:
    return one.state if told.source in _SEEN else f"{one.state} guess"


def _told(one: Point) -> str:
    return (
        f"{one.number}: {one.label}: {one.latency.value:.2f} ms ({one.latency.source}), "
        f"{one.accuracy.value:.2%} ({one.accuracy.source})"
    )

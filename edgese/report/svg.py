"""Figures as SVG that stretches with the page, while its text is HTML and keeps its size.

Coordinates go from 0 to 1000 in both directions. Strokes and dots do not stretch: a dot is a line
of no length with a round end.
"""

from collections.abc import Iterable, Sequence
from typing import Final

from edgese.report.markup import Markup, joined, tag
from edgese.report.scale import Scale, number, ticks

SIDE: Final = 1000.0
Point = tuple[float, float]


def canvas(*content: str, label: str, class_: str = "plot") -> Markup:
    """The area of a figure; ``label`` says what it shows to those who do not see it."""
    return tag(
        "svg",
        *content,
        class_=class_,
        viewBox="0 0 1000 1000",
        preserveAspectRatio="none",
        role="img",
        aria_label=label,
    )


def line(start: Point, end: Point, class_: str, title: str = "") -> Markup:
    """A straight line, with what a pointer over it shows."""
    return _titled(f"M{_at(start)}L{_at(end)}", class_, title)


def dot(at: Point, class_: str, title: str = "") -> Markup:
    """A round dot."""
    return _titled(f"M{_at(at)}h0", f"dot {class_}", title)


def curve(points: Sequence[Point], class_: str) -> Markup:
    """A line through points."""
    return _titled("M" + "L".join(map(_at, points)), class_, "")


def area(upper: Iterable[Point], lower: Iterable[Point], class_: str) -> Markup:
    """What lies between two lines from left to right."""
    points = [*upper, *reversed(list(lower))]
    return _titled("M" + "L".join(map(_at, points)) + "Z", class_, "")


def box(left: float, right: float, class_: str, title: str = "") -> Markup:
    """A bar from ``left`` to ``right`` over the whole height."""
    return _titled(f"M{left:.1f},0H{right:.1f}V1000H{left:.1f}Z", class_, title)


def grid_x(scale: Scale) -> Markup:
    """A thin line at each tick of the horizontal axis."""
    return joined(
        *(line((x, 0.0), (x, SIDE), "grid") for x in (SIDE * scale.place(t) for t in ticks(scale)))
    )


def grid_y(scale: Scale, most: int = 4) -> Markup:
    """A thin line at each tick of the vertical axis."""
    heights = (SIDE * (1 - scale.place(t)) for t in ticks(scale, most))
    return joined(*(line((0.0, y), (SIDE, y), "grid") for y in heights))


def axis_x(scale: Scale, unit: str) -> Markup:
    """The labels below a figure."""
    marks = (
        tag("span", number(value), style=f"left:{100 * scale.place(value):.2f}%")
        for value in ticks(scale)
    )
    return tag("div", *marks, tag("b", unit), class_="axis-x")


def axis_y(scale: Scale, unit: str, most: int = 4) -> Markup:
    """The labels left of a figure."""
    marks = (
        tag("span", number(value), style=f"bottom:{100 * scale.place(value):.2f}%")
        for value in ticks(scale, most)
    )
    return tag("div", *marks, tag("b", unit), class_="axis-y")


def bar(value: float, scale: Scale, title: str) -> Markup:
    """A row's plot that is one bar from 0."""
    return canvas(
        grid_x(scale),
        box(0.0, SIDE * scale.place(value), "main-bar", title),
        label=title,
        class_="plot bar",
    )


def row(label: str, plot: str, figure: str, *, title: str = "", note: str = "") -> Markup:
    """A row of a figure: its name, its plot, its figure."""
    return tag(
        "div",
        tag("div", label, class_="name", title=title or None),
        tag("div", plot, class_="cell"),
        tag("div", figure, tag("small", note) if note else None, class_="figure"),
        class_="row",
    )


def rows(content: Iterable[str], scale: Scale, unit: str) -> Markup:
    """Rows above one common axis."""
    axis = tag(
        "div",
        tag("div", class_="name"),
        tag("div", axis_x(scale, unit), class_="cell"),
        tag("div", class_="figure"),
        class_="row axis",
    )
    return tag("div", *content, axis, class_="rows")


def panel(
    title: str, plot: str, x: Scale, y: Scale, *, x_unit: str, y_unit: str, most_y: int = 4
) -> Markup:
    """One of several small figures with axes of its own."""
    return tag(
        "div",
        tag("h4", title) if title else None,
        tag("div", axis_y(y, y_unit, most_y), plot, class_="framed"),
        axis_x(x, x_unit),
        class_="panel",
    )


def _titled(data: str, class_: str, title: str) -> Markup:
    attributes = {"d": data, "class": class_, "vector_effect": "non-scaling-stroke"}
    if not title:
        return tag("path", **attributes)
    return tag("g", tag("title", title), tag("path", **attributes))


def _at(point: Point) -> str:
    return f"{point[0]:.1f},{point[1]:.1f}"

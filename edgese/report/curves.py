"""The figures of minutes without a pause."""

from collections.abc import Sequence
from itertools import chain
from typing import Final, NamedTuple

from edgese.measure.statistics import quantile
from edgese.measure.summary import block_medians_ms
from edgese.records.measurement import SustainedCurve
from edgese.report import svg
from edgese.report.markup import Markup, joined, tag
from edgese.report.scale import Scale, around

# One figure with more lines than this cannot be read.
MOST_OVERLAID: Final = 6
# Beyond this the axis is in minutes.
_LONG_MS: Final = 180_000


class Axes(NamedTuple):
    """Common to all curves of a result, so that they can be compared.

    Attributes:
        unit: of time; ``unit_ms``: how long it is.
    """

    x: Scale
    y: Scale
    unit: str
    unit_ms: int

    def at(self, start_ms: float, latency_ms: float) -> svg.Point:
        """Where a window's latency lies."""
        return (
            svg.SIDE * self.x.place(start_ms / self.unit_ms),
            svg.SIDE * (1 - self.y.place(latency_ms)),
        )


def axes_of(curves: Sequence[SustainedCurve]) -> Axes:
    """Time from 0 to the last window, and latency from the least p10 to the most p90."""
    last_ms = max(curve.launch.blocks[-1].start_ms for curve in curves)
    unit, unit_ms = ("min", 60_000) if last_ms > _LONG_MS else ("s", 1000)
    ends = chain.from_iterable(_spread(curve) for curve in curves)
    edges = list(chain.from_iterable(ends))
    return Axes(Scale(0.0, last_ms / unit_ms or 1.0), around(edges), unit, unit_ms)


def overlaid(curves: Sequence[SustainedCurve], names: Sequence[str]) -> Markup:
    """All curves in one figure, which shows their ranks."""
    axes = axes_of(curves)
    lines = (
        svg.curve(_medians(curve, axes), f"curve c{number}") for number, curve in enumerate(curves)
    )
    legend = tag(
        "div",
        *(
            tag("span", tag("i", class_=f"key c{number}"), name)
            for number, name in enumerate(names)
        ),
        class_="legend",
    )
    plot = svg.canvas(svg.grid_y(axes.y), *lines, label="p50 of each window over time")
    return joined(legend, _panel("", plot, axes))


def single(curve: SustainedCurve, name: str, axes: Axes) -> Markup:
    """p50 and p10 to p90 of a curve's windows, with the clock and the temperature below."""
    starts = [block.start_ms for block in curve.launch.blocks]
    spread = _spread(curve)
    upper = [axes.at(start, high) for start, (_, high) in zip(starts, spread, strict=True)]
    lower = [axes.at(start, low) for start, (low, _) in zip(starts, spread, strict=True)]
    typical = axes.at(0.0, curve.first.p50_ms)[1]
    marks = [svg.line((0.0, typical), (svg.SIDE, typical), "reference", "p50 of the first minute")]
    if curve.fell_off_s is not None:
        x = axes.at(curve.fell_off_s * 1000, curve.first.p50_ms)[0]
        marks.append(svg.line((x, 0.0), (x, svg.SIDE), "event", f"{curve.fell_off_s:.0f} s"))
    plot = svg.canvas(
        svg.grid_y(axes.y),
        svg.area(upper, lower, "band"),
        *marks,
        svg.curve(_medians(curve, axes), "curve main"),
        label=f"p50 of {len(starts)} windows over time",
    )
    blocks = curve.launch.blocks
    return tag(
        "div",
        _panel(name, plot, axes),
        _sensor("MHz", starts, [block.frequency_mhz for block in blocks], axes),
        _sensor("°C", starts, [block.temperature_c for block in blocks], axes),
    )


def _panel(title: str, plot: str, axes: Axes) -> Markup:
    return svg.panel(title, plot, axes.x, axes.y, x_unit=axes.unit, y_unit="ms")


def _medians(curve: SustainedCurve, axes: Axes) -> list[svg.Point]:
    blocks = curve.launch.blocks
    times = block_medians_ms(blocks)
    return [axes.at(block.start_ms, time) for block, time in zip(blocks, times, strict=True)]


def _spread(curve: SustainedCurve) -> list[tuple[float, float]]:
    """p10 and p90 of each window in ms."""
    return [
        (quantile(block.samples_ns, 0.1) / 1e6, quantile(block.samples_ns, 0.9) / 1e6)
        for block in curve.launch.blocks
    ]


def _sensor(
    unit: str, starts: Sequence[float], told: Sequence[float | None], axes: Axes
) -> Markup | None:
    """A low figure of what a sensor told; None where it told nothing."""
    seen = [(start, value) for start, value in zip(starts, told, strict=True) if value is not None]
    if not seen:
        return None
    y = around([value for _, value in seen])
    points = [
        (svg.SIDE * axes.x.place(start / axes.unit_ms), svg.SIDE * (1 - y.place(value)))
        for start, value in seen
    ]
    plot = svg.canvas(
        svg.grid_y(y, 2), svg.curve(points, "curve sensor"), label=f"{unit} over time"
    )
    return tag("div", svg.axis_y(y, unit, 2), plot, class_="framed low")

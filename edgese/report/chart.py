"""Bars for a terminal: plain text, so that logs and pipes can show them too."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Final, NamedTuple

from edgese.report.scale import Scale, number, ticks

DEFAULT_WIDTH: Final = 100
_LEAST_PLOT: Final = 20
_EIGHTHS: Final = " ▏▎▍▌▋▊▉"


class Bar(NamedTuple):
    """A row of a chart.

    Attributes:
        value: that the bar ends at.
        low, high: of an interval or of quantiles around it; None where it has none.
        note: after the figure, as in "cannot be told apart".
    """

    label: str
    value: float
    low: float | None = None
    high: float | None = None
    note: str = ""


def bars(
    rows: Sequence[Bar],
    *,
    unit: str = "",
    digits: int = 2,
    width: int = DEFAULT_WIDTH,
    reference: float | None = None,
    ascii_only: bool = False,
) -> str:
    """Horizontal bars from 0, with whiskers from ``low`` to ``high``, and an axis below.

    ::

        efficientnet_b0.tflite   ███████████████▌────────┤     5.86 ms
        efficientnet_b0.onnx     ██████████████████████▌────┤  8.55 ms

    The part of a bar above ``low`` is drawn paler. A label that is too long keeps its end.

    Args:
        unit: after each figure.
        width: of the whole chart in characters.
        reference: a value that is marked in every row, as 1.0 is among ratios.
        ascii_only: for terminals that have no Unicode.
    """
    if not rows:
        return ""
    figures = [f"{row.value:.{digits}f}{f' {unit}' if unit else ''}" for row in rows]
    tails = [
        f"{figure:>{max(map(len, figures))}}{f'  {row.note}' if row.note else ''}"
        for figure, row in zip(figures, rows, strict=True)
    ]
    labels = _labels([row.label for row in rows], max(12, 2 * width // 5), ascii_only=ascii_only)
    space = width - max(map(len, labels)) - max(map(len, tails)) - 4
    cells = max(space, _LEAST_PLOT)
    most = max(max(row.value, row.high or 0.0, reference or 0.0) for row in rows)
    scale = Scale(0.0, most or 1.0)
    lines = [
        f"{label}  {_row(row, scale, cells, reference, ascii_only=ascii_only)}  {tail}".rstrip()
        for label, row, tail in zip(labels, rows, tails, strict=True)
    ]
    return "\n".join([*lines, f"{' ' * len(labels[0])}  {_axis(scale, cells)}".rstrip()])


def _row(row: Bar, scale: Scale, cells: int, reference: float | None, *, ascii_only: bool) -> str:
    full, pale, rule, end, mark = "#=-|:" if ascii_only else "█▓─┤┊"
    place = scale.place(row.value) * cells
    eighths = 8 * round(place) if ascii_only else round(8 * place)
    line = [full] * (eighths // 8) + [" "] * (cells - eighths // 8)
    if eighths % 8:
        line[eighths // 8] = _EIGHTHS[eighths % 8]
    stop = -(-eighths // 8)
    if row.low is not None:
        for cell in range(round(scale.place(row.low) * cells), eighths // 8):
            line[cell] = pale
    if row.high is not None:
        last = min(round(scale.place(row.high) * cells), cells - 1)
        for cell in range(stop, last):
            line[cell] = rule
        if last >= stop:
            line[last] = end
    if reference is not None:
        at = min(int(scale.place(reference) * cells), cells - 1)
        if line[at] in {" ", rule}:
            line[at] = mark
    return "".join(line)


def _axis(scale: Scale, cells: int) -> str:
    """Round values at their places, as many as do not touch."""
    line = [" "] * (cells + 8)
    free = 0
    for value in ticks(scale):
        text = number(value)
        start = min(round(scale.place(value) * cells), cells)
        if start >= free:
            line[start : start + len(text)] = text
            free = start + len(text) + 2
    return "".join(line).rstrip()


def _labels(labels: Sequence[str], most: int, *, ascii_only: bool) -> list[str]:
    """All of one length; of what is too long the end is kept, where paths differ."""
    cut = "..." if ascii_only else "…"
    kept = [x if len(x) <= most else cut + x[len(x) - most + len(cut) :] for x in shortened(labels)]
    return [f"{label:<{max(map(len, kept))}}" for label in kept]


def shortened(labels: Sequence[str]) -> list[str]:
    """Paths without their folders, or where names repeat without those that all have in common."""
    parts = [label.split("/") for label in labels]
    if len({part[-1] for part in parts}) == len(parts):
        return [part[-1] for part in parts]
    shared = 0
    while (
        parts
        and all(len(part) > shared + 1 for part in parts)
        and all(one[shared] == other[shared] for one, other in pairwise(parts))
    ):
        shared += 1
    return ["/".join(part[shared:]) for part in parts]

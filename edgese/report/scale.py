"""From values to places on an axis; pure."""

from collections.abc import Sequence
from math import ceil, floor, log10
from typing import Final, NamedTuple

_TICKS: Final = 5
# A logarithmic axis of less than this has even ticks: it would have too few of 1, 2 and 5.
_NARROW: Final = 6.0


class Scale(NamedTuple):
    """An axis from ``low`` to ``high``; a logarithmic one needs both above 0."""

    low: float
    high: float
    logarithmic: bool = False

    def place(self, value: float) -> float:
        """Where a value lies, in 0..1; what is outside is put at the end."""
        low, high, at = self.low, self.high, value
        if self.logarithmic:
            low, high, at = log10(low), log10(high), log10(max(value, self.low))
        return min(max((at - low) / (high - low), 0.0), 1.0)


def around(values: Sequence[float], *, zero: bool = False, wide: float = 10.0) -> Scale:
    """An axis that holds all values with a little space.

    Args:
        zero: it begins at 0, as bars must.
        wide: it is logarithmic where the largest value is more than this many times the smallest.
    """
    low, high = min(values), max(values)
    if zero:
        return Scale(0.0, high * 1.05 or 1.0)
    if low > 0 and high / low > wide:
        return Scale(low / 1.15, high * 1.15, logarithmic=True)
    space = (high - low) * 0.06 or abs(high) * 0.05 or 1.0
    return Scale(low - space, high + space)


def ticks(scale: Scale, most: int = _TICKS) -> list[float]:
    """Round values on the axis, about ``most`` of them."""
    if scale.logarithmic and scale.high > _NARROW * scale.low:
        decades = range(floor(log10(scale.low)), ceil(log10(scale.high)) + 1)
        every = [
            digit * 10.0**decade
            for decade in decades
            for digit in (1, 2, 5)
            if scale.low <= digit * 10.0**decade <= scale.high
        ]
        return every[:: ceil(len(every) / most)] if every else []
    step = round_step((scale.high - scale.low) / most)
    first = ceil(scale.low / step)
    return [number * step for number in range(first, floor(scale.high / step) + 1)]


def round_step(width: float) -> float:
    """The smallest of 1, 2 or 5 times a power of ten that is not below ``width``."""
    power = 10.0 ** floor(log10(width))
    return float(next(digit * power for digit in (1, 2, 5, 10) if digit * power >= width * 0.999))


def number(value: float) -> str:
    """A tick's label: no more digits than it needs."""
    if value == 0:
        return "0"
    text = f"{value:.10f}".rstrip("0").rstrip(".") if abs(value) < 1000 else f"{value:,.0f}"
    return text if len(text) <= 8 else f"{value:.3g}"

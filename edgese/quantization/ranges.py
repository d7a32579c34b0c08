"""From what a tensor's values are to the range that its 256 codes cover. Pure.

A narrow range has fine steps and clips what lies outside; a wide one clips nothing and rounds
coarsely. Each method here weighs the two differently.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from edgese.records.quantization import RangeMethod

if TYPE_CHECKING:
    from numpy.typing import NDArray

BINS: Final = 2048
STEPS: Final = 255
# Candidates for each end of a range: none below a hundredth of what occurs is ever best.
_CANDIDATES: Final = 160
_NARROWEST: Final = 0.01


@dataclass(frozen=True)
class Histogram:
    """How often a tensor's values occur, in bins of equal width from ``low`` to ``high``.

    Attributes:
        low, high: the smallest and the largest value that occurred.
        weights: (bins,): how many values, or what their errors cost together.
    """

    low: float
    high: float
    weights: "NDArray[np.float64]"


def chosen_range(
    histogram: Histogram, method: RangeMethod, *, percentile: float = 99.99
) -> tuple[float, float]:
    """The range that the grid of a tensor covers, 0 always within it.

    Args:
        histogram: of counts; for "fisher" of squared gradients, as `calibration` has them.
        method: "min_max": all that occurred. "percentile": this share of the values, as many left
            out at either end. "mse" and "fisher": the least expected squared error, which for
            "fisher" is weighted by what an error there costs at the network's output.
        percentile: for "percentile", in percent.

    Returns:
        Lowest and highest value.
    """
    low, high = min(histogram.low, 0.0), max(histogram.high, 0.0)
    if histogram.high <= histogram.low or method == "min_max" or not histogram.weights.any():
        return low, high
    if method == "percentile":
        return _percentile(histogram, percentile)
    return _least_error(histogram)


def _percentile(histogram: Histogram, percentile: float) -> tuple[float, float]:
    edges = np.linspace(histogram.low, histogram.high, len(histogram.weights) + 1)
    share = np.concatenate([[0.0], np.cumsum(histogram.weights)]) / histogram.weights.sum()
    outside = (1 - percentile / 100) / 2
    low, high = np.interp((outside, 1 - outside), share, edges)
    return min(float(low), 0.0), max(float(high), 0.0)


def _least_error(histogram: Histogram) -> tuple[float, float]:
    """The range whose rounding and clipping cost least.

    Rounding costs step^2 / 12 for each value inside, clipping the squared distance to the end for
    each outside; with sums of w, w x and w x^2 over the bins, every pair of ends is tried at once.
    """
    width = (histogram.high - histogram.low) / len(histogram.weights)
    centres = histogram.low + width * (np.arange(len(histogram.weights)) + 0.5)
    sums = [
        np.concatenate([[0.0], np.cumsum(histogram.weights * centres**power)]) for power in range(3)
    ]
    edges = np.linspace(histogram.low, histogram.high, len(histogram.weights) + 1)

    def before(value: "NDArray[np.float64]") -> "list[NDArray[np.float64]]":
        return [np.interp(value, edges, total) for total in sums]

    lows, highs = _ends(min(histogram.low, 0.0)), _ends(max(histogram.high, 0.0))
    below = before(lows)
    above = [total[-1] - part for total, part in zip(sums, before(highs), strict=True)]
    clipped_low = below[2] - 2 * lows * below[1] + lows**2 * below[0]
    clipped_high = above[2] - 2 * highs * above[1] + highs**2 * above[0]
    step = (highs[None, :] - lows[:, None]) / STEPS
    inside = sums[0][-1] - below[0][:, None] - above[0][None, :]
    cost = clipped_low[:, None] + clipped_high[None, :] + inside * step**2 / 12
    cost[step <= 0] = np.inf
    i, j = np.unravel_index(np.argmin(cost), cost.shape)
    return float(lows[i]), float(highs[j])


def _ends(furthest: float) -> "NDArray[np.float64]":
    """What an end of a range may be: from almost nothing to all that occurred."""
    if furthest == 0:
        return np.zeros(1)
    return furthest * np.geomspace(_NARROWEST, 1.0, _CANDIDATES)

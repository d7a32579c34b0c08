"""From ranges to scales and zero points. Pure."""

from typing import TYPE_CHECKING, Final

import numpy as np

from edgese.records.artifact import Grid

if TYPE_CHECKING:
    from numpy.typing import NDArray

LOW: Final = -128
HIGH: Final = 127
WEIGHT_HIGH: Final = 127
# TFLite's specification fixes it (https://ai.google.dev/edge/litert/models/quantization_spec).
SIGMOID: Final = Grid(scale=1 / 256, zero_point=LOW)
# A finer step than this tells of a tensor that is always 0, and overflows the integer kernels'
# ratios of scales.
FINEST: Final = 2.0**-12


def grid_of(low: float, high: float) -> Grid:
    """The int8 grid that covers a range, with a code for 0.

    The scale is one that a 32-bit float holds, since every runtime stores it as such: all then
    compute with the same number.

    Args:
        low: at most 0.
        high: at least 0.
    """
    scale = float(np.float32(max((high - low) / (HIGH - LOW), FINEST)))
    zero_point = round(LOW - low / scale)
    return Grid(scale=scale, zero_point=min(max(zero_point, LOW), HIGH))


def constant_grid(value: float) -> Grid:
    """A grid on which one number is exact: its code is 127 or -127."""
    return Grid(scale=float(np.float32(max(abs(value) / HIGH, FINEST))), zero_point=0)


def weight_scales(weight: "NDArray[np.float32]") -> "NDArray[np.float32]":
    """The scale of each output channel: its largest weight becomes 127.

    Args:
        weight: (out, ...).

    Returns:
        (out,).
    """
    largest = np.abs(weight.reshape(len(weight), -1)).max(axis=1)
    # A channel whose weights are all 0 has any scale; one that keeps the bias representable.
    return np.where(largest > 0, largest / WEIGHT_HIGH, 1.0).astype(np.float32)

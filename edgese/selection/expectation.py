"""The latency that candidates can be expected to have beside others of their family; pure.

Within a family, target and recipe, latency grows with multiply-adds: more slowly where fixed costs
weigh, and a little faster where caches overflow. How often measured networks lay in these intervals
is told in docs/measurements.md.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

from edgese.records.budget import Observation

# Latency grows at least and at most with these powers of the multiply-adds, and what is not in
# their number moves it by at most this factor.
LEAST_POWER: Final = 0.6
MOST_POWER: Final = 1.15
FACTOR: Final = 1.3
_MIDDLE_POWER: Final = 0.95


class Anchor(NamedTuple):
    """A candidate that was measured."""

    macs: float
    latency: Observation


def expected(macs: float, anchors: Sequence[Anchor]) -> Observation | None:
    """What a candidate of as many multiply-adds takes; None without an anchor.

    Args:
        anchors: of the same family, target and recipe, on the same device.
    """
    if not anchors:
        return None
    ranges = [_range(macs, anchor) for anchor in anchors]
    low, high = max(low for low, _ in ranges), min(high for _, high in ranges)
    if low > high:
        # Two anchors contradict each other; each may be the odd one.
        low, high = min(low for low, _ in ranges), max(high for _, high in ranges)
    nearest = min(anchors, key=lambda one: (max(macs / one.macs, one.macs / macs), one.macs))
    value = nearest.latency.value * (macs / nearest.macs) ** _MIDDLE_POWER
    return Observation(
        quantity=nearest.latency.quantity,
        value=min(max(value, low), high),
        low=low,
        high=high,
        source="expected",
        told=f"beside {len(anchors)} measured of its family",
    )


def _range(macs: float, anchor: Anchor) -> tuple[float, float]:
    times = macs / anchor.macs
    powers = times**LEAST_POWER, times**MOST_POWER
    low, high = anchor.latency.low, anchor.latency.high or anchor.latency.value
    return low * min(powers) / FACTOR, high * max(powers) * FACTOR

"""Which cores a job is kept on, so that it is not measured on a slow one by chance; pure.

Needs nothing but Python: bundles carry this file to where they are measured.
"""

from collections.abc import Iterable, Sequence
from typing import Protocol


class Core(Protocol):
    """What must be known of a core, as in `edgese.records.device.CoreState`."""

    @property
    def number(self) -> int:
        """The kernel's."""

    @property
    def maximum_mhz(self) -> float | None:
        """That it can be clocked with; None where the kernel does not tell."""

    @property
    def online(self) -> bool:
        """False for a core that is switched off."""


def fast_cores(cores: Sequence[Core], at_least: int) -> tuple[int, ...]:
    """The cores of the fastest clusters that together are at least so many.

    A cluster is the cores of one maximum clock. The slowest of several is only taken where the
    others are too few.

    Args:
        at_least: as many as there will be threads.

    Returns:
        Their numbers; none where the kernel does not tell any clock, and all where all are alike.
    """
    clocks: dict[float, list[int]] = {}
    for core in cores:
        if core.online and core.maximum_mhz is not None:
            clocks.setdefault(core.maximum_mhz, []).append(core.number)
    taken: list[int] = []
    for clock in sorted(clocks, reverse=True):
        if len(taken) >= at_least:
            break
        taken += clocks[clock]
    return tuple(sorted(taken))


def big_cores(cores: Sequence[Core]) -> int:
    """How many cores are not of the slowest cluster; all where there is but one."""
    clocks = [core.maximum_mhz for core in cores if core.maximum_mhz is not None]
    if len(set(clocks)) < 2:
        return len(cores)
    return sum(clock > min(clocks) for clock in clocks)


def mask(cores: Iterable[int]) -> str:
    """The hexadecimal mask of cores as `taskset` takes it: cores 4 to 7 are "f0"."""
    return f"{sum(1 << number for number in cores):x}"

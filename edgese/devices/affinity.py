"""Which cores a job is kept on, so that it is not measured on a slow one by chance; pure."""

from collections.abc import Iterable, Sequence

from edgese.records.phone import CoreState


def fast_cores(cores: Sequence[CoreState], at_least: int) -> tuple[int, ...]:
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


def big_cores(cores: Sequence[CoreState]) -> int:
    """How many cores are not of the slowest cluster; all where there is but one."""
    clocks = [core.maximum_mhz for core in cores if core.maximum_mhz is not None]
    if len(set(clocks)) < 2:
        return len(cores)
    return sum(clock > min(clocks) for clock in clocks)


def mask(cores: Iterable[int]) -> str:
    """The hexadecimal mask of cores as `taskset` takes it: cores 4 to 7 are "f0"."""
    return f"{sum(1 << number for number in cores):x}"

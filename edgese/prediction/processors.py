"""Which cores execute, and the facts of them that a fit sees."""

import math
from collections.abc import Sequence
from typing import Final, Protocol

from edgese.errors import MeasurementError
from edgese.prediction.tables import core_kinds

# What the vector of `facts` holds, in order.
FACTS: Final = (
    "log flops a cycle",
    "out of order",
    "fp16 arithmetic",
    "log GHz",
    "log threads",
    "log speed of all cores over equal ones",
    "more threads than cores",
    "log threads, out of order",
    "log threads, fp16",
    "log threads squared",
)


class Cluster(Protocol):
    """Equal cores; a catalogued device's, or a measured one's."""

    @property
    def kind(self) -> str:
        """As in "cortex-a76"."""

    @property
    def count(self) -> int:
        """How many."""

    @property
    def ghz(self) -> float | None:
        """Their highest clock."""


def executing(clusters: Sequence[Cluster], powersave: int) -> tuple[Cluster, ...]:
    """The clusters that ncnn's ``powersave`` leaves: 0 all, 1 the little ones, 2 the big ones.

    Little is the kind of the last cluster; where all are of one kind, the last cluster itself.
    """
    if powersave == 0 or len(clusters) == 1:
        return tuple(clusters)
    last = clusters[-1]
    mixed = last.kind != clusters[0].kind
    little = tuple(each for each in clusters if (each.kind == last.kind if mixed else each is last))
    if powersave == 1:
        return little
    return tuple(each for each in clusters if each not in little)


def facts(clusters: Sequence[Cluster], threads: int) -> tuple[str, tuple[float, ...]]:
    """Kind of the fastest core, and the facts (see `FACTS`) of ``threads`` on these clusters.

    Threads run on the fastest cores first.

    Raises:
        MeasurementError: a core of whose kind or clock nothing is known.
    """
    flat = [(each.kind, each.ghz) for each in clusters for _ in range(each.count)][:threads]
    kinds = core_kinds()
    speeds = []
    for kind, ghz in flat:
        if kind not in kinds:
            raise MeasurementError(
                f"Nothing is published of how fast a {kind} core computes, so that no measured "
                "device says anything of it.",
                hint=f"Measure it. Known kinds: {', '.join(kinds)}.",
            )
        if ghz is None:
            raise MeasurementError(
                f"The clock of the {kind} cores is not known, and latency follows the clock.",
                hint="Fewer --threads may leave these cores out; or measure.",
            )
        speeds.append(kinds[kind].flops * ghz)
    if not flat:
        raise MeasurementError(
            "The device's cores are not known.", hint="Nothing can be predicted; measure it."
        )
    first = kinds[flat[0][0]]
    ghz = flat[0][1] or 1.0
    running = math.log(len(flat))
    ordered, halves = float(first.out_of_order), float(first.fp16)
    return first.kind, (
        math.log(first.flops / 2),
        ordered,
        halves,
        math.log(ghz),
        running,
        math.log(sum(speeds) / (speeds[0] * len(flat))),
        float(threads > sum(each.count for each in clusters)),
        running * ordered,
        running * halves,
        running**2 / 2,
    )

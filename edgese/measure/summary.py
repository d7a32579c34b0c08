"""From samples to the figures that people read; pure."""

from collections.abc import Callable, Sequence
from itertools import chain
from statistics import fmean, median
from typing import Final

from edgese.measure.statistics import paired_ratio, quantile
from edgese.records.measurement import Block, LatencySummary, Launch, Profile, Ratio


def samples_ms(blocks: Sequence[Block]) -> list[float]:
    """All samples, in order."""
    return [ns / 1e6 for ns in chain.from_iterable(block.samples_ns for block in blocks)]


def summary(blocks: Sequence[Block]) -> LatencySummary:
    """The figures over all samples of all blocks."""
    samples = samples_ms(blocks)
    return LatencySummary(
        count=len(samples),
        mean_ms=fmean(samples),
        min_ms=min(samples),
        p50_ms=quantile(samples, 0.5),
        p90_ms=quantile(samples, 0.9),
        p99_ms=quantile(samples, 0.99),
        max_ms=max(samples),
    )


def block_medians_ms(blocks: Sequence[Block]) -> list[float]:
    """The median of each block, in order."""
    return [median(block.samples_ns) / 1e6 for block in blocks]


def ratio(artifact: Profile, baseline: Profile) -> Ratio:
    """How much longer an artifact takes than another one of the same job."""
    times, base = (
        [block_medians_ms(launch.blocks) for launch in profile.launches]
        for profile in (artifact, baseline)
    )
    value, interval = paired_ratio(times, base)
    return Ratio(
        artifact=artifact.label,
        baseline=baseline.label,
        ratio=value,
        interval=interval,
        launches=len(base),
        rounds=sum(map(len, base)),
    )


def p50_ms(launch: Launch) -> float:
    """The median of a launch's inferences."""
    return quantile(samples_ms(launch.blocks), 0.5)


# What a budget can limit and each launch tells once, by its name there.
OF_LAUNCH: Final[dict[str, Callable[[Launch], float]]] = {
    "latency_p50_ms": p50_ms,
    "latency_p90_ms": lambda launch: quantile(samples_ms(launch.blocks), 0.9),
    "load_ms": lambda launch: launch.load_ms,
    "first_run_ms": lambda launch: launch.first_run_ms,
    "memory_mb": lambda launch: launch.peak_memory_mb,
}

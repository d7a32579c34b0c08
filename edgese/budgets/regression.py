"""How much slower an artifact is than its baseline, and how sure that is; pure.

Measured beside each other, both suffered the same machine, and the error is that of launches. From
two files, the machine itself was another one at another time: how far it is off from itself is
what `edgese profile --calibrate-noise` measures, and nothing in the two files can tell it.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import chain
from math import exp, fsum, log, sqrt
from statistics import fmean, median

from edgese.budgets.evidence import (
    Times,
    Unknown,
    as_uncertain_as,
    joined,
    over_launches,
    times_of,
)
from edgese.measure.statistics import effect_of, paired_logarithms
from edgese.measure.summary import OF_LAUNCH, block_medians_ms
from edgese.records.budget import Noise, NoiseFile
from edgese.records.measurement import DeviceInfo, Launch, MeasurePlan, Profile

# With fewer runs Student's factor is above 2.5, and a spread of three is hardly one.
FEWEST_RUNS = 6
LONG_ENOUGH = timedelta(days=7)


def level(launches: Sequence[Launch]) -> float:
    """The latency of a run in ms: the median over its launches of their blocks' medians' median.

    A launch that a busy machine disturbed does not move it.
    """
    return median(median(block_medians_ms(launch.blocks)) for launch in launches)


def beside(candidate: Profile, baseline: Profile) -> Times:
    """The slowdown of two profiles of one interleaved job, as a share: 0.1 is 10 % slower."""
    times, base = (
        [block_medians_ms(launch.blocks) for launch in profile.launches]
        for profile in (candidate, baseline)
    )
    ratios = paired_logarithms(times, base)
    return times_of(effect_of(ratios), len(ratios), offset=-1.0)


def from_files(candidates: Sequence[Profile], baseline: Profile, noise: Noise) -> Times:
    """The slowdown of profiles of different runs, as a share.

    The error of each side is what runs of one artifact differ by; more, where its own launches do.

    Args:
        candidates: runs of one artifact, whose mean counts. Runs that follow each other share the
            machine's state, so they are together no surer than one of them.
    """
    runs, freedom = spread(noise)
    sides = [_side(profile, runs, freedom) for profile in candidates]
    widest = max(sides, key=lambda one: one.error)
    middle = fmean(one.middle for one in sides)
    return _growth(replace(widest, middle=middle), _side(baseline, runs, freedom))


def _side(profile: Profile, runs: float, freedom: int) -> Times:
    own = over_launches([median(block_medians_ms(one.blocks)) for one in profile.launches])
    # The level forgets a disturbed launch altogether.
    return replace(as_uncertain_as(own, runs, freedom), middle=log(level(profile.launches)))


def memory_growth(
    candidate: Sequence[Launch], baseline: Sequence[Launch], noise: Noise | None
) -> Times | None:
    """How much more memory a process takes, as a share, by the processes of both.

    Args:
        noise: where it is known how runs differ, the two are no surer than that.

    Returns:
        None where one of the two has a single process.
    """
    sides = [figure_of("memory_mb", launches) for launches in (candidate, baseline)]
    if noise is not None:
        sides = [as_uncertain_as(side, *spread(noise, "memory_mb")) for side in sides]
    times = [side for side in sides if isinstance(side, Times)]
    return _growth(*times) if len(times) == 2 else None


def figure_of(quantity: str, launches: Sequence[Launch]) -> Times | Unknown:
    """The figure of one run, over its processes, see `edgese.measure.summary.OF_LAUNCH`."""
    return over_launches([OF_LAUNCH[quantity](launch) for launch in launches])


def spread(noise: Noise, quantity: str = "") -> tuple[float, int]:
    """The standard deviation of a run's logarithm, and its degrees of freedom.

    Args:
        quantity: of which figure of the runs; "" is their `level`.
    """
    logs = sorted(map(log, noise.figures[quantity] if quantity else noise.levels_ms))
    middle = fmean(logs)
    freedom = len(logs) - 1
    return sqrt(fsum(sorted((x - middle) ** 2 for x in logs)) / freedom), freedom


def reaches(noise: Noise, one: str, other: str) -> bool:
    """Whether the runs of a noise say how far two times of measuring may be apart.

    A machine that others share changes more within hours than within a minute; runs of one minute
    know nothing of that. Where they span `LONG_ENOUGH`, days and weekends are among them.

    Args:
        one, other: UTC, ISO 8601; "" is a time that nobody wrote down, which is too far.
    """
    if not one or not other or not all(noise.created):
        return False
    return _spans(noise, abs(datetime.fromisoformat(one) - datetime.fromisoformat(other)))


def reaches_run(noise: Noise, measured: str) -> bool:
    """Whether the runs of a noise are of a time like that of another run.

    Its distance from the nearest of them is no longer than what they span; see `reaches`.
    """
    if not measured or not all(noise.created):
        return False
    then = datetime.fromisoformat(measured)
    return _spans(noise, min(abs(datetime.fromisoformat(run) - then) for run in noise.created))


def _spans(noise: Noise, apart: timedelta) -> bool:
    runs = [*map(datetime.fromisoformat, noise.created)]
    return min(apart, LONG_ENOUGH) <= max(runs) - min(runs)


def slowdown_seen(noise: Noise, bound: float, confidence: float = 0.95) -> float:
    """The least slowdown beyond ``bound`` that two files show in 95 of 100 cases."""
    runs, freedom = spread(noise)
    return joined(0.0, [runs, runs], freedom, offset=-1.0).smallest_seen(bound, confidence)


def same_machine(one: DeviceInfo, other: DeviceInfo) -> bool:
    """Whether two descriptions are of the same kind of machine.

    A kernel or a governor may change, and the measuring shows what follows from it; another
    processor is another device.
    """
    return _identity(one) == _identity(other)


def noise_for(
    noises: NoiseFile | None, profile: Profile, plan: MeasurePlan, quantity: str = ""
) -> Noise | None:
    """The noise of the device, runtime and thread count of a profile, for runs like its own.

    Of several artifacts that of the very same one counts, else that which spreads most.

    Args:
        quantity: as in `spread`.
    """
    fitting = [
        noise
        for noise in (noises.noises if noises else ())
        if same_machine(noise.device, profile.device)
        and (noise.target, noise.delegate, noise.threads)
        == (profile.target, profile.delegate, profile.threads)
        and like(noise.plan, plan)
        and len(noise.levels_ms) >= FEWEST_RUNS
        and (not quantity or quantity in noise.figures)
    ]
    own = [noise for noise in fitting if noise.sha256 == profile.sha256]
    return max(own or fitting, key=lambda noise: spread(noise, quantity)[0], default=None)


def like(one: MeasurePlan, other: MeasurePlan) -> bool:
    """Whether two plans give runs that spread alike."""
    keys = ("threads", "launches", "blocks", "min_runs", "min_time_s")
    return all(getattr(one, key) == getattr(other, key) for key in keys)


def describe(noise: Noise, quantity: str = "") -> str:
    """How far runs of one artifact differ, in words; ``quantity`` as in `spread`."""
    runs, _ = spread(noise, quantity)
    return f"runs of one artifact differ by {100 * (exp(runs) - 1):.1f} % on this device"


def inferences(profile: Profile) -> int:
    """Counted inferences of a profile."""
    return sum(
        len(block.samples_ns)
        for block in chain.from_iterable(one.blocks for one in profile.launches)
    )


def _growth(now: Times, then: Times) -> Times:
    return joined(
        now.middle - then.middle,
        [now.error, then.error],
        min(now.freedom, then.freedom),
        offset=-1.0,
    )


def _identity(info: DeviceInfo) -> tuple[object, ...]:
    return (info.name, info.cpu, info.architecture, info.cores)

"""What a reader of latency figures should know about them; pure."""

from collections.abc import Iterator, Sequence
from statistics import fmean, median
from typing import Final

from edgese.devices.android import throttling
from edgese.measure.statistics import OUTLIER_SCORE, outliers, quantile, trend, two_modes
from edgese.measure.summary import block_medians_ms
from edgese.records.device import PhoneState
from edgese.records.measurement import Block, Caution

# An application that starts and classifies one picture pays for the first run.
SLOW_FIRST_RUN: Final = 2.0
# Beyond this share it is no longer a rare event; a normal distribution has 0.05 %.
OUTLIER_SHARE: Final = 0.05
DRIFT_CHANGE: Final = 0.05
DRIFT_P_VALUE: Final = 0.01
# A smaller test has no power, and its p-value is a poor approximation.
DRIFT_BLOCKS: Final = 8
# Cutting a normal distribution in two gives 2.6, a uniform one 3.5, an exponential one 2.6.
MODES_SEPARATION: Final = 4.0
MODES_DISTANCE: Final = 0.05
MODES_SHARE: Final = 0.1
MODES_SAMPLES: Final = 40
THROTTLED_FREQUENCY: Final = 0.9


def cautions(
    blocks: Sequence[Block], first_run_ms: float, throttle_events: int | None
) -> tuple[Caution, ...]:
    """Everything that is to be said about one artifact's samples, the gravest first."""
    samples = [sample / 1e6 for block in blocks for sample in block.samples_ns]
    modes = tuple(_bimodal(samples))
    return (
        *throttled(blocks, throttle_events),
        *drift(blocks),
        *modes,
        # A second mode looks like outliers of the first, and needs other advice.
        *(() if modes else _outliers(samples)),
        *_first_run_slow(first_run_ms, median(samples)),
    )


def phone_cautions(before: PhoneState | None, after: PhoneState | None) -> tuple[Caution, ...]:
    """What a phone's own heat management says of a measurement."""
    if before is None or after is None or not (said := throttling(before, after)):
        return ()
    return (
        Caution(
            code="THROTTLED",
            numbers={"before": before.thermal_status or 0, "after": after.thermal_status or 0},
            message=f"The phone slowed itself down meanwhile: {said}.",
            advice="Let it cool down, out of its case and off the charger, and measure again.",
        ),
    )


def _first_run_slow(first_run_ms: float, typical_ms: float) -> Iterator[Caution]:
    times = first_run_ms / typical_ms
    if times > SLOW_FIRST_RUN:
        yield Caution(
            code="FIRST_RUN_SLOW",
            numbers={"first_run_ms": first_run_ms, "median_ms": typical_ms},
            message=f"The first run took {first_run_ms:.1f} ms, {times:.1f} times the median.",
            advice="Run once before the first picture, or add it to the loading time.",
        )


def _outliers(samples: Sequence[float]) -> Iterator[Caution]:
    share = len(outliers(samples)) / len(samples)
    if share > OUTLIER_SHARE:
        yield Caution(
            code="OUTLIERS",
            numbers={"share": share, "score": OUTLIER_SCORE, "max_ms": max(samples)},
            message=f"{share:.0%} of the runs lie far from the median of {median(samples):.2f} ms; "
            f"the slowest took {max(samples):.2f} ms.",
            advice="Something else may be running: measure on an idle machine, and trust the "
            "median more than p99.",
        )


def drift(blocks: Sequence[Block]) -> Iterator[Caution]:
    """Whether the blocks became steadily slower or faster."""
    if len(blocks) < DRIFT_BLOCKS:
        return
    found = trend(block_medians_ms(blocks))
    if abs(found.change) > DRIFT_CHANGE and found.p_value < DRIFT_P_VALUE:
        direction = "slower" if found.change > 0 else "faster"
        yield Caution(
            code="DRIFT",
            numbers={"change": found.change, "p_value": found.p_value},
            message=f"It became {abs(found.change):.0%} {direction} from the first to the last "
            "block.",
            advice="Let the machine cool down and measure again; measure longer if it goes on."
            if found.change > 0
            else "Warm up longer.",
        )


def _bimodal(samples: Sequence[float]) -> Iterator[Caution]:
    low, high = quantile(samples, 0.02), quantile(samples, 0.98)
    kept = [sample for sample in samples if low <= sample <= high]
    if len(kept) < MODES_SAMPLES:
        return
    modes = two_modes(kept)
    balanced = MODES_SHARE <= modes.share_high <= 1 - MODES_SHARE
    apart = modes.high - modes.low > MODES_DISTANCE * modes.low
    if balanced and apart and modes.separation > MODES_SEPARATION:
        yield Caution(
            code="BIMODAL",
            numbers={
                "low_ms": modes.low,
                "high_ms": modes.high,
                "share_high": modes.share_high,
                "separation": modes.separation,
            },
            message=f"The runs fall into two groups, around {modes.low:.2f} and "
            f"{modes.high:.2f} ms; {modes.share_high:.0%} are slow.",
            advice="One median hides two states, such as two kinds of cores or a neighbour that "
            "comes and goes: fix the cores or the clock, or measure on an idle machine.",
        )


def throttled(blocks: Sequence[Block], events: int | None) -> Iterator[Caution]:
    """Whether the processor was slowed down, as it counts or as its clock tells."""
    if events:
        yield Caution(
            code="THROTTLED",
            numbers={"events": events},
            message=f"The processor was slowed down for its heat {events} times meanwhile.",
            advice="Let it cool down, and measure with pauses or fewer threads.",
        )
        return
    clocks = [block.frequency_mhz for block in blocks if block.frequency_mhz is not None]
    quarter = len(blocks) // 4
    if quarter == 0 or len(clocks) < len(blocks):
        return
    times = block_medians_ms(blocks)
    before_mhz, after_mhz = fmean(clocks[:quarter]), fmean(clocks[-quarter:])
    slower = fmean(times[-quarter:]) > (1 + DRIFT_CHANGE) * fmean(times[:quarter])
    if slower and after_mhz < THROTTLED_FREQUENCY * before_mhz:
        yield Caution(
            code="THROTTLED",
            numbers={"before_mhz": before_mhz, "after_mhz": after_mhz},
            message=f"The clock went from {before_mhz:.0f} to {after_mhz:.0f} MHz and the runs "
            "became slower.",
            advice="Let it cool down, or measure the state that lasts: warm up until the clock "
            "stays.",
        )

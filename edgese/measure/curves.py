"""Judges curves of latency over time; pure."""

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Final

from edgese.measure.cautions import DRIFT_CHANGE, drift, throttled
from edgese.measure.summary import block_medians_ms, summary
from edgese.records.measurement import Block, RankSwap, SustainedCaution, SustainedCurve

MINUTE_S: Final = 60.0
# From when on it counts as slower for good: single windows may recover, most may not.
SLOW_SHARE: Final = 0.9
# Two processes of one artifact differ by about as much; less is no order.
RANK_NOISE: Final = 0.02
WARMER_C: Final = 3.0


def span_of(seconds: float) -> float:
    """How long the first and the last part are that are compared: a minute, or a third."""
    return min(MINUTE_S, seconds / 3)


def first_of(windows: Sequence[Block], span_s: float) -> tuple[Block, ...]:
    """The windows that begin in the first ``span_s``; one at least."""
    end = windows[0].start_ms + span_s * 1000
    return tuple(window for window in windows if window.start_ms < end)


def last_of(windows: Sequence[Block], span_s: float) -> tuple[Block, ...]:
    """The windows that end in the last ``span_s``; one at least."""
    start = _end_ms(windows[-1]) - span_s * 1000
    return tuple(window for window in windows if _end_ms(window) > start)


def fell_off_s(windows: Sequence[Block], span_s: float) -> float | None:
    """When the windows became slower than the first span for good; None where they did not."""
    typical = summary(first_of(windows, span_s)).p50_ms
    if summary(last_of(windows, span_s)).p50_ms < (1 + DRIFT_CHANGE) * typical:
        return None
    slow = [time >= (1 + DRIFT_CHANGE) * typical for time in block_medians_ms(windows)]
    return _for_good(windows, slow)


def cautions_of(
    windows: Sequence[Block],
    *,
    complete: bool,
    seconds: float,
    throttle_events: int | None,
    start_c: float | None,
    coolest_start_c: float | None,
) -> tuple[SustainedCaution, ...]:
    """What a reader of one curve should know, the gravest first.

    Args:
        seconds: that it was to run.
        start_c: temperature before it; ``coolest_start_c``: before the coolest one of the result.
    """
    return (
        *_interrupted(windows, seconds, complete=complete),
        *_slower(windows, throttle_events),
        *_warm_start(start_c, coolest_start_c),
    )


def ranks(curves: Sequence[SustainedCurve]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Labels, the fastest first: in the first span, and in the last one."""
    first = sorted(curves, key=lambda curve: curve.first.p50_ms)
    last = sorted(curves, key=lambda curve: curve.last.p50_ms)
    return tuple(curve.label for curve in first), tuple(curve.label for curve in last)


def swaps_of(curves: Sequence[SustainedCurve]) -> tuple[RankSwap, ...]:
    """The pairs whose order in the first span is not the one in the last, beyond noise."""
    found = []
    for pair in combinations(curves, 2):
        ahead, behind = sorted(pair, key=lambda curve: curve.first.p50_ms)
        first = behind.first.p50_ms / ahead.first.p50_ms
        last = behind.last.p50_ms / ahead.last.p50_ms
        if first > 1 + RANK_NOISE and last < 1 / (1 + RANK_NOISE):
            found.append(
                RankSwap(
                    ahead=ahead.label,
                    behind=behind.label,
                    first_ratio=first,
                    last_ratio=last,
                    crossed_s=_crossed_s(ahead, behind),
                )
            )
    return tuple(found)


def _crossed_s(ahead: SustainedCurve, behind: SustainedCurve) -> float | None:
    """When ``behind`` becomes the faster one for good."""
    windows, others = ahead.launch.blocks, behind.launch.blocks
    times, rivals = block_medians_ms(windows), block_medians_ms(others)
    slower = []
    at = 0
    for window, time in zip(windows, times, strict=True):
        while at + 1 < len(others) and others[at + 1].start_ms <= window.start_ms:
            at += 1
        slower.append(time > rivals[at])
    return _for_good(windows, slower)


def _for_good(windows: Sequence[Block], true: Sequence[bool]) -> float | None:
    """Seconds until the first window from which on the statement holds for most windows."""
    held, earliest = 0, None
    for behind, number in enumerate(range(len(true) - 1, -1, -1), start=1):
        held += true[number]
        if true[number] and held >= SLOW_SHARE * behind:
            earliest = windows[number].start_ms / 1000
    return earliest


def _end_ms(window: Block) -> float:
    return window.start_ms + sum(window.samples_ns) / 1e6


def _interrupted(
    windows: Sequence[Block], seconds: float, *, complete: bool
) -> Iterator[SustainedCaution]:
    if not complete:
        ran_s = _end_ms(windows[-1]) / 1000
        yield SustainedCaution(
            code="INTERRUPTED",
            numbers={"ran_s": ran_s, "seconds": seconds},
            message=f"It ran for {ran_s:.0f} of {seconds:.0f} s.",
            advice="What comes later is not known: measure again for the whole time.",
        )


def _slower(windows: Sequence[Block], events: int | None) -> Iterator[SustainedCaution]:
    heat = tuple(throttled(windows, events))
    for caution in heat:
        yield SustainedCaution(
            code="THROTTLED",
            numbers=caution.numbers,
            message=caution.message,
            advice="Plan with the last minute's latency where the network runs for long.",
        )
    span_s = span_of(_end_ms(windows[-1]) / 1000)
    before = summary(first_of(windows, span_s)).p50_ms
    after = summary(last_of(windows, span_s)).p50_ms
    if after < (1 + DRIFT_CHANGE) * before:
        for caution in drift(windows):
            yield SustainedCaution(
                code="DRIFT",
                numbers=caution.numbers,
                message=caution.message,
                advice="Measure longer, until it stays.",
            )
        return
    off_s = fell_off_s(windows, span_s)
    when = f"; it fell off after {off_s:.0f} s" if off_s is not None else ", by turns"
    yield SustainedCaution(
        code="FELL_OFF",
        numbers={"first_ms": before, "last_ms": after, "ratio": after / before},
        message=f"p50 went from {before:.2f} ms in the first {span_s:.0f} s to {after:.2f} ms in "
        f"the last{when}.",
        advice="A short measurement of this artifact promises too much.",
    )
    blind = all(window.frequency_mhz is None for window in windows) and all(
        window.temperature_c is None for window in windows
    )
    if blind and not heat:
        yield SustainedCaution(
            code="CAUSE_UNKNOWN",
            numbers={},
            message="The machine tells neither its clock nor its temperature, so heat is only one "
            "explanation.",
            advice="Make sure that nothing else runs on it, and measure again.",
        )


def _warm_start(start_c: float | None, coolest_c: float | None) -> Iterator[SustainedCaution]:
    if start_c is not None and coolest_c is not None and start_c > coolest_c + WARMER_C:
        yield SustainedCaution(
            code="WARM_START",
            numbers={"start_c": start_c, "coolest_start_c": coolest_c},
            message=f"It started at {start_c:.0f} °C, another one at {coolest_c:.0f} °C.",
            advice="Its first minute is not comparable: rest longer between artifacts.",
        )

"""Curves of made windows: what fell off, when, why, and who is ahead in the end."""

import random

import pytest

from edgese.measure.curves import (
    cautions_of,
    fell_off_s,
    first_of,
    last_of,
    ranks,
    span_of,
    swaps_of,
)
from edgese.measure.summary import summary
from edgese.records.measurement import Block, Launch, SustainedCurve


def windows(latency_ms, seconds=600, clock=None, heat=None, seed=1):
    """Windows of 10 s; an inference takes about ``latency_ms(seconds since the start)``."""
    generator = random.Random(seed)
    made, start_s = [], 0.0
    while start_s < seconds:
        samples = []
        while sum(samples) < 10e9:
            samples.append(int(latency_ms(start_s) * generator.gauss(1, 0.01) * 1e6))
        made.append(
            Block(
                start_ms=start_s * 1000,
                samples_ns=tuple(samples),
                frequency_mhz=clock(start_s) if clock else None,
                temperature_c=heat(start_s) if heat else None,
            )
        )
        start_s += sum(samples) / 1e9
    return made


def steady(_):
    return 500.0


def throttled_at(when_s, factor=1.4):
    return lambda t: 500.0 * (factor if t >= when_s else 1.0)


def curve(label, blocks, span_s=60.0):
    first, last = summary(first_of(blocks, span_s)), summary(last_of(blocks, span_s))
    return SustainedCurve(
        label=label,
        sha256="",
        target="tflite",
        delegate="xnnpack",
        recipe="int8",
        model="m",
        resolution=(224, 224),
        trained=False,
        complete=True,
        launch=Launch(
            import_ms=1,
            load_ms=1,
            first_run_ms=1,
            memory_before_load_mb=1,
            peak_memory_mb=1,
            peak_since_load=True,
            overhead_ns=1,
            blocks=tuple(blocks),
        ),
        start_temperature_c=None,
        throttle_events=None,
        span_s=span_s,
        first=first,
        last=last,
        ratio=last.p50_ms / first.p50_ms,
        fell_off_s=fell_off_s(blocks, span_s),
        versions={},
    )


def codes(blocks, *, complete=True, events=None, start_c=None, coolest_c=None):
    found = cautions_of(
        blocks,
        complete=complete,
        seconds=600,
        throttle_events=events,
        start_c=start_c,
        coolest_start_c=coolest_c,
    )
    return [caution.code for caution in found]


@pytest.mark.parametrize(("seconds", "span"), [(30, 10), (179, 179 / 3), (180, 60), (3600, 60)])
def test_the_parts_that_are_compared_are_a_minute_or_a_third(seconds, span):
    assert span_of(seconds) == pytest.approx(span)


def test_the_first_and_the_last_part_hold_what_lies_in_them():
    blocks = windows(steady)
    assert sum(map(sum, (b.samples_ns for b in first_of(blocks, 60)))) == pytest.approx(6e10, 0.2)
    assert last_of(blocks, 60)[-1] is blocks[-1]
    assert first_of(blocks, 60)[0] is blocks[0]
    assert len(last_of(blocks, 0.001)) == len(first_of(blocks, 0.001)) == 1


def test_a_steady_machine_does_not_fall_off_and_gets_no_caution():
    blocks = windows(steady)
    assert fell_off_s(blocks, 60) is None
    assert codes(blocks) == []


@pytest.mark.parametrize("when_s", [90, 200, 400, 500])
def test_a_step_is_found_where_it_is(when_s):
    assert fell_off_s(windows(throttled_at(when_s)), 60) == pytest.approx(when_s, abs=11)


def test_windows_that_recover_now_and_then_do_not_hide_a_step():
    blocks = windows(lambda t: 500.0 if t < 200 or 350 < t < 365 else 700.0)
    assert fell_off_s(blocks, 60) == pytest.approx(200, abs=11)


def test_a_slow_spell_that_ends_is_no_fall():
    blocks = windows(lambda t: 700.0 if 200 < t < 400 else 500.0)
    assert fell_off_s(blocks, 60) is None


def test_one_slow_last_window_is_no_fall():
    assert fell_off_s(windows(lambda t: 700.0 if t > 588 else 500.0), 60) is None


def test_a_fall_is_told_with_its_figures_and_that_the_cause_is_not_known():
    told = cautions_of(
        windows(throttled_at(200)),
        complete=True,
        seconds=600,
        throttle_events=None,
        start_c=None,
        coolest_start_c=None,
    )
    fell, unknown = told
    assert (fell.code, unknown.code) == ("FELL_OFF", "CAUSE_UNKNOWN")
    assert fell.numbers["ratio"] == pytest.approx(1.4, abs=0.02)
    assert "fell off after 20" in fell.message


def test_a_clock_that_falls_with_it_is_throttling():
    blocks = windows(
        throttled_at(150),
        clock=lambda t: 2400.0 if t < 150 else 1600.0,
        heat=lambda t: 40 + min(t, 150) / 5,
    )
    assert codes(blocks) == ["THROTTLED", "FELL_OFF"]


def test_events_that_the_machine_counted_are_throttling():
    assert codes(windows(steady), events=3) == ["THROTTLED"]


def test_a_slow_rise_below_the_threshold_of_a_fall_may_still_be_drift():
    assert codes(windows(lambda t: 500.0 * (1 + 0.06 * t / 300), seconds=300)) == ["DRIFT"]


def test_an_interrupted_curve_says_how_far_it_came():
    assert codes(windows(steady, seconds=120), complete=False) == ["INTERRUPTED"]


@pytest.mark.parametrize(("start_c", "expected"), [(41.0, ["WARM_START"]), (36.0, [])])
def test_an_artifact_that_started_warmer_than_another_says_so(start_c, expected):
    assert codes(windows(steady), start_c=start_c, coolest_c=35.0) == expected


def test_ranks_are_of_the_first_and_of_the_last_part():
    hot = curve("hot", windows(throttled_at(200)))
    cool = curve("cool", windows(lambda _: 600.0))
    assert ranks([cool, hot]) == (("hot", "cool"), ("cool", "hot"))


def test_a_rank_that_changes_is_told_with_the_time_of_the_crossing():
    hot = curve("hot", windows(throttled_at(200)))
    cool = curve("cool", windows(lambda _: 600.0, seed=2))
    (swap,) = swaps_of([cool, hot])
    assert (swap.ahead, swap.behind) == ("hot", "cool")
    assert swap.first_ratio == pytest.approx(1.2, abs=0.01)
    assert swap.last_ratio == pytest.approx(600 / 700, abs=0.01)
    assert swap.crossed_s == pytest.approx(200, abs=11)


def test_ranks_within_noise_do_not_change():
    one = curve("one", windows(lambda t: 500.0 + 0.01 * t))
    other = curve("other", windows(lambda _: 503.0, seed=2))
    assert swaps_of([one, other]) == ()


def test_an_order_that_stays_is_no_swap():
    fast = curve("fast", windows(throttled_at(200, 1.1)))
    slow = curve("slow", windows(lambda _: 600.0))
    assert swaps_of([fast, slow]) == ()
    assert swaps_of([]) == ()

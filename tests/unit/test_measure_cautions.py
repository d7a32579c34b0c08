"""Cautions on made series: each is raised by its own cause, and by nothing else."""

import random

import pytest

from edgese.measure.cautions import cautions, phone_cautions
from edgese.records.device import PhoneState
from edgese.records.measurement import Block


def blocks_of(draw, count=20, runs=10, clock=lambda _: None):
    """Blocks whose samples ``draw(number of the block)`` gives in ms."""
    return [
        Block(
            start_ms=100.0 * number,
            samples_ns=tuple(int(draw(number) * 1e6) for _ in range(runs)),
            frequency_mhz=clock(number),
        )
        for number in range(count)
    ]


def codes(blocks, first_run_ms=5.0, throttle_events=None):
    return [caution.code for caution in cautions(blocks, first_run_ms, throttle_events)]


def quiet(seed=1):
    generator = random.Random(seed)
    return lambda _: generator.gauss(5.0, 0.05)


def disturbed(share, seed=2):
    """Quiet, but for a share of samples that take anything up to 90 ms longer."""
    generator = random.Random(seed)
    return lambda _: (
        generator.gauss(5, 0.05) + (generator.random() < share) * generator.uniform(2, 90)
    )


def two_states(low, high, share_high, spread=0.01):
    generator = random.Random(4)
    return lambda _: (high if generator.random() < share_high else low) * generator.gauss(1, spread)


@pytest.mark.parametrize("seed", range(10))
def test_a_quiet_machine_gives_no_caution(seed):
    assert codes(blocks_of(quiet(seed))) == []


def test_a_slow_first_run_is_told_with_its_numbers():
    (caution,) = cautions(blocks_of(lambda _: 5.0), 20.0, None)
    assert caution.code == "FIRST_RUN_SLOW"
    assert caution.numbers == {"first_run_ms": 20.0, "median_ms": 5.0}
    assert "4.0 times" in caution.message
    assert caution.advice


def test_a_first_run_of_less_than_twice_the_median_is_no_caution():
    assert codes(blocks_of(lambda _: 5.0), first_run_ms=9.9) == []


def test_many_far_samples_are_outliers():
    assert codes(blocks_of(disturbed(0.08))) == ["OUTLIERS"]


def test_a_few_far_samples_are_no_caution():
    assert codes(blocks_of(disturbed(0.02))) == []


@pytest.mark.parametrize(("slope", "word"), [(0.05, "slower"), (-0.05, "faster")])
def test_a_steady_change_is_drift(slope, word):
    noise = quiet()
    found = cautions(blocks_of(lambda number: noise(number) + slope * number), 5.0, None)
    assert [caution.code for caution in found] == ["DRIFT"]
    assert word in found[0].message


def test_a_change_that_is_small_is_no_drift():
    noise = quiet()
    assert codes(blocks_of(lambda number: noise(number) + 0.005 * number)) == []


def test_too_few_blocks_are_not_judged_for_drift():
    assert codes(blocks_of(lambda number: 5.0 + 0.2 * number, count=6)) == []


def test_two_states_are_bimodal_and_not_outliers():
    (caution,) = cautions(blocks_of(two_states(5, 8, 0.3)), 5.0, None)
    assert caution.code == "BIMODAL"
    assert caution.numbers["low_ms"] == pytest.approx(5, rel=0.02)
    assert caution.numbers["high_ms"] == pytest.approx(8, rel=0.02)
    assert caution.numbers["share_high"] == pytest.approx(0.3, abs=0.1)


def test_two_groups_that_hardly_differ_are_no_caution():
    assert codes(blocks_of(two_states(5, 5.1, 0.5, spread=0.001))) == []


def test_counted_thermal_events_are_throttling():
    (caution,) = cautions(blocks_of(lambda _: 5.0), 5.0, 3)
    assert caution.code == "THROTTLED"
    assert caution.numbers == {"events": 3}


def test_no_thermal_event_is_no_throttling():
    assert codes(blocks_of(lambda _: 5.0), throttle_events=0) == []


def test_a_falling_clock_with_slower_runs_is_throttling():
    noise = quiet()
    slower = blocks_of(
        lambda number: noise(number) * (1.0 if number < 10 else 1.5),
        clock=lambda number: 2800 if number < 10 else 1900,
    )
    assert codes(slower)[0] == "THROTTLED"


def test_a_falling_clock_alone_is_no_throttling():
    assert codes(blocks_of(quiet(), clock=lambda number: 2800 - 50 * number)) == []


def test_a_clock_that_some_blocks_do_not_know_is_not_judged():
    known_at_first = blocks_of(
        lambda number: 5.0 + (number > 9), clock=lambda number: 2800 if number < 5 else None
    )
    assert "THROTTLED" not in codes(known_at_first)


def phone(**told):
    return PhoneState(
        serial="A1",
        model="Pixel 8",
        soc="",
        abi="arm64-v8a",
        android="14",
        build="X",
        architecture="aarch64",
        taken="2026-01-01T00:00:00+00:00",
        **told,
    )


def test_a_phone_that_slows_itself_down_says_so():
    before = phone(thermal_status=0, skin_c=31.0)
    (caution,) = phone_cautions(before, phone(thermal_status=2, skin_c=44.5))
    assert caution.code == "THROTTLED"
    assert caution.numbers == {"before": 0, "after": 2}
    assert "from 31 to 44.5" in caution.message
    assert phone_cautions(before, phone(thermal_status=0, skin_c=33.0)) == ()
    assert phone_cautions(None, None) == ()

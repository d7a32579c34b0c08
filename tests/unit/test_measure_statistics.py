"""Statistics of times on series whose answer is known."""

import math
import random
import statistics
from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgese.measure.statistics import (
    TRIMMED,
    modified_z_scores,
    outliers,
    paired_ratio,
    quantile,
    student_quantile,
    trend,
    trimmed_mean,
    two_modes,
)

times = st.floats(min_value=0.01, max_value=1e6, allow_nan=False)
series = st.lists(times, min_size=2, max_size=60)


@pytest.mark.parametrize(
    ("share", "expected"), [(0.0, 1.0), (0.25, 1.75), (0.5, 2.5), (0.9, 3.7), (1.0, 4.0)]
)
def test_quantiles_are_interpolated_linearly(share, expected):
    assert quantile([4.0, 1.0, 3.0, 2.0], share) == pytest.approx(expected)


@given(series, st.floats(min_value=0, max_value=1), st.randoms())
def test_a_quantile_lies_within_the_values_and_does_not_depend_on_their_order(
    values, share, generator
):
    shuffled = generator.sample(values, len(values))
    found = quantile(values, share)
    assert min(values) <= found * (1 + 1e-12)
    assert found * (1 - 1e-12) <= max(values)
    assert quantile(shuffled, share) == found


@given(series)
def test_the_middle_quantile_is_the_median(values):
    assert quantile(values, 0.5) == pytest.approx(statistics.median(values))


# Two wild values pull the mean and the standard deviation so far that ordinary Z-scores stay small.
MASKED = [2.1, 2.6, 2.4, 2.5, 2.3, 2.1, 2.3, 2.6, 8.2, 8.3]


def test_two_wild_values_that_hide_from_the_ordinary_z_score_are_found():
    spread = statistics.stdev(MASKED)
    ordinary = [abs(x - statistics.fmean(MASKED)) / spread for x in MASKED]
    assert max(ordinary) < 3
    assert outliers(MASKED) == (8, 9)


def test_a_modified_z_score_is_the_distance_in_mads():
    # Median 3, median absolute deviation 1.
    scores = modified_z_scores([1.0, 2.0, 3.0, 4.0, 13.0])
    assert scores == pytest.approx([-1.349, -0.6745, 0.0, 0.6745, 6.745])


def test_where_most_values_are_equal_one_that_differs_is_still_an_outlier():
    assert outliers([5.0] * 20 + [9.0]) == (20,)


def test_equal_values_have_no_outlier():
    assert outliers([5.0] * 20) == ()


@given(st.lists(st.integers(1, 10**6), min_size=1), st.floats(min_value=0.001, max_value=1000))
def test_scores_do_not_depend_on_the_unit(values, unit):
    """Of whole numbers: a difference in a last bit may be gone in another unit."""
    scaled = modified_z_scores([value * unit for value in values])
    assert scaled == pytest.approx(modified_z_scores(values), rel=1e-3, abs=1e-3)


def test_a_steady_rise_is_a_trend_of_its_size():
    rising = [100 + i for i in range(21)]
    found = trend(rising)
    assert found.change == pytest.approx(20 / 110)
    assert found.p_value < 1e-6


def test_single_disturbed_blocks_are_no_trend():
    level = [10.0, 10.1, 9.9, 10.05, 9.95] * 4
    level[17] = 40.0
    found = trend(level)
    assert abs(found.change) < 0.01
    assert found.p_value > 0.1


@given(st.lists(times, min_size=2, max_size=25))
def test_a_reversed_series_has_the_opposite_trend(values):
    there, back = trend(values), trend(values[::-1])
    assert back.change == pytest.approx(-there.change)
    assert back.p_value == pytest.approx(there.p_value)


def test_noise_is_called_a_trend_no_more_often_than_the_level_says():
    generator = random.Random(3)
    alarms = sum(
        trend([generator.gauss(10, 1) for _ in range(20)]).p_value < 0.05 for _ in range(400)
    )
    assert alarms / 400 < 0.08


def test_a_single_value_is_no_trend():
    assert trend([3.0]).p_value == 1.0


def test_two_groups_are_told_apart():
    modes = two_modes([5.0, 5.1, 4.9, 5.0, 7.0, 7.1, 6.9, 7.0])
    assert (modes.low, modes.high) == pytest.approx((5.0, 7.0))
    assert modes.share_high == 0.5
    assert modes.separation > 20


def test_two_exact_values_are_infinitely_far_apart():
    assert two_modes([5.0, 5.0, 7.0, 7.0]).separation == inf


def test_equal_values_are_one_group():
    assert two_modes([5.0] * 9).separation == 0.0


@pytest.mark.parametrize(
    ("draw", "expected"),
    [
        (lambda g: g.gauss(10, 1), 2.65),
        (lambda g: g.uniform(5, 15), 3.46),
        (lambda g: 5 + g.expovariate(1), 2.6),
    ],
    ids=["normal", "uniform", "exponential"],
)
def test_one_group_cut_in_two_has_the_separation_that_theory_says(draw, expected):
    generator = random.Random(5)
    found = two_modes([draw(generator) for _ in range(20_000)]).separation
    assert found == pytest.approx(expected, rel=0.05)


# Launches of rounds, each with the block medians of two artifacts.
launches = st.lists(
    st.lists(st.tuples(times, times), min_size=1, max_size=5), min_size=2, max_size=8
)


def split(pairs_by_launch):
    """Values and baseline, as `paired_ratio` takes them."""
    return tuple([[pair[side] for pair in pairs] for pairs in pairs_by_launch] for side in (0, 1))


@settings(max_examples=30)
@given(launches)
def test_the_ratio_lies_in_its_interval_and_between_the_rounds(pairs_by_launch):
    ratio, interval = paired_ratio(*split(pairs_by_launch))
    ratios = [value / base for pairs in pairs_by_launch for value, base in pairs]
    tolerance = 1e-9 * max(ratios)
    assert interval.low <= ratio <= interval.high
    assert min(ratios) - tolerance <= ratio <= max(ratios) + tolerance


@pytest.mark.parametrize(
    ("share", "freedom", "expected"),
    # The usual printed tables.
    [
        (0.975, 1, 12.7062),
        (0.975, 3, 3.1824),
        (0.975, 5, 2.5706),
        (0.95, 10, 1.8125),
        (0.995, 23, 2.8073),
        (0.975, 120, 1.9799),
    ],
)
def test_quantiles_of_students_distribution_are_those_of_the_tables(share, freedom, expected):
    assert student_quantile(share, freedom) == pytest.approx(expected, abs=6e-5)


@settings(max_examples=30)
@given(launches, st.randoms(use_true_random=False))
def test_the_order_of_rounds_and_of_launches_with_the_same_start_does_not_matter(
    pairs_by_launch, generator
):
    shuffled = [generator.sample(pairs, len(pairs)) for pairs in pairs_by_launch]
    # Every other launch begins with the other artifact.
    for start in (0, 1):
        group = shuffled[start::2]
        shuffled[start::2] = generator.sample(group, len(group))
    assert paired_ratio(*split(shuffled)) == paired_ratio(*split(pairs_by_launch))


def test_what_starting_first_costs_is_taken_out():
    generator = random.Random(3)
    times = [
        [10 * (1.04 if number % 2 else 0.96) * generator.gauss(1, 0.002)] * 2
        for number in range(12)
    ]
    ratio, interval = paired_ratio(times, [[10.0] * 2] * 12)
    assert interval.low < 1.0 < interval.high
    assert interval.high - interval.low < 0.005
    assert ratio == pytest.approx(1.0, abs=0.003)


@pytest.mark.parametrize("launches", [5, 10])
def test_ratios_of_few_launches_lie_in_their_intervals_as_often_as_said(launches):
    """With Yuen's degrees of freedom 6.2 % of intervals of five launches miss a ratio of 1."""
    generator = random.Random(8)
    calls, missed = 4000, 0
    for _ in range(calls):
        values = [[math.exp(generator.gauss(0, 0.05))] for _ in range(launches)]
        interval = paired_ratio(values, [[1.0]] * launches)[1]
        missed += not interval.low <= 1.0 <= interval.high
    assert missed / calls <= 0.05


def test_launches_that_came_out_the_same_do_not_make_a_ratio_certain():
    ratio, interval = paired_ratio([[1.0]] * 2, [[1.0]] * 2)
    assert ratio == 1.0
    assert interval.low < 0.995
    assert interval.high > 1.005


def test_one_launch_that_was_disturbed_decides_nothing():
    generator = random.Random(4)
    base = [[10.0] * 2 for _ in range(12)]
    values = [[11 * generator.gauss(1, 0.003)] * 2 for _ in base]
    values[5] = [40.0, 41.0]
    ratio, interval = paired_ratio(values, base)
    assert ratio == pytest.approx(1.1, rel=0.005)
    assert interval.high < 1.12


def test_trimmed_means_make_yuens_test_as_scipy_has_it():
    from scipy.stats import ttest_ind

    generator = random.Random(5)
    one = [generator.lognormvariate(0, 0.3) for _ in range(17)]
    other = [generator.lognormvariate(0.1, 0.5) for _ in range(12)]
    expected = ttest_ind(one, other, equal_var=False, trim=TRIMMED).statistic
    first, second = trimmed_mean(one), trimmed_mean(other)
    found = (first.middle - second.middle) / math.hypot(first.error, second.error)
    assert found == pytest.approx(expected, rel=1e-9)
    assert (first.freedom, second.freedom) == (10, 7)


@settings(max_examples=20)
@given(st.lists(st.lists(times, min_size=1, max_size=5), min_size=2, max_size=8))
def test_an_artifact_beside_itself_is_one(values):
    ratio, interval = paired_ratio(values, values)
    assert ratio == 1.0
    assert interval.low < 1.0 < interval.high


def test_what_disturbs_whole_rounds_does_not_widen_the_interval():
    generator = random.Random(7)
    disturbance = [[generator.choice([1.0, 3.0]) for _ in range(4)] for _ in range(6)]
    base = [[10 * factor for factor in factors] for factors in disturbance]
    values = [
        [20 * factor * generator.gauss(1, 0.01) for factor in factors] for factors in disturbance
    ]
    _, interval = paired_ratio(values, base)
    assert interval.low < 2.0 < interval.high
    assert interval.high - interval.low < 0.05


@pytest.mark.parametrize("count", [4, 6, 12])
@pytest.mark.parametrize(("of_launches", "of_blocks"), [(0.0, 0.03), (0.03, 0.01), (0.03, 0.05)])
def test_about_19_of_20_intervals_hold_the_true_ratio(of_launches, of_blocks, count):
    generator = random.Random(11)

    def block(luck: float) -> float:
        # A tenth of all blocks is hit by something of its own.
        hit = abs(generator.gauss(0, 0.2)) if generator.random() < 0.1 else 0.0
        return luck * (generator.gauss(1, of_blocks) + hit)

    def holds() -> bool:
        base, values = [], []
        for _ in range(count):
            lucks = [generator.gauss(1, of_launches) for _ in range(2)]
            states = [generator.choice([1.0, 1.0, 1.8]) for _ in range(4)]
            base.append([5 * state * block(lucks[0]) for state in states])
            values.append([6 * state * block(lucks[1]) for state in states])
        _, interval = paired_ratio(values, base)
        return interval.low <= 1.2 <= interval.high

    held = sum(holds() for _ in range(200))
    # 190 are expected, give or take 3.
    assert held >= 183

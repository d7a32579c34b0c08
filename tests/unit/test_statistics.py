from fractions import Fraction
from math import comb, sqrt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgese.errors import InputError
from edgese.statistics import mcnemar, wilson

COUNTS = st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [
        # Newcombe, Statistics in Medicine 17 (1998), table I, method 3.
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_gives_the_published_intervals(successes, n, low, high):
    interval = wilson(successes, n)
    assert (low, high) == (round(interval.low, 4), round(interval.high, 4))


@given(COUNTS)
def test_the_interval_holds_the_observed_share_and_lies_within_0_and_1(counts):
    successes, n = counts
    interval = wilson(successes, n)
    assert 0 <= interval.low <= successes / n <= interval.high <= 1


@given(COUNTS)
def test_both_bounds_solve_the_score_equation(counts):
    successes, n = counts
    z = 1.959963984540054
    for bound in (wilson(successes, n).low, wilson(successes, n).high):
        deviation = abs(successes / n - bound)
        assert deviation == pytest.approx(z * sqrt(bound * (1 - bound) / n), abs=1e-12)


@given(COUNTS)
def test_successes_and_failures_mirror_each_other(counts):
    successes, n = counts
    one, other = wilson(successes, n), wilson(n - successes, n)
    assert (one.low, one.high) == pytest.approx((1 - other.high, 1 - other.low))


@given(COUNTS)
def test_more_confidence_is_a_wider_interval(counts):
    narrow, wide = wilson(*counts, confidence=0.9), wilson(*counts, confidence=0.99)
    assert wide.low <= narrow.low
    assert narrow.high <= wide.high
    assert wide.confidence == 0.99


def test_nothing_observed_says_nothing():
    interval = wilson(0, 0)
    assert (interval.low, interval.high) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("successes", "n", "confidence"), [(3, 2, 0.95), (-1, 2, 0.95), (1, 2, 1.0), (1, 2, 0.0)]
)
def test_counts_that_contradict_each_other_are_refused(successes, n, confidence):
    with pytest.raises(InputError):
        wilson(successes, n, confidence)


@pytest.mark.parametrize(
    ("only_first", "only_second", "p"),
    [(0, 0, 1.0), (1, 0, 1.0), (5, 0, 0.0625), (6, 0, 0.03125), (3, 3, 1.0), (2, 8, 0.109375)],
)
def test_mcnemar_gives_the_known_values(only_first, only_second, p):
    assert p == mcnemar(only_first, only_second)


@given(st.integers(0, 12), st.integers(0, 12))
def test_mcnemar_equals_the_sum_over_all_outcomes_as_extreme(only_first, only_second):
    n = only_first + only_second
    observed = abs(only_first - only_second)
    extreme = sum(comb(n, i) for i in range(n + 1) if abs(i - (n - i)) >= observed)
    assert float(Fraction(extreme, 2**n)) == pytest.approx(mcnemar(only_first, only_second))


@given(st.integers(0, 3000), st.integers(0, 3000))
def test_mcnemar_is_symmetric_and_a_probability(only_first, only_second):
    p = mcnemar(only_first, only_second)
    assert p == mcnemar(only_second, only_first)
    assert 0 <= p <= 1


@given(st.integers(0, 200), st.integers(0, 200))
def test_mcnemar_shrinks_as_the_second_pulls_ahead(only_first, lead):
    p, further = (mcnemar(only_first, only_first + ahead) for ahead in (lead, lead + 1))
    assert further <= p


def test_a_negative_count_is_refused():
    with pytest.raises(InputError):
        mcnemar(-1, 3)

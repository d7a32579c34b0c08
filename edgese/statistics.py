"""Statistics of proportions: intervals for an accuracy, and a test for two of them on one data set.

Pure and exact, from the standard library alone. Statistics of times are in `edgese.measure`.
"""

from math import exp, lgamma, log, sqrt
from statistics import NormalDist

from edgese.errors import InputError
from edgese.records.interval import Interval


def wilson(successes: int, n: int, confidence: float = 0.95) -> Interval:
    """The score interval of a proportion.

    Unlike the normal approximation it stays within 0..1, and it is honest near both ends: 20 of 20
    gives 0.84 to 1, not 1 to 1. Nothing observed (n = 0) gives 0 to 1.

    Source: Wilson, "Probable inference, the law of succession, and statistical inference",
    JASA 22 (1927).

    Raises:
        InputError: the counts contradict each other, or ``confidence`` is not between 0 and 1.
    """
    if not 0 <= successes <= n:
        raise InputError(
            f"{successes} successes in {n} trials were given.", hint="Check the counts."
        )
    if not 0 < confidence < 1:
        raise InputError(
            f"A confidence of {confidence} was given.", hint="Give a share such as 0.95."
        )
    if n == 0:
        return Interval(low=0.0, high=1.0, confidence=confidence)
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share = successes / n
    centre = share + z * z / (2 * n)
    half_width = z * sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    # At both ends the bound is exact on paper, and rounding must not move it off.
    low = 0.0 if successes == 0 else (centre - half_width) / scale
    high = 1.0 if successes == n else (centre + half_width) / scale
    return Interval(low=low, high=high, confidence=confidence)


def binomial_tails(successes: int, n: int, share: float) -> tuple[float, float]:
    """Return the chances of at most, and of at least, so many successes in ``n`` trials.

    Both are summed from the end that is farther from the middle, so that small ones keep their
    digits.
    """
    if successes > n * share:
        beyond = _binomial_sum(successes, n, share, 1)
        return min(1.0, 1 - beyond + _binomial(successes, n, share)), beyond
    beyond = _binomial_sum(successes, n, share, -1)
    return beyond, min(1.0, 1 - beyond + _binomial(successes, n, share))


def mcnemar(only_first: int, only_second: int) -> float:
    """The two-sided exact p-value that two classifiers of the same pictures are equally good.

    Only the pictures on which exactly one of them is right carry information; under the null
    hypothesis each of these is a fair coin. Integers throughout, so that it is exact for any count.

    Source: McNemar, Psychometrika 12 (1947), in its binomial form.

    Args:
        only_first: pictures that the first alone classifies correctly.
        only_second: pictures that the second alone classifies correctly.

    Raises:
        InputError: a count is negative.
    """
    if only_first < 0 or only_second < 0:
        raise InputError(
            f"The counts {only_first} and {only_second} were given.", hint="Check the counts."
        )
    n = only_first + only_second
    term = tail = 1
    for i in range(min(only_first, only_second)):
        term = term * (n - i) // (i + 1)
        tail += term
    return min(1.0, 2 * tail / (1 << n))


def paired_difference(
    both: int, only_first: int, only_second: int, neither: int, confidence: float = 0.95
) -> Interval:
    """The interval of how much larger the first of two shares of the same pictures is.

    Source: Newcombe, "Improved confidence intervals for the difference between binomial proportions
    based on paired data", Statistics in Medicine 17 (1998), method 10.

    Args:
        both: pictures that both classify correctly; ``neither``: that none does.
        only_first, only_second: pictures that one alone classifies correctly.

    Raises:
        InputError: a count is negative, or there is no picture.
    """
    counts = (both, only_first, only_second, neither)
    n = sum(counts)
    if min(counts) < 0 or n == 0:
        raise InputError(f"The counts {counts} were given.", hint="Check the counts.")
    first, second = both + only_first, both + only_second
    one, other = wilson(first, n, confidence), wilson(second, n, confidence)
    margins = first * (n - first) * second * (n - second)
    product = float(both * neither - only_first * only_second)
    if product > 0:  # corrected for continuity
        product = max(product - n / 2, 0.0)
    phi = product / sqrt(margins) if margins else 0.0
    below, above = first / n - one.low, one.high - first / n
    other_below, other_above = second / n - other.low, other.high - second / n
    middle = (only_first - only_second) / n
    left = below**2 - 2 * phi * below * other_above + other_above**2
    right = other_below**2 - 2 * phi * other_below * above + above**2
    return Interval(
        low=middle - sqrt(max(left, 0.0)),
        high=middle + sqrt(max(right, 0.0)),
        confidence=confidence,
    )


def _binomial(successes: int, n: int, share: float) -> float:
    """Return the chance of just so many successes."""
    if not 0 <= successes <= n:
        return 0.0
    if share <= 0 or share >= 1:
        return 1.0 if successes == (n if share >= 1 else 0) else 0.0
    ways = lgamma(n + 1) - lgamma(successes + 1) - lgamma(n - successes + 1)
    return exp(ways + successes * log(share) + (n - successes) * log(1 - share))


def _binomial_sum(start: int, n: int, share: float, step: int) -> float:
    """Return the chance of ``start`` successes and all that lie beyond in the step's direction."""
    if not 0 <= start <= n:
        return 0.0 if (start > n) == (step > 0) else 1.0
    term = total = _binomial(start, n, share)
    if share <= 0 or share >= 1:
        return 1.0 if (n if share >= 1 else 0) in _range(start, n, step) else 0.0
    odds = share / (1 - share)
    at = start
    while 0 <= at + step <= n and term > total * 1e-18:
        term *= (n - at) / (at + 1) * odds if step > 0 else at / (n - at + 1) / odds
        at += step
        total += term
    return min(1.0, total)


def _range(start: int, n: int, step: int) -> range:
    return range(start, n + 1) if step > 0 else range(start + 1)

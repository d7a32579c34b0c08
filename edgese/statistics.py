"""Statistics of proportions: intervals for an accuracy, and a test for two of them on one data set.

Pure and exact, from the standard library alone. Statistics of times are in `edgese.measure`.
"""

from collections.abc import Callable
from functools import lru_cache
from math import ceil, exp, lgamma, log, sqrt
from statistics import NormalDist
from typing import TYPE_CHECKING, Final

from edgese.errors import InputError
from edgese.records.base import Interval

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


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


def binomial_p(successes: int, n: int, share: float) -> float:
    """Return the two-sided exact p-value of a share: twice the smaller tail."""
    return min(1.0, 2 * min(binomial_tails(successes, n, share)))


@lru_cache(maxsize=4096)
def clopper_pearson(successes: int, n: int, confidence: float = 0.95) -> Interval:
    """Return the exact interval of a proportion: every share whose `binomial_p` is not too small.

    It holds the truth in at least so many cases, whatever the truth is. `wilson` is narrower, and
    holds it in about as many on average over truths.

    Source: Clopper & Pearson, Biometrika 26 (1934).
    """
    tail = (1 - confidence) / 2
    low = 0.0 if successes == 0 else _root(lambda p: binomial_tails(successes, n, p)[1] > tail)
    high = 1.0 if successes == n else _root(lambda p: binomial_tails(successes, n, p)[0] <= tail)
    return Interval(low=low, high=high, confidence=confidence)


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


# That the share of pairs that differ is above what is taken for the largest one.
NUISANCE_RATE: Final = 1e-4


def paired_p(only_first: int, only_second: int, n: int, difference: float) -> float:
    """Return the two-sided p-value that the first share is larger by just ``difference``.

    How often the two differ at all is not known, and decides how far the difference may be off. So
    the p-value is the largest over every such share up to its own upper limit, at a confidence of
    1 - `NUISANCE_RATE`, which is added. Wrong in at most so many cases as it says, for any number
    of pairs.

    Source: Berger & Boos, "P values maximized over a confidence set for the nuisance parameter",
    JASA 89 (1994), with the difference as the statistic.

    Args:
        only_first, only_second: pairs that the first, or the second, alone has right.
        n: pairs.
    """
    most = _most_differing(only_first + only_second, n)
    found = only_first - only_second
    above = _largest_tail(found, n, difference, most)
    below = _largest_tail(-found, n, -difference, most)
    return min(1.0, 2 * (min(above, below) + NUISANCE_RATE))


@lru_cache(maxsize=1024)
def paired_interval(
    only_first: int, only_second: int, n: int, confidence: float = 0.95
) -> Interval:
    """Return every difference whose `paired_p` is not too small; -1 to 1 where all are."""
    tail = (1 - confidence) / 2 - NUISANCE_RATE
    most = _most_differing(only_first + only_second, n)

    def end(found: int) -> float:
        """Return the least difference that ``found`` is not too large for."""
        if tail <= 0 or found <= -n:
            return -1.0
        return _root(lambda d: _largest_tail(found, n, d, most) > tail, -most, most, halvings=28)

    found = only_first - only_second
    return Interval(low=end(found), high=-end(-found), confidence=confidence)


@lru_cache(maxsize=4096)
def _most_differing(count: int, n: int) -> float:
    if count == n:
        return 1.0
    return _root(lambda share: binomial_tails(count, n, share)[0] <= NUISANCE_RATE)


# Tails of so few pairs are jagged, and are looked at in so many steps between both ends; of more
# pairs, the more of them may differ, the larger the tail.
_JAGGED: Final = 100
_STEPS: Final = 16


def _largest_tail(found: int, n: int, difference: float, most: float) -> float:
    """Return the largest chance of at least ``found``, over shares that can have the difference."""
    least = abs(difference)
    if least > most:
        return 0.0
    steps = _STEPS if n <= _JAGGED else 1
    shares = (least + (most - least) * step / steps for step in range(steps + 1))
    return max(_paired_tail(found, n, share, difference) for share in shares)


def _paired_tail(found: int, n: int, differing: float, difference: float) -> float:
    """Return the chance that the first is right alone ``found`` times more often, or still more.

    Summed over how many pairs differ. From one number of them to the next, the tail of how many
    are the first's changes by one term, and terms by a factor.
    """
    if found <= -n:
        return 1.0
    if differing in (0, 1) or abs(difference) >= differing:
        return _paired_tail_of_one_kind(found, n, differing, difference)
    share = (1 + difference / differing) / 2
    odds, others = share / (1 - share), differing / (1 - differing)
    reach = 8 * sqrt(n * differing * (1 - differing)) + 8
    first = max(0, found, int(n * differing - reach))
    last = min(n, ceil(n * differing + reach))
    total = 0.0
    weight = _binomial(first, n, differing)
    least = (first + found + 1) // 2
    tail = binomial_tails(least, first, share)[1] if least > 0 else 1.0
    # Of the number of successes just below those that are asked for.
    term = _binomial(least - 1, first, share)
    for count in range(first, last + 1):
        total += weight * tail
        weight *= (n - count) / (count + 1) * others
        # One more trial, then one more success asked for, every other time.
        tail += share * term
        term *= (count + 1) / (count + 2 - least) * (1 - share) if least <= count + 1 else 0.0
        if (count + found) % 2 == 0:
            if least == 0:
                term = (1 - share) ** (count + 1)
            else:
                term *= (count + 2 - least) / least * odds
            tail -= term
            least += 1
    return min(1.0, max(0.0, total))


def _paired_tail_of_one_kind(found: int, n: int, differing: float, difference: float) -> float:
    """Return the same where pairs that differ all differ, or all in one direction."""
    if differing == 1:
        return binomial_tails((n + found + 1) // 2, n, (1 + difference) / 2)[1]
    if differing == 0:
        return float(found <= 0)
    if difference > 0:
        return binomial_tails(found, n, differing)[1]
    return binomial_tails(-found, n, differing)[0] if found <= 0 else 0.0


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


def _root(
    is_above: Callable[[float], bool], low: float = 0.0, high: float = 1.0, *, halvings: int = 60
) -> float:
    """Return where a condition that is false below and true above begins to hold."""
    for _ in range(halvings):
        middle = (low + high) / 2
        low, high = (low, middle) if is_above(middle) else (middle, high)
    return (low + high) / 2


def mean_kl(found: "NDArray[np.float32]", reference: "NDArray[np.float32]") -> float:
    """Mean KL divergence of the classes that logits predict from those of reference logits, nats.

    Args:
        found, reference: (images, classes).
    """
    import numpy as np

    a, b = _log_softmax(reference), _log_softmax(found)
    return float((np.exp(a) * (a - b)).sum(axis=1).mean())


def _log_softmax(logits: "NDArray[np.float32]") -> "NDArray[np.float64]":
    import numpy as np

    wide = logits.astype(np.float64)
    shifted = wide - wide.max(axis=1, keepdims=True)
    result: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return result

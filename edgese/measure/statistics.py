"""Statistics of times: quantiles, outliers, trend, two modes, and the ratio of two artifacts.

Pure and from the standard library alone, so that results can be judged again where no runtime is
installed. Times may be in any unit; they are positive.
"""

from collections.abc import Sequence
from functools import cache
from itertools import accumulate
from math import atan2, cos, exp, fsum, inf, log, pi, sin, sqrt
from statistics import NormalDist, fmean, median
from typing import Final, NamedTuple

from edgese.records.base import Interval

# Iglewicz & Hoaglin, "How to Detect and Handle Outliers", ASQC 1993, section 3: |M| > 3.5.
OUTLIER_SCORE: Final = 3.5
# 0.6745 is the third quartile of the standard normal distribution: MAD / 0.6745 estimates sigma.
_MAD_OF_NORMAL: Final = 0.6745
# Of the values, at either end: Yuen's and Wilcox's usual share.
TRIMMED: Final = 0.2
# Launches of which each half has three or more.
GROUPED: Final = 6
# The least by which single processes differ, as a share. Real ones differ by a few percent; that
# two came out the same says that a clock or a counter of pages is coarse, or is chance.
LEAST_SPREAD: Final = 1e-3
# Into which `effect_of` divides launches.
_GROUPS: Final = 2
# The same for the mean absolute deviation: sigma = sqrt(pi / 2) x it.
_MEAN_DEVIATION_OF_NORMAL: Final = 1.253314


def quantile(values: Sequence[float], share: float) -> float:
    """The value below which ``share`` (0..1) of the values lie, interpolated linearly.

    Source: Hyndman & Fan, "Sample Quantiles in Statistical Packages", 1996, definition 7.
    """
    ordered = sorted(values)
    position = share * (len(ordered) - 1)
    below = int(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (position - below) * (ordered[above] - ordered[below])


def modified_z_scores(values: Sequence[float]) -> tuple[float, ...]:
    """How far each value is from the median, in robust standard deviations.

    Where more than half of the values are equal, the median absolute deviation is 0 and the mean
    absolute deviation takes its place; where all are equal, every score is 0.

    Source: Iglewicz & Hoaglin, "How to Detect and Handle Outliers", ASQC 1993.
    """
    middle = median(values)
    distances = [abs(value - middle) for value in values]
    sigma = median(distances) / _MAD_OF_NORMAL
    if sigma == 0:
        sigma = _MEAN_DEVIATION_OF_NORMAL * sum(distances) / len(distances)
    if sigma == 0:
        return (0.0,) * len(values)
    return tuple((value - middle) / sigma for value in values)


def outliers(values: Sequence[float]) -> tuple[int, ...]:
    """Positions of the values whose modified Z-score is beyond 3.5."""
    scores = modified_z_scores(values)
    return tuple(i for i, score in enumerate(scores) if abs(score) > OUTLIER_SCORE)


class Trend(NamedTuple):
    """A steady change over a series.

    Attributes:
        change: from the first to the last value, relative to the median; 0.1 is 10 % more.
        p_value: two-sided, that a series without a trend looks like this.
    """

    change: float
    p_value: float


def trend(series: Sequence[float]) -> Trend:
    """Whether a series rises or falls: Kendall's test, with Theil and Sen's slope.

    Both go by ranks and medians, so that single disturbed blocks do not decide. The p-value comes
    from the normal approximation without a correction for ties, which is good from ten values on
    and conservative below and with ties.

    Source: Mann 1945; Kendall, "Rank Correlation Methods", 1975; Sen, JASA 63, 1968.
    """
    n = len(series)
    pairs = [(i, j) for i in range(n) for j in range(i + 1, n)]
    if not pairs:
        return Trend(change=0.0, p_value=1.0)
    concordance = sum((series[j] > series[i]) - (series[j] < series[i]) for i, j in pairs)
    slope = median([(series[j] - series[i]) / (j - i) for i, j in pairs])
    # One is taken off for continuity.
    score = max(abs(concordance) - 1, 0) / sqrt(n * (n - 1) * (2 * n + 5) / 18)
    return Trend(change=slope * (n - 1) / median(series), p_value=2 * (1 - NormalDist().cdf(score)))


class Modes(NamedTuple):
    """The best division of values into a lower and an upper group.

    Attributes:
        low, high: means of the groups.
        share_high: of the values that are in the upper group.
        separation: Ashman's D, the distance of the means in common standard deviations. A normal
            distribution cut in two has 2.6, a uniform one 3.5.
    """

    low: float
    high: float
    share_high: float
    separation: float


def two_modes(values: Sequence[float]) -> Modes:
    """Divides values where the variance within the two groups is least.

    Source: Otsu, IEEE SMC 9, 1979; Ashman, Bird & Zepf, AJ 108, 1994.
    """
    ordered = sorted(values)
    n = len(ordered)
    centre = sum(ordered) / n
    # Sums from the centre keep digits that sums of squares of nanoseconds would lose.
    shifted = [value - centre for value in ordered]
    sums = list(accumulate(shifted))
    squares = list(accumulate(value * value for value in shifted))
    if squares[-1] == 0:
        return Modes(low=centre, high=centre, share_high=0.0, separation=0.0)
    # The sums of the two groups are opposite, as the values are centred.
    cut = max(range(1, n), key=lambda k: sums[k - 1] ** 2 * (1 / k + 1 / (n - k)))
    low, high = sums[cut - 1] / cut, (sums[-1] - sums[cut - 1]) / (n - cut)
    low_variance = max(squares[cut - 1] / cut - low * low, 0.0)
    high_variance = max((squares[-1] - squares[cut - 1]) / (n - cut) - high * high, 0.0)
    spread = sqrt((low_variance + high_variance) / 2)
    return Modes(
        low=centre + low,
        high=centre + high,
        share_high=(n - cut) / n,
        separation=(high - low) / spread if spread > 0 else inf,
    )


def paired_ratio(
    values: Sequence[Sequence[float]],
    baseline: Sequence[Sequence[float]],
    confidence: float = 0.95,
) -> tuple[float, Interval]:
    """The ratio of times that were measured in the same rounds, and its interval.

    Pairing within rounds takes out what both artifacts of a round suffered. Each launch gives one
    figure, the median over its rounds of the ratio of block medians; the ratio and its interval are
    those of `effect_of` their logarithms, as `cautious` has them. Single inferences and blocks are
    never taken for independent evidence: they share the machine's state and the luck of their
    process.

    Source: Kalibera & Jones, "Rigorous benchmarking in reasonable time", ISMM 2013.

    Args:
        values, baseline: for each launch, the median times of its rounds' blocks; two launches or
            more.
    """
    ratios = paired_logarithms(values, baseline)
    middle, error, freedom = cautious(effect_of(ratios), len(ratios))
    reach = student_quantile((1 + confidence) / 2, freedom) * error
    interval = Interval(low=exp(middle - reach), high=exp(middle + reach), confidence=confidence)
    return exp(middle), interval


def paired_logarithms(
    values: Sequence[Sequence[float]], baseline: Sequence[Sequence[float]]
) -> list[float]:
    """The one figure of each launch that `paired_ratio` goes by, as a natural logarithm."""
    return [
        log(median(value / base for value, base in zip(*launch, strict=True)))
        for launch in zip(values, baseline, strict=True)
    ]


class Mean(NamedTuple):
    """A mean, its standard error, and the degrees of freedom of that."""

    middle: float
    error: float
    freedom: int


def trimmed_mean(values: Sequence[float]) -> Mean:
    """The mean without the fifth of the values at either end, where that is one or more.

    One launch that another process disturbed decides nothing then. The error is that of the
    Winsorized values, and what was left out is no degree of freedom.

    Source: Yuen, "The two-sample trimmed t for unequal population variances", Biometrika 61, 1974.

    Args:
        values: two or more.
    """
    ordered = sorted(values)
    count = len(ordered)
    cut = int(TRIMMED * count)
    kept = ordered[cut : count - cut]
    winsorized = [kept[0]] * cut + kept + [kept[-1]] * cut
    centre = fmean(winsorized)
    # In the order of size, so that the order of the values cannot move the last digit.
    squares = fsum(sorted((value - centre) ** 2 for value in winsorized))
    error = sqrt(squares / (len(kept) * (len(kept) - 1)))
    return Mean(middle=fmean(kept), error=error, freedom=len(kept) - 1)


def effect_of(launches: Sequence[float]) -> Mean:
    """The mean of what each launch says of two artifacts, in the order of the launches.

    Which of the two starts first changes with each launch, and whoever does may be a few percent
    faster or slower for it. So the launches are two groups, each with a `trimmed_mean`, and their
    middle is free of that. Fewer than `GROUPED` launches are taken together.

    Args:
        launches: logarithms of ratios; two or more.
    """
    if len(launches) < GROUPED:
        return trimmed_mean(launches)
    one, other = trimmed_mean(launches[::2]), trimmed_mean(launches[1::2])
    return Mean(
        middle=(one.middle + other.middle) / 2,
        error=sqrt(one.error**2 + other.error**2) / 2,
        freedom=one.freedom + other.freedom,
    )


def cautious(mean: Mean, count: int, least: float = LEAST_SPREAD) -> Mean:
    """Return a mean of logarithms with an error that holds what it says for few values.

    It is no smaller than values that differ by ``least`` have. Where values were trimmed, Student's
    distribution with Yuen's degrees of freedom is too narrow for so few: at a level of 5 % it is
    wrong in 6.2 % for 5 values and in 5.4 % for 12, and half as often again at one of 0.25 %. With
    one degree less it is as wide as it says, which was simulated.

    Args:
        count: of the values.
    """
    # One mean costs a degree of freedom, and two groups cost two; what is beyond was trimmed.
    trimmed = count - mean.freedom > _GROUPS
    return Mean(
        middle=mean.middle,
        error=max(mean.error, least / sqrt(mean.freedom + 1)),
        freedom=max(1, mean.freedom - trimmed),
    )


@cache
def student_quantile(share: float, freedom: int) -> float:
    """The value below which ``share`` (above 0.5) of Student's t distribution lies.

    By bisection, to about ten digits.
    """
    beyond = 2 * (1 - share)
    low, high = 0.0, 1.0
    while student_p(high, freedom) > beyond:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if student_p(middle, freedom) > beyond else (low, middle)
    return (low + high) / 2


def student_p(t: float, freedom: int) -> float:
    """The share of Student's t distribution that is farther from 0 than ``t``, on both sides.

    Source: Abramowitz & Stegun, "Handbook of Mathematical Functions", 26.7.3 and 26.7.4: exact
    for whole degrees of freedom.
    """
    angle = atan2(abs(t), sqrt(freedom))
    sine, cosine = sin(angle), cos(angle)
    odd = freedom % 2
    term = cosine if odd else 1.0
    total = 0.0
    for step in range(freedom // 2):
        total += term
        term *= cosine * cosine * (2 * step + 1 + odd) / (2 * step + 2 + odd)
    within = 2 / pi * (angle + sine * total) if odd else sine * total
    return max(0.0, 1 - within)

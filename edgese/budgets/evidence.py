"""What is known of a figure and how it spreads: intervals at any confidence, and p-values; pure.

Figures that spread are compared with a bound by the p-value of just that bound, two-sided, so that
an interval holds the bound exactly where its p-value is above 1 - confidence. That lets several
cells be judged together, each at the confidence that is left for it.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, exp, fsum, inf, isinf, log, sqrt
from typing import Final, Protocol

from edgese.evaluation.pairing import paired_answers
from edgese.measure.statistics import (
    LEAST_SPREAD,
    Mean,
    cautious,
    student_p,
    student_quantile,
    trimmed_mean,
)
from edgese.records.base import Interval
from edgese.records.evaluation import Evaluation
from edgese.statistics import binomial_p, clopper_pearson, paired_interval, paired_p

_MOST_LOG: Final = 600.0
# A slowdown that is to be seen is seen in so many of 100 cases.
POWER: Final = 0.95
# Of counted instructions: the largest difference that was seen with one thread.
LEAST_COUNT_SPREAD: Final = 2e-4


class Evidence(Protocol):
    """A figure, and how far it may be from the truth."""

    @property
    def value(self) -> float:
        """The best guess."""

    def interval(self, confidence: float) -> Interval | None:
        """Where the truth lies; None where it is not known how the figure spreads."""

    def p_value(self, bound: float) -> float | None:
        """That the truth is just ``bound``; None where the figure is exact or its spread unknown.

        An exact figure has an interval, of no width.
        """

    def smallest_seen(self, bound: float, confidence: float) -> float | None:
        """The least truth above ``bound`` that is seen to be so in `POWER` of all cases."""


@dataclass(frozen=True, kw_only=True)
class Exact:
    """A figure that was read or counted."""

    value: float

    def interval(self, confidence: float) -> Interval:
        """Of no width."""
        return Interval(low=self.value, high=self.value, confidence=confidence)

    def p_value(self, bound: float) -> None:
        """There is nothing to test."""
        del bound

    def smallest_seen(self, bound: float, confidence: float) -> None:
        """Anything above the bound is seen."""
        del bound, confidence


@dataclass(frozen=True, kw_only=True)
class Unknown:
    """A figure of which nobody knows how far it may be off: it can neither meet nor miss."""

    value: float

    def interval(self, confidence: float) -> None:
        """Not known."""
        del confidence

    def p_value(self, bound: float) -> None:
        """Not known."""
        del bound

    def smallest_seen(self, bound: float, confidence: float) -> None:
        """Not known."""
        del bound, confidence


@dataclass(frozen=True, kw_only=True)
class Predicted:
    """A figure that is off by as much as such predictions were where the truth was left out.

    Attributes:
        steps: of each prediction that it stands on, the factors that
            `edgese.records.prediction.Evidence.quantiles` describes. Where there are several, the
            errors may add up, and what is left for one is not left for the other.
    """

    value: float
    steps: tuple[tuple[float, ...], ...]

    def interval(self, confidence: float) -> Interval | None:
        """Split-conformal; None where too few groups were left out for this confidence."""
        reach = _reach(1 - confidence, self.steps)
        if isinf(reach):
            return None
        return Interval(
            low=self.value * exp(-reach), high=self.value * exp(reach), confidence=confidence
        )

    def p_value(self, bound: float) -> float:
        """The share of groups, the one to come among them, that may be off by so much.

        Source: Vovk, Gammerman & Shafer, "Algorithmic Learning in a Random World", 2005.
        """
        return _beyond(abs(_log(bound) - log(self.value)), self.steps)

    def smallest_seen(self, bound: float, confidence: float) -> None:
        """Not known."""
        del bound, confidence


def _beyond(distance: float, steps: Sequence[tuple[float, ...]]) -> float:
    """Return the chance at most that errors add up to ``distance`` or more."""
    groups, *others = steps
    logs = [*map(log, groups)]
    whole = len(logs) + 1
    if not others:
        return (whole - bisect_left(logs, distance)) / whole
    shares = [
        (whole - k) / whole + _beyond(distance - logs[k - 1], others)
        for k in range(1, whole)
        if logs[k - 1] < distance
    ]
    return min([1.0, *shares])


def _reach(level: float, steps: Sequence[tuple[float, ...]]) -> float:
    """Return the largest distance whose `_beyond` is above ``level``; infinite where all are."""
    groups, *others = steps
    whole = len(groups) + 1
    if not others:
        # Rounding must not ask for one group more.
        k = max(1, ceil((1 - level) * whole - 1e-9))
        return log(groups[k - 1]) if k < whole else inf
    return min(
        [
            log(groups[k - 1]) + _reach(left, others)
            for k in range(1, whole)
            if (left := level - (whole - k) / whole) > 0
        ],
        default=inf,
    )


@dataclass(frozen=True, kw_only=True)
class Times:
    """A time, or a ratio of two, whose logarithm spreads like Student's t.

    Attributes:
        middle: natural logarithm of the figure.
        error: standard error of it.
        freedom: degrees of freedom of that error.
        offset: added to the figure: -1 makes a growth of a ratio.
    """

    middle: float
    error: float
    freedom: int
    offset: float = 0.0

    @property
    def value(self) -> float:
        """The figure itself."""
        return _exp(self.middle) + self.offset

    def interval(self, confidence: float) -> Interval:
        """Student's, of the logarithm."""
        reach = student_quantile((1 + confidence) / 2, self.freedom) * self.error
        return Interval(
            low=_exp(self.middle - reach) + self.offset,
            high=_exp(self.middle + reach) + self.offset,
            confidence=confidence,
        )

    def p_value(self, bound: float) -> float:
        """Student's test, two-sided."""
        away = self.middle - _log(bound - self.offset)
        if self.error == 0:
            return 1.0 if away == 0 else 0.0
        return student_p(away / self.error, self.freedom)

    def smallest_seen(self, bound: float, confidence: float) -> float:
        """The bound, and both quantiles of the error beyond it."""
        reach = student_quantile((1 + confidence) / 2, self.freedom)
        reach += student_quantile(POWER, self.freedom)
        return _exp(_log(bound - self.offset) + reach * self.error) + self.offset


def over_launches(values: Sequence[float], least: float = LEAST_SPREAD) -> Times | Unknown:
    """One figure of each process: their `trimmed_mean`, of logarithms.

    One process says nothing of how processes differ, and a time or a size of 0 is none.

    Args:
        least: that they differ by at least, as a share.
    """
    if len(values) < 2 or min(values) <= 0:
        return Unknown(value=values[0])
    return times_of(trimmed_mean([*map(log, values)]), len(values), least=least)


def times_of(mean: Mean, count: int, *, offset: float = 0.0, least: float = LEAST_SPREAD) -> Times:
    """A mean of logarithms, as `edgese.measure.statistics.cautious` has it.

    Args:
        count: of the values.
        offset: see `Times`.
    """
    middle, error, freedom = cautious(mean, count, least)
    return Times(middle=middle, error=error, freedom=freedom, offset=offset)


def as_uncertain_as(own: Times | Unknown, spread: float, freedom: int) -> Times:
    """The figure of a run with the error of whole runs, or with its own where that is larger.

    Args:
        own: over the processes of one run.
        spread: standard deviation of the logarithms of runs; ``freedom`` are its degrees.
    """
    if isinstance(own, Unknown) or own.error <= spread:
        return Times(middle=log(own.value), error=max(spread, LEAST_SPREAD), freedom=freedom)
    # No less strict than with the smaller error.
    return Times(middle=own.middle, error=own.error, freedom=min(own.freedom, freedom))


def over_one_process(value: float, launches: Sequence[float]) -> Times | Unknown:
    """A figure of a single process, which is off by as much as single processes are.

    Args:
        launches: the same figure of each launch of a job on the same device.
    """
    each = over_launches(launches)
    if isinstance(each, Unknown):
        return Unknown(value=value)
    kept = trimmed_mean([*map(log, launches)]).freedom + 1
    return Times(middle=log(value), error=each.error * sqrt(kept), freedom=each.freedom)


@dataclass(frozen=True, kw_only=True)
class Proportion:
    """A share of pictures that were drawn from many more, with an exact interval."""

    count: int
    of: int

    @property
    def value(self) -> float:
        """The share."""
        return self.count / self.of

    def interval(self, confidence: float) -> Interval:
        """Clopper and Pearson's."""
        return clopper_pearson(self.count, self.of, confidence)

    def p_value(self, bound: float) -> float:
        """The exact binomial test, which the interval is the inverse of."""
        return binomial_p(self.count, self.of, bound)

    def smallest_seen(self, bound: float, confidence: float) -> None:
        """Not told: a floor is not approached from above."""
        del bound, confidence


@dataclass(frozen=True, kw_only=True)
class Paired:
    """How much lower a share is than another one on the same pictures.

    Attributes:
        both, only_first, only_second, neither: pictures that are classified correctly by whom.
    """

    both: int
    only_first: int
    only_second: int
    neither: int

    @property
    def value(self) -> float:
        """Share of the first less that of the second."""
        return (self.only_first - self.only_second) / self.count

    @property
    def count(self) -> int:
        """Pictures of both."""
        return self.both + self.only_first + self.only_second + self.neither

    def interval(self, confidence: float) -> Interval:
        """Exact, whatever share of the pictures the two differ on."""
        return paired_interval(self.only_first, self.only_second, self.count, confidence)

    def p_value(self, bound: float) -> float:
        """The exact test that the interval is the inverse of."""
        return paired_p(self.only_first, self.only_second, self.count, bound)

    def smallest_seen(self, bound: float, confidence: float) -> None:
        """Not told: it hangs on how many pictures differ."""
        del bound, confidence


@dataclass(frozen=True, kw_only=True)
class Between:
    """A figure of which some answers are missing: it lies between two others.

    Attributes:
        low, high: what it is if all that is missing goes one way, or the other.
        at_most: whether the high end is the pessimistic one.
    """

    low: Evidence
    high: Evidence
    at_most: bool

    @property
    def value(self) -> float:
        """The pessimistic end: what is missing must not flatter."""
        return self.high.value if self.at_most else self.low.value

    def interval(self, confidence: float) -> Interval | None:
        """From the low end of one to the high end of the other."""
        low, high = self.low.interval(confidence), self.high.interval(confidence)
        if low is None or high is None:
            return None
        return Interval(low=low.low, high=high.high, confidence=confidence)

    def p_value(self, bound: float) -> float | None:
        """The larger one of both ends; 1 where the bound lies between them."""
        p_values = (self.low.p_value(bound), self.high.p_value(bound))
        if self.low.value <= bound <= self.high.value and self.low.value < self.high.value:
            return 1.0
        return None if None in p_values else max(p for p in p_values if p is not None)

    def smallest_seen(self, bound: float, confidence: float) -> None:
        """Not told: it hangs on what is missing."""
        del bound, confidence


def proportion(right: int, missing: int, count: int) -> Proportion | Between:
    """The share of what is right; what is missing among ``count`` is counted both ways."""
    found = Proportion(count=right, of=count)
    if not missing:
        return found
    return Between(low=found, high=Proportion(count=right + missing, of=count), at_most=False)


def paired(reference: Evaluation, other: Evaluation) -> Paired | Between:
    """How much lower ``other`` is than ``reference``; both are of the same images.

    What one of them could not read is counted both ways.
    """
    answers = paired_answers(reference, other)
    # Of the low end whatever is missing is right in the second alone; of the high end the reverse.
    low = _paired([(bool(one.first), one.second is not False) for one in answers])
    high = _paired([(one.first is not False, bool(one.second)) for one in answers])
    return low if low == high else Between(low=low, high=high, at_most=True)


def _paired(pairs: Sequence[tuple[bool, bool]]) -> Paired:
    return Paired(
        both=pairs.count((True, True)),
        only_first=pairs.count((True, False)),
        only_second=pairs.count((False, True)),
        neither=pairs.count((False, False)),
    )


def joined(middle: float, errors: Sequence[float], freedom: int, offset: float = 0.0) -> Times:
    """A figure that is off by several independent errors, judged by one's degrees of freedom."""
    return Times(
        middle=middle,
        error=sqrt(fsum(error * error for error in errors)),
        freedom=freedom,
        offset=offset,
    )


def growth_of(value: float, baseline: float) -> Exact:
    """A growth of exact figures; 0.1 is 10 % more."""
    return Exact(value=value / baseline - 1 if baseline > 0 else (inf if value > 0 else 0.0))


def _exp(value: float) -> float:
    """Finite, however far two launches are apart."""
    return exp(min(value, _MOST_LOG))


def _log(value: float) -> float:
    return log(value) if value > 0 else -inf

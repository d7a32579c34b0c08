"""Which candidate is chosen of what is known; pure."""

from collections.abc import Iterator, Sequence
from math import inf
from typing import Final, NamedTuple

from edgese.budgets.judging import TRUST
from edgese.models.registry import models
from edgese.records.budget import Limit, Observation
from edgese.records.measurement import Caution
from edgese.records.selection import (
    Candidate,
    Decision,
    LimitStanding,
    NearMiss,
    Ranking,
    Relaxation,
    Standing,
    State,
)
from edgese.selection.expectation import Anchor, expected
from edgese.selection.limits import held

LATENCY: Final = "latency_p50_ms"
ACCURACY: Final = "accuracy"
SIZE: Final = "size_bytes"
SUSTAINED: Final = "sustained_p50_ms"
DROP: Final = "accuracy_drop"
MOST_NEAR: Final = 3
# Cautions after which a latency may be another machine state's.
_DISTURBED: Final = frozenset({"OUTLIERS", "THROTTLED", "DRIFT", "BIMODAL"})
# Accuracies that count; nothing else says what a candidate is worth.
ACCURACIES: Final = ("evaluated", "published")
# MnasNet's alpha and beta: twice the latency is worth 5 % of the accuracy.
EXPONENT: Final = -0.07


class Known(NamedTuple):
    """A candidate and all that is known of it.

    Attributes:
        failed: why it can be no candidate any more.
        artifact: path of its file.
        cautions: of its measurement.
    """

    candidate: Candidate
    figures: tuple[Observation, ...] = ()
    failed: str = ""
    artifact: str = ""
    cautions: tuple[Caution, ...] = ()


class Aim(NamedTuple):
    """What is to be chosen for.

    Attributes:
        target_ms: latency that MnasNet's reward is told against.
        exponent: of the latency in it, below 0.
    """

    limits: tuple[Limit, ...]
    ranking: Ranking = "accuracy"
    target_ms: float = 0.0
    exponent: float = EXPONENT


class Key(NamedTuple):
    """How good a candidate is; the larger one is chosen."""

    merit: float
    speed: float
    smallness: float


def decide(
    known: Sequence[Known], aim: Aim, *, spared: frozenset[Candidate] = frozenset()
) -> Decision:
    """The best candidate whose every limit is met at the pessimistic end.

    Ties go to the faster, then to the smaller, then to the first by name. Where none meets the
    budget, those that miss by least are told, with the bounds that they would meet.

    Args:
        spared: candidates on which nothing more was spent, since they cannot win.
    """
    ordered = sorted(known, key=lambda one: one.candidate)
    verdicts = {one.candidate: judge(one, aim) for one in ordered}
    meeting = [
        one
        for one in ordered
        if not one.failed
        and merit(one, aim) is not None
        and all(each.verdict == "meets" for each in verdicts[one.candidate])
    ]
    # Sorting is stable, so that of equals the first by name stays first.
    meeting.sort(key=lambda one: key(one, aim), reverse=True)
    best = meeting[0] if meeting else None
    standings = tuple(
        _standing(one, verdicts[one.candidate], best, aim, spared=one.candidate in spared)
        for one in ordered
    )
    return Decision(
        chosen=best.candidate.label if best else "",
        ranking=aim.ranking,
        standings=standings,
        runners_up=tuple(one.candidate.label for one in meeting[1:]),
        nearest=() if best else _nearest(standings),
        missing=() if best else _missing(standings),
        cautions=tuple(_cautions(best, meeting[1:], ordered)) if best else (),
    )


def judge(known: Known, aim: Aim) -> tuple[LimitStanding, ...]:
    """Every limit held against a candidate."""
    return tuple(held(limit, known.figures) for limit in limits_of(known.candidate, aim))


def collapsed(reason: str) -> str:
    """Return why an artifact whose quantization collapsed is no candidate; "" without a reason."""
    return f"Its quantization collapsed: {reason}." if reason else ""


def limits_of(candidate: Candidate, aim: Aim) -> tuple[Limit, ...]:
    """The limits that hold for a candidate: those of all targets, and those of its own."""
    return tuple(one for one in aim.limits if one.target in ("", candidate.target))


def figure(known: Known, quantity: str, sources: Sequence[str] = TRUST) -> Observation | None:
    """The most trustworthy figure of a quantity."""
    found = [one for one in known.figures if one.quantity == quantity and one.source in sources]
    return min(found, key=lambda one: TRUST.index(one.source), default=None)


def merit(known: Known, aim: Aim) -> float | None:
    """Accuracy, or MnasNet's reward; None where it is not known.

    Source: Tan et al., "MnasNet", arXiv:1807.11626, equation 2 with alpha = beta = ``exponent``.
    """
    accuracy = figure(known, ACCURACY, ACCURACIES)
    if accuracy is None or aim.ranking == "accuracy":
        return accuracy.value if accuracy else None
    latency = figure(known, LATENCY, _accepted(aim))
    return None if latency is None else accuracy.value * _factor(latency.value, aim)


def key(known: Known, aim: Aim) -> Key:
    """How good a candidate of which everything is known is."""
    latency = figure(known, LATENCY, _accepted(aim))
    size = figure(known, SIZE, ("read",))
    return Key(
        merit(known, aim) or 0.0,
        -latency.value if latency else -inf,
        -size.value if size else -inf,
    )


def hope(known: Known, aim: Aim) -> Key:
    """How good a candidate can turn out at most, as far as is known."""
    accuracy = figure(known, ACCURACY, ACCURACIES)
    latency = figure(known, LATENCY)
    size = figure(known, SIZE)
    share = accuracy.value if accuracy else 1.0
    # A look is measured too, and its middle may be slower than what the whole measurement finds.
    least = latency.low if latency else 0.0
    reward = share if aim.ranking == "accuracy" else share * _factor(least, aim)
    return Key(reward, -least, -size.low if size else 0.0)


def _accepted(aim: Aim) -> tuple[str, ...]:
    """Sources that a latency is taken from: what the limits on it accept, else what is measured."""
    sources = {
        source for limit in aim.limits if limit.quantity == LATENCY for source in limit.sources
    }
    return tuple(one for one in TRUST if one in (sources or {"measured"}))


def _factor(latency_ms: float, aim: Aim) -> float:
    return (latency_ms / aim.target_ms) ** aim.exponent if latency_ms > 0 else inf


def _standing(
    one: Known, verdicts: tuple[LimitStanding, ...], best: Known | None, aim: Aim, *, spared: bool
) -> Standing:
    state, reason = _state(one, verdicts, best, aim, spared=spared)
    return Standing(
        candidate=one.candidate,
        state=state,
        reason=reason,
        figures=tuple(sorted(one.figures, key=lambda each: TRUST.index(each.source))),
        judged=verdicts,
        merit=merit(one, aim),
        artifact=one.artifact,
    )


def _state(
    one: Known, verdicts: tuple[LimitStanding, ...], best: Known | None, aim: Aim, *, spared: bool
) -> tuple[State, str]:
    if one is best:
        return "chosen", ""
    if one.failed:
        return "failed", one.failed
    if missed := [each for each in verdicts if each.verdict == "misses"]:
        return "misses", "; ".join(map(in_words, missed))
    if spared and best is not None:
        return "cannot win", f"{best.candidate.label} is at least as good, whatever this one takes."
    reasons = [in_words(each) for each in verdicts if each.verdict == "unclear"]
    if merit(one, aim) is None:
        reasons.append("no accuracy is known: nobody published one of it, and none was evaluated")
    return ("unclear", "; ".join(reasons)) if reasons else ("meets", _behind(one, best, aim))


def _behind(one: Known, best: Known | None, aim: Aim) -> str:
    if best is None:
        return ""
    mine, other = key(one, aim), key(best, aim)
    noun = "accurate" if aim.ranking == "accuracy" else "rewarded"
    if mine.merit < other.merit:
        return f"Less {noun} than what is chosen."
    return "As accurate as what is chosen, and slower or larger."


def in_words(one: LimitStanding) -> str:
    """A limit that is not met, as a clause."""
    name, bound = one.limit.quantity, one.limit.bound
    if one.low is None:
        return f"{name} is not known from {' or '.join(one.limit.sources)} figures"
    high = "" if one.high is None else f"{one.high:.4g}"
    told = f"{one.low:.4g}" if high == f"{one.low:.4g}" else f"{one.low:.4g} to {high or 'more'}"
    return f"{name} is {told} ({one.source}), the bound {bound:g}"


def _cautions(best: Known, others: Sequence[Known], known: Sequence[Known]) -> Iterator[str]:
    """Yield what makes the order of candidates doubtful.

    Args:
        others: that meet the budget too.
        known: every candidate; latencies of one family that contradict each other show a
            measurement that something disturbed.
    """
    tied = [one for one in others if _is_tied(best, one)]
    if tied:
        yield (
            f"Accuracy does not separate {best.candidate.label} from "
            f"{_few([one.candidate.label for one in tied])}: their 95 % intervals overlap. More "
            "labelled images would tell them apart."
        )
    for one in known:
        if (ratio := _contradiction(best, one)) is not None:
            mine, other = (figure(each, LATENCY, ("measured",)) for each in (best, one))
            assert mine is not None, best  # noqa: S101  # a contradiction has both
            assert other is not None, one  # noqa: S101  # the same
            yield (
                f"{best.candidate.label} took {mine.value:.2f} ms and {one.candidate.label} "
                f"{other.value:.2f} ms, though the first has {ratio:.2g} times the multiply-adds: "
                "one of the two measurements was probably disturbed. Measure them side by side: "
                f"`edgese profile {best.artifact or 'FIRST'} {one.artifact or 'SECOND'}`."
            )
    for one in (best, *tied):
        for caution in one.cautions:
            if caution.code in _DISTURBED:
                yield f"{one.candidate.label}: {caution.message} {caution.advice}"


def _is_tied(one: Known, other: Known) -> bool:
    """Whether the images leave open which of two candidates is more accurate."""
    first, second = (figure(each, ACCURACY, ("evaluated",)) for each in (one, other))
    if first is None or second is None or first.high is None or second.high is None:
        return False
    return first.low <= second.high and second.low <= first.high


def _contradiction(one: Known, other: Known) -> float | None:
    """How many times the multiply-adds ``one`` has, where its latency cannot fit the other's.

    None where the latencies fit, where they are not of one family, or where one is not measured.
    """
    if one is other or _series(one.candidate) != _series(other.candidate):
        return None
    latencies = [figure(each, LATENCY, ("measured",)) for each in (one, other)]
    macs = [figure(each, "macs") for each in (one, other)]
    if latencies[0] is None or latencies[1] is None or macs[0] is None or macs[1] is None:
        return None
    fits = expected(macs[0].value, [Anchor(macs[1].value, latencies[1])])
    assert fits is not None  # noqa: S101  # there is an anchor
    assert fits.high is not None  # noqa: S101  # an expectation has both ends
    low, high = latencies[0].low, latencies[0].high or latencies[0].value
    return None if low <= fits.high and fits.low <= high else macs[0].value / macs[1].value


def _series(candidate: Candidate) -> tuple[str, ...]:
    """Candidates of which latency grows with the multiply-adds; a model of its own is alone."""
    named = models().get(candidate.model)
    family = named.family if named else candidate.label
    return (family, candidate.target, candidate.recipe, candidate.gates)


def _few(labels: Sequence[str]) -> str:
    more = f", and {len(labels) - MOST_NEAR} more" if len(labels) > MOST_NEAR else ""
    return "; ".join(labels[:MOST_NEAR]) + more


def _nearest(standings: Sequence[Standing]) -> tuple[NearMiss, ...]:
    """Those that miss by least; what is known of all its limits comes first."""
    found = []
    for one in standings:
        if one.state == "failed" or one.merit is None:
            continue
        missed = [each for each in one.judged if each.verdict != "meets"]
        told = [each for each in missed if each.excess is not None]
        if not told:
            continue
        worst = max(each.excess or 0.0 for each in told)
        unseen = len(missed) - len(told) + sum(each.source in _UNSEEN for each in told)
        near = NearMiss(
            label=one.label,
            excess=worst,
            relax=tuple(Relaxation(limit=each.limit, needed=_needed(each)) for each in told),
        )
        found.append(((unseen, worst, -one.merit, one.label), near))
    return tuple(near for _, near in sorted(found, key=lambda pair: pair[0])[:MOST_NEAR])


# What nobody saw says how far a candidate is beyond a limit at least, and no more.
_UNSEEN: Final = frozenset({"bounded", "expected", "predicted", "estimated"})


def _needed(one: LimitStanding) -> float:
    """The bound that the pessimistic end would meet."""
    worst = one.high if one.limit.at_most else one.low
    found = one.low if worst is None else worst
    assert found is not None  # noqa: S101  # it has an excess
    return found


def _missing(standings: Sequence[Standing]) -> tuple[str, ...]:
    """Limits of which nothing that the budget accepts is known of any candidate."""
    seen: dict[str, bool] = {}
    for one in standings:
        for each in one.judged if one.state != "failed" else ():
            name = each.limit.quantity
            seen[name] = seen.get(name, False) or each.low is not None
    return tuple(limit for limit, known in seen.items() if not known)

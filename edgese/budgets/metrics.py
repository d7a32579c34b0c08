"""Finds the evidence for a limit in what is known of a candidate; pure."""

from collections.abc import Callable
from itertools import chain
from statistics import fmean
from typing import Final, NamedTuple

from edgese.budgets import next_steps
from edgese.budgets.candidates import Candidate
from edgese.budgets.evidence import (
    LEAST_COUNT_SPREAD,
    Evidence,
    Exact,
    Predicted,
    Unknown,
    as_uncertain_as,
    growth_of,
    over_launches,
    paired,
    proportion,
)
from edgese.budgets.judging import Cell, accepts
from edgese.budgets.next_steps import Files
from edgese.budgets.regression import (
    FEWEST_RUNS,
    beside,
    describe,
    figure_of,
    from_files,
    memory_growth,
    noise_for,
    reaches,
    reaches_run,
    spread,
)
from edgese.evaluation.pairing import outcomes
from edgese.records.budget import RELATIVE, TIMES, BaselineCell, Limit, Noise, NoiseFile
from edgese.records.evaluation import Evaluation
from edgese.records.measurement import BinaryRun, MeasurePlan, Profile
from edgese.records.prediction import Prediction


class Against(NamedTuple):
    """What a candidate is held against beside its budget.

    Attributes:
        noises: of devices; None where none were calibrated.
        files: as they were named, for commands.
    """

    baseline: BaselineCell | None
    noises: NoiseFile | None
    files: Files = Files()


class _Found(NamedTuple):
    evidence: Evidence | None
    source: str
    reason: str
    next_step: str = ""


def cell_of(limit: Limit, candidate: Candidate, against: Against) -> Cell:
    """A limit and the evidence for it, or what is missing."""
    if limit.quantity in RELATIVE:
        found = _relative(limit, candidate, against)
    elif limit.quantity in TIMES:
        found = _time(limit, candidate, against)
    elif limit.quantity == "memory_mb":
        found = _memory(candidate, against)
    else:
        found = _OTHERS[limit.quantity](candidate)
    if found.evidence is not None and found.source not in limit.sources:
        reason = f"It is {found.source}, {accepts(limit)}."
        if candidate.absence:
            reason += f" {candidate.absence}"
        return Cell(limit, None, reason=reason, next_step=next_steps.measure_candidate(candidate))
    return Cell(limit, *found)


def _time(limit: Limit, candidate: Candidate, against: Against) -> _Found:
    if candidate.profile is not None:
        if limit.quantity == "sustained_p50_ms":
            return _sustained(candidate)
        return _over_runs(limit.quantity, candidate, candidate.profile, against)
    if candidate.program is not None:
        return _of_program(limit, candidate, candidate.program.run)
    if limit.quantity == "latency_p50_ms":
        if candidate.prediction is not None:
            return _predicted(candidate, candidate.prediction)
        if candidate.estimate is not None:
            # A compiler's arithmetic gives the same figure each time.
            estimate = candidate.estimate
            told = f"the figure of {estimate.compiler}, which no chip was asked about"
            return _Found(Exact(value=estimate.latency_ms), "estimated", told)
    kind = "emulated" if candidate.emulation else "not known"
    reason = f"It is {kind}, {accepts(limit)}."
    return _Found(None, "", reason, next_steps.measure_candidate(candidate))


def _over_runs(quantity: str, candidate: Candidate, profile: Profile, against: Against) -> _Found:
    """A time, as runs on the device give it on average.

    The processes of one run share the machine's state at that time, so how runs differ is asked of
    runs: of the device's noise, or of this artifact's own, where there are enough of them.
    """
    runs = _runs(candidate)
    figures = [figure_of(quantity, run.launches) for _, run in runs]
    told = f"{len(profile.launches)} launches, {profile.latency.count} inferences"
    if len(runs) > 1:
        told = f"{len(runs)} runs of {told} each"
    noise = _noise_of_runs(candidate, profile, against.noises, quantity)
    if noise is not None:
        own = over_launches([one.value for one in figures]) if len(runs) > 1 else figures[0]
        return _Found(
            as_uncertain_as(own, *spread(noise, quantity)),
            profile.source,
            f"{told}; {describe(noise, quantity)}",
            next_steps.calibrate(candidate, against.files, 4),
        )
    if len(runs) >= FEWEST_RUNS:
        return _Found(
            over_launches([one.value for one in figures]),
            profile.source,
            told,
            next_steps.measure_again(candidate),
        )
    known = noise_for(against.noises, profile, candidate.plan, quantity) if candidate.plan else None
    why = (
        "The noise of this device is of another time than the measurement, and a machine changes "
        "from day to day; a new calibration adds to it."
        if known
        else f"{told} do not show how far this device is off from itself from run to run, which "
        f"noise does, or {FEWEST_RUNS} runs of the artifact."
    )
    value = fmean(one.value for one in figures)
    return _Found(
        Unknown(value=value),
        profile.source,
        why,
        next_steps.calibrate(candidate, against.files),
    )


def _runs(candidate: Candidate) -> list[tuple[Candidate, Profile]]:
    every = (*candidate.repeats, candidate)
    return [(one, one.profile) for one in every if one.profile is not None]


def _noise_of_runs(
    candidate: Candidate, profile: Profile, noises: NoiseFile | None, quantity: str
) -> Noise | None:
    """The noise that knows of the times of all runs."""
    noise = noise_for(noises, profile, candidate.plan, quantity) if candidate.plan else None
    if noise is None or not all(reaches_run(noise, one.measured) for one, _ in _runs(candidate)):
        return None
    return noise


def _predicted(candidate: Candidate, one: Prediction) -> _Found:
    steps = tuple(each.quantiles for each in one.evidence)
    settle = next_steps.measure_candidate(candidate)
    if not steps or not all(steps):
        return _Found(
            Unknown(value=one.latency_ms),
            "predicted",
            "The prediction does not say how far such predictions were off.",
            settle,
        )
    groups = " and ".join(str(len(each)) for each in steps)
    told = f"{one.rows} published measurements; errors of {groups} chips or networks left out"
    return _Found(Predicted(value=one.latency_ms, steps=steps), "predicted", told, settle)


def _of_program(limit: Limit, candidate: Candidate, run: BinaryRun) -> _Found:
    value = {
        "latency_p50_ms": run.p50_ms,
        "latency_p90_ms": run.p90_ms,
        "load_ms": run.load_ms,
        "first_run_ms": run.first_run_ms,
    }.get(limit.quantity)
    settle = next_steps.measure_candidate(candidate)
    if value is None:
        return _Found(None, "", f"{run.tool} does not tell it.", settle)
    return _Found(
        Unknown(value=value),
        "measured",
        f"{run.tool} measured one process, which does not say how processes differ.",
        settle,
    )


def _sustained(candidate: Candidate) -> _Found:
    """The end of a run without a pause; how such runs differ, only several of them show."""
    curves = [one.curve for one, _ in _runs(candidate) if one.curve is not None]
    settle = next_steps.sustain(candidate)
    if not curves:
        return _Found(None, "", "It was not measured.", settle)
    ends = [curve.last.p50_ms for curve in curves]
    told = f"{len(curves)} {'runs' if len(curves) > 1 else 'run'} without a pause"
    if len(curves) < FEWEST_RUNS:
        return _Found(
            Unknown(value=fmean(ends)),
            "measured",
            f"{told} do not show how such runs differ; give the files of {FEWEST_RUNS}.",
            settle,
        )
    return _Found(over_launches(ends), "measured", told, settle)


def _relative(limit: Limit, candidate: Candidate, against: Against) -> _Found:
    base = against.baseline
    if base is None:
        return _Found(
            None,
            "",
            "There is no baseline: give --baseline FILE.",
            next_steps.keep_baseline(candidate, against.files),
        )
    profile = candidate.profile
    if profile is None or candidate.plan is None:
        settle = next_steps.measure_candidate(candidate)
        return _Found(None, "", "It was not measured.", settle)
    then = base.profile
    if limit.quantity == "size_growth":
        if candidate.size_bytes is None:
            settle = next_steps.measure_candidate(candidate)
            return _Found(None, "", candidate.uncounted or _UNCOUNTED, settle)
        told = f"{candidate.size_bytes} bytes, {then.size_bytes} before"
        return _Found(growth_of(candidate.size_bytes, then.size_bytes), "read", told)
    if limit.quantity == "memory_growth":
        return _memory_growth(candidate, profile, then, against)
    return _slowdown(candidate, profile, candidate.plan, base, against)


def _memory_growth(
    candidate: Candidate, profile: Profile, then: Profile, against: Against
) -> _Found:
    noise = _noise_of_runs(candidate, profile, against.noises, "memory_mb")
    if candidate.beside is not None:
        then, noise = candidate.beside, None
    elif noise is None:
        return _Found(
            None,
            "",
            "From files alone nobody can tell how far apart runs are in memory; noise does, or the "
            "artifacts themselves, measured in turns.",
            next_steps.calibrate(candidate, against.files),
        )
    every = list(chain.from_iterable(run.launches for _, run in _runs(candidate)))
    found = memory_growth(every, then.launches, noise)
    settle = next_steps.measure_longer(candidate)
    if found is None:
        return _Found(None, "", "One launch says nothing of how launches differ.", settle)
    told = f"{len(every)} launches, {len(then.launches)} of the baseline"
    return _Found(found, "measured", told, settle)


def _slowdown(
    candidate: Candidate,
    profile: Profile,
    plan: MeasurePlan,
    base: BaselineCell,
    against: Against,
) -> _Found:
    if candidate.beside is not None:
        now = candidate.beside
        longer = next_steps.side_by_side(candidate, against.files, 2)
        if min(len(profile.launches), len(now.launches)) < 2:
            return _Found(None, "", "One launch says nothing of how launches differ.", longer)
        told = f"beside the baseline's artifact, {len(now.launches)} launches"
        return _Found(beside(profile, now), profile.source, told, longer)
    noise = noise_for(against.noises, profile, plan)
    if noise is None:
        return _Found(
            None,
            "",
            "From files alone nobody can tell how far this device is off from itself; noise "
            "does, or the artifacts themselves, measured in turns.",
            next_steps.calibrate(candidate, against.files),
        )
    runs = _runs(candidate)
    if not all(reaches(noise, one.measured, base.measured) for one, _ in runs):
        return _Found(
            None,
            "",
            "The noise of this device was measured within a shorter time than lies between the "
            "two measurements, and a machine changes from day to day. A calibration now, and on "
            "other days, adds to what there is; or give the artifacts themselves.",
            next_steps.calibrate(candidate, against.files),
        )
    told = f"from files; {describe(noise)}"
    found = from_files([run for _, run in runs], base.profile, noise)
    return _Found(found, profile.source, told, next_steps.side_by_side(candidate, against.files))


def _memory(candidate: Candidate, against: Against) -> _Found:
    """The peak of a process, on average: unlike times, processes of one run differ as all do."""
    profile = candidate.profile
    if profile is None:
        settle = next_steps.measure_candidate(candidate)
        return _Found(None, "", "It was not measured.", settle)
    every = list(chain.from_iterable(run.launches for _, run in _runs(candidate)))
    own = figure_of("memory_mb", every)
    settle = next_steps.measure_longer(candidate)
    if isinstance(own, Unknown):
        told = "One launch says nothing of how launches differ."
        return _Found(own, profile.source, told, settle)
    told = f"{len(every)} launches"
    noise = _noise_of_runs(candidate, profile, against.noises, "memory_mb")
    if noise is not None:
        own = as_uncertain_as(own, *spread(noise, "memory_mb"))
        told = f"{told}; {describe(noise, 'memory_mb')}"
    return _Found(own, profile.source, told, settle)


def _size(candidate: Candidate) -> _Found:
    if candidate.size_bytes is None:
        return _Found(
            None, "", candidate.uncounted or _UNCOUNTED, next_steps.measure_candidate(candidate)
        )
    told = f"{candidate.size_bytes} bytes in the file"
    return _Found(Exact(value=candidate.size_bytes), "read", told)


def _macs(candidate: Candidate) -> _Found:
    if candidate.macs is None:
        return _Found(
            None,
            "",
            candidate.uncounted or "No spec describes the network, so nobody has counted it.",
            next_steps.convert(candidate),
        )
    told = f"counted for an input of {candidate.resolution[0]}x{candidate.resolution[1]}"
    return _Found(Exact(value=candidate.macs), "counted", told)


def _instructions(candidate: Candidate) -> _Found:
    """What an inference takes on average, over processes; those of one process are not independent.

    Within one process, only threads make counts differ. Each process lays out its memory anew.
    """
    every = [one.emulation for one in (*candidate.repeats, candidate) if one.emulation is not None]
    settle = next_steps.count_again(candidate)
    if not every:
        return _Found(None, "", "It was not counted.", settle)
    processes = [fmean(process) for one in every for process in one.totals if process]
    if not processes:
        return _Found(None, "", "No inference was counted.", settle)
    evidence = over_launches(processes, LEAST_COUNT_SPREAD)
    if isinstance(evidence, Unknown):
        told = "One process does not say how processes differ; give the files of several counts."
        return _Found(evidence, "emulated", told, settle)
    return _Found(evidence, "emulated", f"{every[-1].cpu}, {len(processes)} processes", settle)


def _partitions(candidate: Candidate) -> _Found:
    if candidate.delegate is not None:
        if candidate.delegate.partitions is None:
            reason = f"{candidate.delegate.title} does not tell its pieces."
            return _Found(None, "", reason, next_steps.inspect(candidate))
        told = f"{candidate.delegate.title}, {candidate.delegate.basis}"
        return _Found(Exact(value=candidate.delegate.partitions), "read", told)
    return _Found(None, "", candidate.uncounted or _UNCOUNTED, next_steps.inspect(candidate))


def _cpu_operators(candidate: Candidate) -> _Found:
    report = candidate.delegate
    if report is not None:
        if report.taken is None:
            reason = f"{report.title} does not tell what it leaves out."
            return _Found(None, "", reason, next_steps.inspect(candidate))
        told = f"{report.title}, {report.basis}"
        return _Found(Exact(value=report.operators - report.taken), "read", told)
    if candidate.estimate is not None and not candidate.uncounted:
        return _Found(
            Exact(value=candidate.estimate.cpu_operators), "read", candidate.estimate.compiler
        )
    return _Found(None, "", candidate.uncounted or _UNCOUNTED, next_steps.inspect(candidate))


def _accuracy(candidate: Candidate) -> _Found:
    one = candidate.evaluation
    if one is None:
        reason = candidate.no_evaluation or _NOT_EVALUATED
        return _Found(None, "", reason, next_steps.evaluate(candidate))
    answers = outcomes(one)
    evidence = proportion(answers.count(True), answers.count(None), len(answers))
    told = f"{len(answers)} images of {one.data.source}{_unread(one)}"
    return _Found(evidence, "evaluated", told, next_steps.evaluate(candidate, _MORE))


def _accuracy_drop(candidate: Candidate) -> _Found:
    one, reference = candidate.evaluation, candidate.reference
    if one is None:
        reason = candidate.no_evaluation or _NOT_EVALUATED
        return _Found(None, "", reason, next_steps.evaluate(candidate))
    if reference is None:
        again = next_steps.evaluate_reference(candidate, one.data.source)
        return _Found(None, "", candidate.no_reference, again)
    told = f"compared with {reference.subject} on {len(outcomes(one))} images"
    told += _unread(one, reference)
    settle = next_steps.evaluate(candidate, _MORE)
    return _Found(paired(reference, one), "evaluated", told, settle)


def _unread(*evaluations: Evaluation) -> str:
    """Say that images are missing, and what follows; "" where none is."""
    left = {image.file for one in evaluations for image in one.unreadable}
    if not left:
        return ""
    return (
        f"; {len(left)} of {evaluations[0].data.listed} could not be read, such as {min(left)}, "
        "and are counted both as right and as wrong: replace them or take them out of the list"
    )


_UNCOUNTED: Final = "Nobody has read it from the artifact: give that beside its profile."
_NOT_EVALUATED: Final = "It was not evaluated, or that file was not given."
# What an interval is too wide for, more of the same makes narrower.
_MORE: Final = "FOLDER_OF_MORE_IMAGES"
_OTHERS: Final[dict[str, Callable[[Candidate], _Found]]] = {
    "size_bytes": _size,
    "macs": _macs,
    "instructions": _instructions,
    "partitions": _partitions,
    "cpu_operators": _cpu_operators,
    "accuracy": _accuracy,
    "accuracy_drop": _accuracy_drop,
}

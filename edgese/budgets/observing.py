"""Finds the evidence for a limit in what is known of a candidate; pure."""

from collections.abc import Callable
from typing import Final, NamedTuple

from edgese.budgets.candidates import Candidate
from edgese.budgets.evidence import (
    Evidence,
    Exact,
    Given,
    Times,
    Unknown,
    growth_of,
    over_launches,
    over_one_process,
    paired,
    proportion,
)
from edgese.budgets.inputs import EVALUATE, PROFILE
from edgese.budgets.judging import Cell, accepts
from edgese.budgets.regression import (
    beside,
    describe,
    from_files,
    noise_for,
    reaches,
    spread,
)
from edgese.evaluation.pairing import outcomes
from edgese.measure.summary import OF_LAUNCH, p50_ms
from edgese.records.baseline import BaselineCell, Noise, NoiseFile
from edgese.records.binary import BinaryRun
from edgese.records.budget import RELATIVE, TIMES, Limit
from edgese.records.evaluation import Evaluation
from edgese.records.measurement import MeasurePlan, Profile


class Against(NamedTuple):
    """What a candidate is held against beside its budget.

    Attributes:
        noises: of devices; None where none were calibrated.
    """

    baseline: BaselineCell | None
    noises: NoiseFile | None


class _Found(NamedTuple):
    evidence: Evidence | None
    source: str
    reason: str


def cell_of(limit: Limit, candidate: Candidate, against: Against) -> Cell:
    """A limit and the evidence for it, or what is missing."""
    if limit.quantity in RELATIVE:
        found = _relative(limit, candidate, against)
    elif limit.quantity in TIMES:
        found = _time(limit, candidate, against)
    else:
        found = _OTHERS[limit.quantity](candidate)
    if found.evidence is not None and found.source not in limit.sources:
        reason = f"It is {found.source}, {accepts(limit)}."
        if candidate.absence:
            reason += f" {candidate.absence}"
        return Cell(limit, None, reason=f"{reason} {_measure(candidate)}")
    return Cell(limit, *found)


def _time(limit: Limit, candidate: Candidate, against: Against) -> _Found:
    profile = candidate.profile
    if profile is not None:
        if limit.quantity == "sustained_p50_ms":
            return _sustained(candidate, profile)
        of = OF_LAUNCH[limit.quantity]
        evidence: Evidence = over_launches([of(launch) for launch in profile.launches])
        told = f"{len(profile.launches)} launches, {profile.latency.count} inferences"
        noise = candidate.plan and noise_for(against.noises, profile, candidate.plan)
        if noise and isinstance(evidence, Times) and limit.quantity.startswith("latency"):
            evidence, told = _with_noise(evidence, noise, told)
        return _Found(evidence, profile.source, told)
    if candidate.program is not None:
        return _of_program(limit, candidate.program.run)
    if limit.quantity == "latency_p50_ms":
        if candidate.prediction is not None:
            one = candidate.prediction
            given = Given(value=one.latency_ms, low=one.interval.low, high=one.interval.high)
            return _Found(given, "predicted", f"{one.rows} published measurements")
        if candidate.estimate is not None:
            # A compiler's arithmetic gives the same figure each time.
            estimate = candidate.estimate
            return _Found(Exact(value=estimate.latency_ms), "estimated", estimate.compiler)
    kind = "emulated" if candidate.emulation else "not known"
    return _Found(None, "", f"It is {kind}, {accepts(limit)}. {_measure(candidate)}")


def _of_program(limit: Limit, run: BinaryRun) -> _Found:
    value = {
        "latency_p50_ms": run.p50_ms,
        "latency_p90_ms": run.p90_ms,
        "load_ms": run.load_ms,
        "first_run_ms": run.first_run_ms,
    }.get(limit.quantity)
    if value is None:
        return _Found(None, "", f"{run.tool} does not tell it.")
    return _Found(
        Unknown(value=value),
        "measured",
        f"{run.tool} measured one process, which does not say how processes differ; "
        f"`{PROFILE}` does.",
    )


def _with_noise(evidence: Times, noise: Noise, told: str) -> tuple[Times, str]:
    """The wider of two errors: launches', and that of runs at different times."""
    runs, freedom = spread(noise)
    if runs <= evidence.error:
        return evidence, told
    return Times(middle=evidence.middle, error=runs, freedom=freedom), f"{told}; {describe(noise)}"


def _sustained(candidate: Candidate, profile: Profile) -> _Found:
    if candidate.curve is None:
        return _Found(
            None, "", "It was not measured: `edgese profile ARTIFACT --sustained 10m --out FILE`."
        )
    evidence = over_one_process(
        candidate.curve.last.p50_ms, [p50_ms(launch) for launch in profile.launches]
    )
    return _Found(evidence, "measured", "one process without a pause")


def _relative(limit: Limit, candidate: Candidate, against: Against) -> _Found:
    base = against.baseline
    if base is None:
        return _Found(None, "", "There is no baseline: give --baseline FILE.")
    profile = candidate.profile
    if profile is None or candidate.plan is None:
        return _Found(None, "", f"It was not measured. {_measure(candidate)}")
    then = base.profile
    if limit.quantity == "size_growth":
        if candidate.size_bytes is None:
            return _Found(None, "", candidate.uncounted)
        told = f"{candidate.size_bytes} bytes, {then.size_bytes} before"
        return _Found(growth_of(candidate.size_bytes, then.size_bytes), "read", told)
    if limit.quantity == "memory_growth":
        # Of another machine's memory the baseline's own file tells nothing.
        then = candidate.beside or then
        told = f"{profile.peak_memory_mb:.0f} MiB, {then.peak_memory_mb:.0f} MiB before"
        return _Found(growth_of(profile.peak_memory_mb, then.peak_memory_mb), "measured", told)
    return _slowdown(candidate, profile, candidate.plan, base, against.noises)


def _slowdown(
    candidate: Candidate,
    profile: Profile,
    plan: MeasurePlan,
    base: BaselineCell,
    noises: NoiseFile | None,
) -> _Found:
    if candidate.beside is not None:
        now = candidate.beside
        if min(len(profile.launches), len(now.launches)) < 2:
            return _Found(None, "", "One launch says nothing of how launches differ.")
        told = f"beside the baseline's artifact, {len(now.launches)} launches"
        return _Found(beside(profile, now), profile.source, told)
    noise = noise_for(noises, profile, plan)
    if noise is None:
        return _Found(
            None,
            "",
            "From files alone nobody can tell how far this device is off from itself: measure it "
            f"once with `edgese profile ARTIFACT --device {candidate.device} --threads "
            f"{profile.threads} --calibrate-noise`, or give the artifacts themselves.",
        )
    if not reaches(noise, candidate.measured, base.measured):
        return _Found(
            None,
            "",
            "The noise of this device was measured within a shorter time than lies between the "
            "two measurements, and a machine changes from day to day: run `edgese profile "
            "ARTIFACT --calibrate-noise` again, now and on other days, and it adds to what there "
            "is; or give the artifacts themselves.",
        )
    told = f"from files; {describe(noise)}"
    return _Found(from_files(profile, base.profile, noise), profile.source, told)


def _memory(candidate: Candidate) -> _Found:
    if candidate.profile is None:
        return _Found(None, "", f"It was not measured. {_measure(candidate)}")
    count = len(candidate.profile.launches)
    told = f"the largest of {count} launches"
    return _Found(Exact(value=candidate.profile.peak_memory_mb), candidate.profile.source, told)


def _size(candidate: Candidate) -> _Found:
    if candidate.size_bytes is None:
        return _Found(None, "", candidate.uncounted)
    return _Found(Exact(value=candidate.size_bytes), "read", "")


def _macs(candidate: Candidate) -> _Found:
    known = (
        candidate.profile.macs if candidate.profile else None,
        candidate.emulation.macs if candidate.emulation else None,
        candidate.estimate.macs if candidate.estimate else None,
    )
    found = next((one for one in known if one is not None), None)
    if found is None:
        return _Found(None, "", "No spec describes the network, so nobody has counted it.")
    return _Found(Exact(value=found), "counted", "")


def _instructions(candidate: Candidate) -> _Found:
    if candidate.emulation is None:
        return _Found(
            None, "", "It was not counted: `edgese profile ARTIFACT --device arm64-a76 --out FILE`."
        )
    one = candidate.emulation
    totals = [total for process in one.totals for total in process]
    if not totals:
        return _Found(None, "", "No inference was counted.")
    # Counts differ by what threads happen to do; all that was seen is the interval.
    given = Given(value=one.instructions.total, low=min(totals), high=max(totals))
    return _Found(given, "emulated", f"{one.cpu}, {len(totals)} inferences")


def _partitions(candidate: Candidate) -> _Found:
    if candidate.delegate is not None:
        if candidate.delegate.partitions is None:
            return _Found(None, "", f"{candidate.delegate.title} does not tell its pieces.")
        told = f"{candidate.delegate.title}, {candidate.delegate.basis}"
        return _Found(Exact(value=candidate.delegate.partitions), "read", told)
    return _Found(None, "", candidate.uncounted)


def _cpu_operators(candidate: Candidate) -> _Found:
    report = candidate.delegate
    if report is not None:
        if report.taken is None:
            return _Found(None, "", f"{report.title} does not tell what it leaves out.")
        told = f"{report.title}, {report.basis}"
        return _Found(Exact(value=report.operators - report.taken), "read", told)
    if candidate.estimate is not None and not candidate.uncounted:
        return _Found(
            Exact(value=candidate.estimate.cpu_operators), "read", candidate.estimate.compiler
        )
    return _Found(None, "", candidate.uncounted)


def _accuracy(candidate: Candidate) -> _Found:
    one = candidate.evaluation
    if one is None:
        return _Found(None, "", candidate.no_evaluation or _EVALUATE)
    answers = outcomes(one)
    told = f"{len(answers)} images of {one.data.source}"
    evidence = proportion(answers.count(True), answers.count(None), len(answers))
    return _Found(evidence, "evaluated", f"{told}{_unread(one)}")


def _accuracy_drop(candidate: Candidate) -> _Found:
    one, reference = candidate.evaluation, candidate.reference
    if one is None:
        return _Found(None, "", candidate.no_evaluation or _EVALUATE)
    if reference is None:
        return _Found(None, "", candidate.no_reference)
    told = f"compared with {reference.subject} on {len(outcomes(one))} images"
    return _Found(paired(reference, one), "evaluated", f"{told}{_unread(one, reference)}")


def _unread(*evaluations: Evaluation) -> str:
    """That images are missing, and what follows."""
    left = {image.file for one in evaluations for image in one.unreadable}
    if not left:
        return ""
    return (
        f"; {len(left)} of {evaluations[0].data.listed} could not be read, such as {min(left)}, "
        "and are counted both as right and as wrong: replace them or take them out of the list, "
        f"and evaluate again: `{EVALUATE}`"
    )


def _measure(candidate: Candidate) -> str:
    return f"`edgese profile ARTIFACT --device {candidate.device} --require-device` measures it."


_EVALUATE: Final = f"It was not evaluated: `{EVALUATE}`, and give that file too."
_OTHERS: Final[dict[str, Callable[[Candidate], _Found]]] = {
    "memory_mb": _memory,
    "size_bytes": _size,
    "macs": _macs,
    "instructions": _instructions,
    "partitions": _partitions,
    "cpu_operators": _cpu_operators,
    "accuracy": _accuracy,
    "accuracy_drop": _accuracy_drop,
}

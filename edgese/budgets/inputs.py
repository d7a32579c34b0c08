"""Reads what a gate is given, and believes nothing that it cannot check."""

import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import chain, pairwise
from math import isclose
from pathlib import Path
from typing import Final, NamedTuple

from edgese.bounds import is_there
from edgese.budgets.regression import inferences
from edgese.errors import (
    ConfigError,
    DeviceError,
    EdgeseError,
    InputError,
    StoreError,
    stage,
)
from edgese.evaluation.pairing import asked_of
from edgese.measure.summary import summary
from edgese.records.artifact import Manifest
from edgese.records.base import Record
from edgese.records.budget import Untrusted
from edgese.records.emulation import Emulation, Estimate
from edgese.records.evaluation import Evaluation, EvaluationResult
from edgese.records.inspection import Inspection
from edgese.records.measurement import MeasurePlan, Profile, SustainedResult
from edgese.records.profile import ProfileResult, ProgramProfile
from edgese.records.selection import Finding, SelectionResult
from edgese.results import read_result, remake_of
from edgese.seals import check_seal
from edgese.store import manifest_path, read_manifest, sha256_of, size_of

PROFILE: Final = remake_of(ProfileResult)
EVALUATE: Final = remake_of(EvaluationResult)
INSPECT: Final = remake_of(Inspection)

# What tells of an artifact that stands on this machine.
_Described = Profile | ProgramProfile | Emulation | Estimate

# Rounding of what is written down.
_ROUNDED: Final = 1e-3
_MOST_PROBABLE: Final = 1 + 1e-6

# What subjects and sweeps append to a repeated label.
_AGAIN: Final = re.compile(r" \((?:group )?\d+\)$")


class Inputs(NamedTuple):
    """What could be read, and what could not.

    Attributes:
        results: with the files that they came from.
        artifacts: their paths and manifests.
    """

    results: tuple[tuple[Path, ProfileResult], ...]
    evaluations: tuple[tuple[Path, EvaluationResult], ...]
    inspections: tuple[tuple[Path, Inspection], ...]
    artifacts: tuple[tuple[Path, Manifest], ...]
    untrusted: tuple[Untrusted, ...]


def read_inputs(paths: Sequence[Path], *, strict: bool = False) -> Inputs:
    """Reads result files and artifacts, in any order; what cannot be trusted is told apart.

    Args:
        strict: raises instead.

    Raises:
        EdgeseError: with ``strict``, of the first input that cannot be trusted.
    """
    results, evaluations, inspections, artifacts, untrusted = [], [], [], [], []
    for path in paths:
        try:
            with stage(f"read {path}"):
                found = _read(path)
        except EdgeseError as error:
            if strict:
                raise
            untrusted.append(untrusted_of(path, error))
            continue
        if isinstance(found, ProfileResult):
            results.append((path, found))
        elif isinstance(found, EvaluationResult):
            evaluations.append((path, found))
        elif isinstance(found, Inspection):
            inspections.append((path, found))
        elif isinstance(found, Manifest):
            artifacts.append((path, found))
    return Inputs(
        tuple(results),
        tuple(evaluations),
        tuple(inspections),
        tuple(artifacts),
        tuple(untrusted),
    )


def untrusted_of(origin: Path | str, error: EdgeseError) -> Untrusted:
    """An input that raised an error."""
    return Untrusted(
        origin=str(origin), message=error.message, hint=error.hint, exit_code=error.exit_code
    )


def path_of(label: str) -> Path:
    """Return the path of an artifact, from its label in a profile."""
    return Path(_AGAIN.sub("", label))


def name_of(label: str) -> str:
    """The name of an artifact's file, from its label in a profile."""
    return path_of(label).name


def check_result(result: ProfileResult, path: Path) -> None:
    """Raises where a result is not whole, or not what was measured.

    Raises:
        InputError: it is incomplete, or contradicts its own plan.
        StoreError: it was changed since, or is of an artifact that is another one now.
        DeviceError: an artifact could not be measured when it was made.
    """
    check_seal(result, path, PROFILE)
    _check_complete(result, path)
    for failure in result.failures:
        raise DeviceError(
            f"{path}: {failure.label} could not be measured: {failure.error}", hint=failure.hint
        )
    _check_measured(result, path)


def _check_measured(result: ProfileResult, path: Path) -> None:
    if result.profiles and result.plan is None:
        raise InputError(f"{path} has profiles and no plan.", hint=f"Make it again: `{PROFILE}`.")
    check_moment(result.created, path)
    for profile in result.profiles:
        assert result.plan is not None  # noqa: S101  # checked above
        check_profile(profile, result.plan, path)
        if profile.device.name != result.device:
            raise InputError(
                f"{path}: {profile.label} was measured on {profile.device.name}, in a result for "
                f"{result.device}.",
                hint=f"It was mixed; make it again: `{PROFILE}`.",
            )
    for one in _described(result):
        check_artifact(one, path)
    for label, what in _contradictions(result):
        raise _contradictory(path, label, what)
    if result.sustained is not None:
        _check_curves(result.sustained, path)


def _check_curves(result: SustainedResult, path: Path) -> None:
    # It imports all that knows devices, and few results have curves.
    from edgese.measure.curves import last_of

    for curve in result.curves:
        if summary(last_of(curve.launch.blocks, curve.span_s)) != curve.last:
            what = "its last minute is not the one of its windows"
            raise _contradictory(path, curve.label, what)


def _contradictory(path: Path, label: str, what: str) -> InputError:
    return InputError(
        f"{path}: {label}: {what}.", hint=f"It was cut or mixed; make it again: `{PROFILE}`."
    )


def _check_complete(result: ProfileResult, path: Path) -> None:
    if not result.complete:
        raise InputError(
            f"{path} is not complete: groups of it are missing.",
            hint="Go on with `edgese profile ... --resume`.",
        )


def checked(record: Record, path: Path) -> Record:
    """A record that a choice may rest on.

    What a finding or a selection holds is checked like a file of its own. An artifact that could
    not be measured is no candidate, and the others of its result are.

    Raises:
        InputError, StoreError: it has no seal, is not complete, was changed since, or contradicts
            itself.
    """
    match record:
        case ProfileResult():
            # Before the seal, which what is not complete does not have.
            _check_complete(record, path)
            check_seal(record, path, PROFILE)
        case EvaluationResult() | Inspection() | Manifest() | Finding() | SelectionResult():
            check_seal(record, path, remake_of(type(record)))
    _check_held(record, path)
    return record


def _check_held(record: Record | None, path: Path) -> None:
    match record:
        case ProfileResult():
            _check_measured(record, path)
        case SustainedResult():
            _check_curves(record, path)
        case Evaluation():
            _check_evaluation(record, path)
        case EvaluationResult():
            for one in record.evaluations:
                _check_evaluation(one, path)
        case Finding():
            for part in (record.profile, record.evaluation, record.reference):
                _check_held(part, path)
        case SelectionResult():
            for finding in record.findings:
                _check_held(finding, path)


def check_moment(text: str, path: Path) -> None:
    """Raises where a time stamp is none; "" is a time that nobody wrote down.

    Raises:
        InputError: as said.
    """
    try:
        known = not text or datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        known = False
    if not known:
        raise InputError(
            f"{path} has the time {text!r}, which is no date and time with its offset from UTC.",
            hint="Make it again, on a machine whose clock is right.",
        )


def check_evaluations(result: EvaluationResult, path: Path) -> None:
    """Raises where the counts of evaluations are not those of their predictions.

    Raises:
        InputError: as said.
        StoreError: the result was changed since it was written.
    """
    check_seal(result, path, EVALUATE)
    for one in result.evaluations:
        _check_evaluation(one, path)


def _check_evaluation(one: Evaluation, path: Path) -> None:
    check_moment(one.created, path)
    right = sum(each.classes[0] == each.label for each in one.predictions)
    read, left = len(one.predictions), len(one.unreadable)
    _check_told(
        path,
        one.subject,
        {
            "predictions": (read, one.pictures),
            "images": (read + left, one.data.listed),
            "files of different names": (len(asked_of(one)), one.data.listed),
            "right answers": (right, one.top1.count),
            "images in its accuracy": (one.top1.of, one.data.listed),
        },
        remake=EVALUATE,
    )
    for each in one.predictions:
        whole = len(each.classes) == len(each.probabilities) == len(set(each.classes))
        if not whole or sum(each.probabilities) > _MOST_PROBABLE:
            raise InputError(
                f"{path}: {one.subject} has a prediction for {each.file} that cannot be: classes "
                f"{each.classes}, probabilities {each.probabilities}.",
                hint=f"Make it again: `{EVALUATE}`.",
            )


def _check_told(path: Path, label: str, pairs: dict[str, tuple[int, int]], *, remake: str) -> None:
    for what, (found, told) in pairs.items():
        if found != told:
            raise InputError(
                f"{path}: {label} has {found} {what} where {told} are told.",
                hint=f"It was cut or mixed; make it again: `{remake}`.",
            )


def _described(result: ProfileResult) -> tuple[_Described, ...]:
    return (*result.profiles, *result.programs, *result.emulations, *result.estimates)


def _contradictions(result: ProfileResult) -> Iterator[tuple[str, str]]:
    """Figures beside profiles that are not what they were made of."""
    for emulation in result.emulations:
        every = [total for process in emulation.totals for total in process]
        if not every or not min(every) <= emulation.instructions.total <= max(every):
            yield emulation.label, "its instructions are not among those that were counted"
    for prediction in result.predictions:
        if not prediction.interval.low <= prediction.latency_ms <= prediction.interval.high:
            yield prediction.model, "its latency lies outside its own interval"
    for estimate in result.estimates:
        told = estimate.cycles / estimate.clock_mhz / 1e3
        if not isclose(told, estimate.latency_ms, rel_tol=_ROUNDED):
            yield estimate.label, "its latency is not its cycles at its clock"


def check_profile(profile: Profile, plan: MeasurePlan, path: Path) -> None:
    """Raises where a profile does not have what its plan asks for, in the order of time.

    Raises:
        InputError: as said.
    """
    blocks = list(chain.from_iterable(launch.blocks for launch in profile.launches))
    _check_told(
        path,
        profile.label,
        {
            "launches": (len(profile.launches), plan.launches),
            "blocks": (len(blocks), plan.blocks),
            "inferences": (inferences(profile), profile.latency.count),
            "threads": (profile.threads, plan.threads),
        },
        remake=PROFILE,
    )
    highest = max(launch.peak_memory_mb for launch in profile.launches)
    if highest != profile.peak_memory_mb:
        raise InputError(
            f"{path}: {profile.label} took {highest:.1f} MiB where {profile.peak_memory_mb:.1f} "
            "are told.",
            hint=f"It was cut or mixed; make it again: `{PROFILE}`.",
        )
    if any(later.start_ms <= earlier.start_ms for earlier, later in pairwise(blocks)):
        raise InputError(
            f"{path}: the blocks of {profile.label} are not in the order of time.",
            hint=f"It was sorted or mixed; make it again: `{PROFILE}`.",
        )
    if min(map(min, (block.samples_ns for block in blocks))) <= 0:
        raise InputError(
            f"{path}: {profile.label} has inferences that took no time.",
            hint=f"Make it again: `{PROFILE}`.",
        )


def check_artifact(profile: _Described, path: Path) -> None:
    """Raises where the artifact stands where a figure says, and is another one now.

    Raises:
        StoreError: as said.
    """
    artifact = path_of(profile.label)
    if not is_there(artifact):
        return
    again = f"Measure it again: `edgese profile {artifact} --out {path}`."
    # Before its hash: whatever stands there may be large.
    size = None if isinstance(profile, ProgramProfile | Estimate) else profile.size_bytes
    if size not in (None, size_of(artifact)):
        raise StoreError(
            f"{path} is of another {artifact}: the one there has {size_of(artifact)} bytes, one of "
            f"{size} was measured.",
            hint=again,
        )
    found = sha256_of(artifact)
    if found != profile.sha256:
        raise StoreError(
            f"{path} is of another {artifact}: the one there has the hash {found[:12]}..., "
            f"{profile.sha256[:12]}... was measured.",
            hint=again,
        )


def is_result(path: Path) -> bool:
    """Whether a path is of a result, whatever is in it, and not of an artifact."""
    return path.suffix == ".json" and not is_there(manifest_path(path))


def _read(path: Path) -> Record:
    """An artifact's manifest, or a result that can be judged."""
    if not is_result(path):
        return read_manifest(path)
    record = read_result(path)
    if isinstance(record, ProfileResult):
        check_result(record, path)
    elif isinstance(record, EvaluationResult):
        check_evaluations(record, path)
    elif isinstance(record, Inspection):
        check_seal(record, path, INSPECT)
    elif isinstance(record, Manifest):
        raise ConfigError(
            f"{path} is a manifest.", hint="Name the artifact beside it, or its profile."
        )
    else:
        raise InputError(
            f"{path} is no result that can be judged.",
            hint="Name files of `edgese profile`, `evaluate` or `inspect`, or artifacts.",
        )
    return record

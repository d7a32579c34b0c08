"""Reads what a gate is given, and believes nothing that it cannot check."""

import re
from collections.abc import Sequence
from itertools import chain, pairwise
from pathlib import Path
from typing import Final, NamedTuple

from edgese.budgets.regression import inferences
from edgese.errors import ConfigError, DeviceError, EdgeseError, InputError, StoreError
from edgese.records.artifact import Manifest
from edgese.records.base import Record
from edgese.records.evaluation import EvaluationResult
from edgese.records.gating import Untrusted
from edgese.records.inspection import Inspection
from edgese.records.measurement import MeasurePlan, Profile
from edgese.records.profile import ProfileResult
from edgese.results import read_result, remake_of
from edgese.seals import check_seal
from edgese.store import manifest_path, read_manifest, sha256_of

PROFILE: Final = remake_of(ProfileResult)
EVALUATE: Final = remake_of(EvaluationResult)

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
    inspections: tuple[Inspection, ...]
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
            inspections.append(found)
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
    if not result.complete:
        raise InputError(
            f"{path} is not complete: groups of it are missing.",
            hint="Go on with `edgese profile ... --resume`.",
        )
    for failure in result.failures:
        raise DeviceError(
            f"{path}: {failure.label} could not be measured: {failure.error}", hint=failure.hint
        )
    if result.profiles and result.plan is None:
        raise InputError(f"{path} has profiles and no plan.", hint=f"Make it again: `{PROFILE}`.")
    for profile in result.profiles:
        assert result.plan is not None  # noqa: S101  # checked above
        check_profile(profile, result.plan, path)
        check_artifact(profile, path)


def check_profile(profile: Profile, plan: MeasurePlan, path: Path) -> None:
    """Raises where a profile does not have what its plan asks for, in the order of time.

    Raises:
        InputError: as said.
    """
    blocks = list(chain.from_iterable(launch.blocks for launch in profile.launches))
    pairs = {
        "launches": (len(profile.launches), plan.launches),
        "blocks": (len(blocks), plan.blocks),
        "inferences": (inferences(profile), profile.latency.count),
        "threads": (profile.threads, plan.threads),
    }
    for what, (found, told) in pairs.items():
        if found != told:
            raise InputError(
                f"{path}: {profile.label} has {found} {what} where {told} are told.",
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


def check_artifact(profile: Profile, path: Path) -> None:
    """Raises where the artifact stands where the profile says, and is another one now.

    Raises:
        StoreError: as said.
    """
    artifact = Path(_AGAIN.sub("", profile.label))
    if not artifact.exists():
        return
    found = sha256_of(artifact)
    if found != profile.sha256:
        raise StoreError(
            f"{path} is of another {artifact}: the one there has the hash {found[:12]}..., "
            f"{profile.sha256[:12]}... was measured.",
            hint=f"Measure it again: `edgese profile {artifact} --out {path}`.",
        )


def is_result(path: Path) -> bool:
    """Whether a path is of a result, whatever is in it, and not of an artifact."""
    return path.suffix == ".json" and not manifest_path(path).exists()


def _read(path: Path) -> Record:
    """An artifact's manifest, or a result that can be judged."""
    if not is_result(path):
        return read_manifest(path)
    record = read_result(path)
    if isinstance(record, ProfileResult):
        check_result(record, path)
    elif isinstance(record, EvaluationResult):
        check_seal(record, path, EVALUATE)
    elif isinstance(record, Manifest):
        raise ConfigError(
            f"{path} is a manifest.", hint="Name the artifact beside it, or its profile."
        )
    elif not isinstance(record, Inspection):
        raise InputError(
            f"{path} is no result that can be judged.",
            hint="Name files of `edgese profile`, `evaluate` or `inspect`, or artifacts.",
        )
    return record

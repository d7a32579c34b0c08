"""Counts again, from artifacts themselves, what records only say of them.

A seal is no signature: whoever edits a record can seal it again. So what an artifact's own bytes
tell is read from them: its size, and what its delegate executes in how many pieces. Where the
artifact is not here, or what reads it is not installed, these limits stay unclear.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from edgese.budgets.candidates import Candidate
from edgese.budgets.inputs import Inputs, untrusted_of
from edgese.errors import Collapsed, EdgeseError, InputError, StoreError
from edgese.models.cost import cost
from edgese.records.artifact import Manifest
from edgese.records.budget import Budget
from edgese.records.evaluation import Evaluation
from edgese.records.gating import Untrusted
from edgese.records.inspection import DelegateReport
from edgese.store import manifest_path, read_manifest, sha256_of, size_of

# Limits that only reading the artifact answers.
_COUNTED: Final = frozenset({"partitions", "cpu_operators"})
_ABSENT: Final = (
    "The artifact itself is not here, and what a record says of it is not counted again: give the "
    "artifact too, with its manifest beside it."
)


def recounted(
    candidates: Sequence[Candidate], inputs: Inputs, budget: Budget, untrusted: list[Untrusted]
) -> tuple[Candidate, ...]:
    """Candidates with what was read from their artifacts just now.

    Args:
        untrusted: is added to, where a record says something else than the artifact.
    """
    return tuple(
        found
        for candidate in candidates
        for found in _recounted(candidate, inputs, budget, untrusted)
    )


def _recounted(
    candidate: Candidate, inputs: Inputs, budget: Budget, untrusted: list[Untrusted]
) -> Iterator[Candidate]:
    path = _artifact(candidate, inputs)
    if path is None:
        yield candidate._replace(uncounted=_ABSENT)
        return
    try:
        _check_sound(path)
        _check_described(candidate, inputs)
        found = candidate._replace(size_bytes=size_of(path))
        limits = budget.limits_for(candidate.device, candidate.target)
        if _COUNTED.isdisjoint(one.quantity for one in limits):
            yield found
        elif candidate.estimate is not None:
            yield _estimated(found, path)
        else:
            yield _inspected(found, path, inputs)
    except (Collapsed, InputError, StoreError) as error:
        untrusted.append(untrusted_of(path, error))


def _check_sound(path: Path) -> None:
    """Refuse an artifact whose quantization collapsed, whatever its limits are.

    Raises:
        Collapsed: its manifest says so.
        InputError: the manifest is not readable.
        StoreError: the manifest is another artifact's.
    """
    quantization = read_manifest(path).quantization if manifest_path(path).is_file() else None
    if quantization is not None and quantization.collapse:
        raise Collapsed(
            f"{path} collapsed in its quantization: {quantization.collapse}.",
            hint="`edgese quantize MODEL --analyze` reports which layers are at fault.",
        )


def _artifact(candidate: Candidate, inputs: Inputs) -> Path | None:
    """The candidate's artifact: one that was given, or what stands where its record says."""
    if not candidate.sha256:
        return None
    for path, manifest in inputs.artifacts:
        if manifest.sha256 == candidate.sha256:
            return path
    stands = Path(candidate.label)
    if candidate.label and stands.exists() and sha256_of(stands) == candidate.sha256:
        return stands
    return None


def _inspected(candidate: Candidate, path: Path, inputs: Inputs) -> Candidate:
    """With what its delegate executes of the artifact, asked just now.

    Raises:
        StoreError: an inspection that was given says something else.
    """
    from edgese.inspection.api import inspect

    if not manifest_path(path).is_file():
        return candidate._replace(
            uncounted=f"{path} has no manifest beside it, which says how it is to be read: convert "
            "it again, and give that artifact."
        )
    try:
        delegate = candidate.delegate_name or read_manifest(path).delegate
        found = inspect(path, delegate, drift=False).delegates[0]
    except (InputError, StoreError):
        raise
    except EdgeseError as error:
        hint = f" {error.hint}" if error.hint else ""
        return candidate._replace(
            uncounted=f"It cannot be counted here: {error.message.rstrip('.')}.{hint}"
        )
    for origin, inspection in inputs.inspections:
        for report in inspection.delegates:
            if inspection.sha256 == candidate.sha256 and report.delegate == found.delegate:
                _check_report(origin, report, found)
    return candidate._replace(delegate=found)


def _check_report(origin: Path, told: DelegateReport, found: DelegateReport) -> None:
    for what in ("operators", "taken", "partitions"):
        then, now = getattr(told, what), getattr(found, what)
        if then != now:
            raise StoreError(
                f"{origin} says that {told.title} has {then} {what}, by {told.by}; {found.by} "
                f"finds {now} in the artifact.",
                hint="It was changed, or made with another version; inspect the artifact again: "
                "`edgese inspect ARTIFACT --json`.",
            )


def _estimated(candidate: Candidate, path: Path) -> Candidate:
    """With what the compiler says of the artifact just now."""
    from edgese.catalog import device_facts
    from edgese.devices import vela

    try:
        return candidate._replace(estimate=vela.estimated(path, device_facts(candidate.device)))
    except (InputError, StoreError):
        raise
    except EdgeseError as error:
        return candidate._replace(
            uncounted=f"It cannot be counted here: {error.message.rstrip('.')}. {error.hint}"
        )


def _check_described(candidate: Candidate, inputs: Inputs) -> None:
    """Raises where a result says something else of an artifact than its manifest.

    Raises:
        StoreError: as said.
    """
    for path, manifest in inputs.artifacts:
        if manifest.sha256 != candidate.sha256:
            continue
        for what, told, is_so in _facts(candidate, manifest):
            if told != is_so:
                raise StoreError(
                    f"{candidate.origin} says that {path} has {what} {told}; its manifest says "
                    f"{is_so}.",
                    hint="Measure and evaluate the artifact that is there.",
                )


def _facts(candidate: Candidate, manifest: Manifest) -> Iterator[tuple[str, object, object]]:
    pixels = manifest.model.preprocessing
    yield "the target", candidate.target, manifest.target
    yield "the resolution", candidate.resolution, (pixels.height, pixels.width)
    profile = candidate.profile
    if profile is not None:
        yield "the recipe", profile.recipe, manifest.recipe.name
        yield "the model", profile.model, manifest.model.name
        yield "the delegate", profile.delegate, manifest.delegate
        yield "the batch", profile.batch, manifest.interface.input.shape[0]
        yield "trained weights", profile.trained, manifest.weights.trained
    known = candidate.profile or candidate.emulation
    if known is not None and known.macs is not None and manifest.spec is not None:
        counted = cost(manifest.spec, pixels.height, pixels.width).macs
        yield "multiply-adds", known.macs, counted
    if candidate.evaluation is not None:
        yield from _evaluated(candidate.evaluation, manifest)


def _evaluated(one: Evaluation, manifest: Manifest) -> Iterator[tuple[str, object, object]]:
    yield "the recipe", one.recipe, manifest.recipe.name
    yield "the model", one.model, manifest.model.name
    yield "weights", one.weights.sha256, manifest.weights.sha256
    yield "the preprocessing", one.preprocessing, manifest.model.preprocessing

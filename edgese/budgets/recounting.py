"""Counts again, from artifacts themselves, what records only say of them.

A seal is no signature: whoever edits a record can seal it again. So what an artifact's own bytes
tell is read from them: its size, and what its delegate executes in how many pieces. Where the
artifact is not here, or what reads it is not installed, these limits stay unclear.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from edgese.bounds import is_there
from edgese.budgets.candidates import Candidate
from edgese.budgets.inputs import Inputs, untrusted_of
from edgese.errors import Collapsed, EdgeseError, InputError, StoreError
from edgese.models.cost import cost
from edgese.records.artifact import Manifest
from edgese.records.budget import Budget, Untrusted
from edgese.records.evaluation import Evaluation
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
    try:
        _check_sound(candidate.label, candidate.collapse)
        if path is None:
            yield candidate._replace(uncounted=_ABSENT)
            return
        manifest = read_manifest(path) if manifest_path(path).is_file() else None
        if manifest is not None:
            _check_sound(str(path), manifest.collapse)
            _check_described(candidate, path, manifest)
        found = candidate._replace(
            size_bytes=size_of(path),
            macs=_multiply_adds(manifest),
            uncounted="" if manifest is not None else _undescribed(path),
        )
        limits = budget.limits_for(candidate.device, candidate.target)
        wanted = {one.quantity for one in limits}
        if candidate.estimate is not None and wanted & {*_COUNTED, "macs"}:
            yield _estimated(found, path)
        elif wanted & _COUNTED and manifest is not None:
            yield _inspected(found, path, manifest, inputs)
        else:
            yield found
    except (Collapsed, InputError, StoreError) as error:
        untrusted.append(untrusted_of(path or Path(candidate.origin), error))


def _check_sound(label: str, collapse: str) -> None:
    """Refuse an artifact whose quantization collapsed, whatever its limits are.

    Args:
        collapse: what its manifest or its profile says of that.

    Raises:
        Collapsed: it did.
    """
    if collapse:
        raise Collapsed(
            f"{label} collapsed in its quantization: {collapse}.",
            hint="`edgese quantize MODEL --analyze` reports which layers are at fault.",
        )


def _multiply_adds(manifest: Manifest | None) -> int | None:
    """Count the multiply-adds of an artifact's layers; None where no spec has them."""
    if manifest is None or manifest.spec is None:
        return None
    pixels = manifest.model.preprocessing
    return cost(manifest.spec, pixels.height, pixels.width).macs


def _undescribed(path: Path) -> str:
    return (
        f"{path} has no manifest beside it, which says how it is to be read: convert it again, and "
        "give that artifact."
    )


def _artifact(candidate: Candidate, inputs: Inputs) -> Path | None:
    """The candidate's artifact: one that was given, or what stands where its record says."""
    if not candidate.sha256:
        return None
    for path, manifest in inputs.artifacts:
        if manifest.sha256 == candidate.sha256:
            return path
    stands = Path(candidate.label)
    if candidate.label and is_there(stands) and sha256_of(stands) == candidate.sha256:
        return stands
    return None


def _inspected(candidate: Candidate, path: Path, manifest: Manifest, inputs: Inputs) -> Candidate:
    """With what its delegate executes of the artifact, asked just now.

    Raises:
        StoreError: an inspection that was given says something else.
    """
    from edgese.inspection.api import inspect

    try:
        delegate = candidate.delegate_name or manifest.delegate
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
        found = vela.estimated(path, device_facts(candidate.device))
        macs = candidate.macs if candidate.macs is not None else found.macs
        return candidate._replace(estimate=found, macs=macs, uncounted="")
    except (InputError, StoreError):
        raise
    except EdgeseError as error:
        return candidate._replace(
            uncounted=f"It cannot be counted here: {error.message.rstrip('.')}. {error.hint}"
        )


def _check_described(candidate: Candidate, path: Path, manifest: Manifest) -> None:
    """Raises where a result says something else of an artifact than its manifest.

    Raises:
        StoreError: as said.
    """
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
    if candidate.trained is not None:
        # A prediction is of a network and a precision, and says nothing of weights.
        yield "the recipe", candidate.recipe, manifest.recipe.name
        yield "the model", candidate.model, manifest.model.name
        yield "trained weights", candidate.trained, manifest.weights.trained
    if candidate.profile is not None:
        yield "the delegate", candidate.profile.delegate, manifest.delegate
    known = candidate.profile or candidate.emulation
    if known is not None:
        yield "the batch", known.batch, manifest.interface.input.shape[0]
        if known.macs is not None and manifest.spec is not None:
            yield "multiply-adds", known.macs, _multiply_adds(manifest)
    if candidate.evaluation is not None:
        yield from _evaluated(candidate.evaluation, manifest)


def _evaluated(one: Evaluation, manifest: Manifest) -> Iterator[tuple[str, object, object]]:
    yield "the recipe", one.recipe, manifest.recipe.name
    yield "the model", one.model, manifest.model.name
    yield "weights", one.weights.sha256, manifest.weights.sha256
    yield "the preprocessing", one.preprocessing, manifest.model.preprocessing

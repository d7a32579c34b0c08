"""What stands in for a device that is not there: an emulated processor, and a prediction."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from edgese.errors import (
    ConfigError,
    DeviceAbsent,
    DeviceError,
    EdgeseError,
    MeasurementError,
    MissingDependency,
)
from edgese.measure.emulation import emulated
from edgese.measure.job import subjects_of
from edgese.protocols import Progress
from edgese.records.device import DeviceFacts
from edgese.records.emulation import Emulation
from edgese.records.prediction import Prediction
from edgese.records.profile import ProfileResult
from edgese.version import __version__


def find_fallbacks(
    artifacts: Sequence[Path],
    facts: DeviceFacts,
    absence: EdgeseError,
    *,
    threads: int | None,
    timeout_s: float,
    progress: Progress | None,
) -> ProfileResult:
    """What can be said of artifacts on a device without it.

    Args:
        absence: why it is not there.

    Raises:
        DeviceAbsent: nothing can be said.
        InputError, StoreError: an artifact is not what its manifest describes.
    """
    notes: list[str] = []
    counted = _counted(artifacts, facts, threads or 1, timeout_s, notes, progress)
    predicted = _predicted(artifacts, facts, threads, notes)
    if not counted and not predicted:
        raise DeviceAbsent(
            " ".join([absence.message, "Nothing can stand in for it.", *notes]), hint=absence.hint
        )
    return ProfileResult(
        device=facts.name,
        absence=str(absence),
        emulations=counted,
        predictions=predicted,
        notes=tuple(notes),
        edgese=__version__,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _counted(
    artifacts: Sequence[Path],
    facts: DeviceFacts,
    threads: int,
    timeout_s: float,
    notes: list[str],
    progress: Progress | None,
) -> tuple[Emulation, ...]:
    if not facts.emulated_as:
        notes.append(f"No emulated processor is like those of {facts.title}.")
        return ()
    try:
        return emulated(
            artifacts, facts.emulated_as, threads=threads, timeout_s=timeout_s, progress=progress
        )
    except (MissingDependency, DeviceError) as error:
        notes.append(f"Not counted on {facts.emulated_as}: {error.message} ({error.hint})")
        return ()


def _predicted(
    artifacts: Sequence[Path], facts: DeviceFacts, threads: int | None, notes: list[str]
) -> tuple[Prediction, ...]:
    from edgese.prediction.api import predict

    found = []
    for subject in subjects_of(artifacts):
        manifest = subject.manifest
        pixels = manifest.model.preprocessing
        if manifest.spec is None:
            notes.append(f"Not predicted: {subject.label}: no spec describes the network.")
            continue
        if manifest.interface.input.shape[0] != 1:
            notes.append(f"Not predicted: {subject.label}: it takes several pictures at once.")
            continue
        try:
            one = predict(
                manifest.spec,
                facts,
                target=manifest.target,
                delegate=manifest.delegate,
                recipe=manifest.recipe.name,
                resolution=(pixels.height, pixels.width),
                threads=threads,
            )
            found.append(msgspec.structs.replace(one, artifact_sha256=manifest.sha256))
        except (ConfigError, MeasurementError, MissingDependency) as error:
            notes.append(f"Not predicted: {subject.label}: {error.message}")
    return tuple(found)

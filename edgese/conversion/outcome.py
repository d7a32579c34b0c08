"""How each target's conversion ended, as rows of one table."""

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from edgese import store
from edgese.conversion.plan import TargetPlan
from edgese.errors import Collapsed
from edgese.records.artifact import ConversionOutcome, Manifest


def exit_code(outcomes: Iterable[ConversionOutcome]) -> int:
    """0 where all went well, else the lowest code of those that failed or collapsed."""
    return min((outcome.exit_code for outcome in outcomes if outcome.exit_code), default=0)


def made(
    plan: TargetPlan,
    status: Literal["converted", "cached"],
    artifact: Path,
    manifest: Manifest,
    *,
    seconds: float,
    peak_memory_mb: float = 0.0,
) -> ConversionOutcome:
    """An artifact that now stands in the user's folder."""
    collapse = manifest.quantization.collapse if manifest.quantization else ""
    return ConversionOutcome(
        target=plan.facts.name,
        recipe=plan.recipe.name,
        status=status,
        artifact=str(artifact),
        manifest=str(store.manifest_path(artifact)),
        size_bytes=manifest.size_bytes,
        seconds=seconds,
        peak_memory_mb=peak_memory_mb,
        parity=manifest.parity,
        partitions=manifest.operators.partitions,
        outside_operators=sum(kind.count for kind in manifest.operators.outside),
        integers=manifest.quantization.integers if manifest.quantization else "",
        collapse=collapse,
        exit_code=Collapsed.exit_code if collapse else 0,
        notes=manifest.quantization.notes if manifest.quantization else (),
    )


def failed(
    plan: TargetPlan,
    message: str,
    hint: str,
    code: int,
    *,
    seconds: float = 0.0,
    peak_memory_mb: float = 0.0,
) -> ConversionOutcome:
    """A conversion that left nothing."""
    return ConversionOutcome(
        target=plan.facts.name,
        recipe=plan.recipe.name,
        status="failed",
        seconds=seconds,
        peak_memory_mb=peak_memory_mb,
        error=message,
        hint=hint,
        exit_code=code,
    )

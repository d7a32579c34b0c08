"""How each target's conversion ended, as rows of one table."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

from edgese import store
from edgese.errors import Collapsed, EdgeseError, error_kind
from edgese.records.artifact import ConversionOutcome, Manifest
from edgese.records.conversion import TargetPlan


def exit_code(outcomes: Iterable[ConversionOutcome]) -> int:
    """0 where all went well, else the lowest code of those that failed or collapsed."""
    return min((outcome.exit_code for outcome in outcomes if outcome.exit_code), default=0)


def error_of(outcome: ConversionOutcome, about: str = "") -> EdgeseError:
    """Return the error that a row with an exit code stands for.

    Args:
        about: what its message begins with; the target where it is "".
    """
    kind = Collapsed if outcome.collapse else error_kind(outcome.exit_code)
    return kind(f"{about or outcome.target}: {_reason(outcome)}", hint=outcome.hint)


def check(outcomes: Sequence[ConversionOutcome]) -> None:
    """Raise where a target failed or its artifact collapsed.

    Raises:
        EdgeseError: of the kind that the lowest exit code among the rows belongs to. It names every
            such target, and the hint says where the artifacts of the others are.
    """
    bad = [row for row in outcomes if row.exit_code]
    if not bad:
        return
    first = error_of(min(bad, key=lambda row: row.exit_code))
    reasons = "\n".join(f"{row.target}: {_reason(row)}" for row in bad)
    good = ", ".join(row.artifact for row in outcomes if not row.exit_code)
    hints = dict.fromkeys(row.hint for row in bad if row.hint)
    raise type(first)(
        f"{len(bad)} of {len(outcomes)} targets failed.\n{reasons}",
        hint="\n".join(
            (
                *hints,
                f"The others' artifacts are there: {good}." if good else "No artifact was made.",
                "strict=False returns the rows of all targets instead of raising.",
            )
        ),
    )


def _reason(outcome: ConversionOutcome) -> str:
    if outcome.collapse:
        return (
            f"COLLAPSED: {outcome.collapse}. {outcome.artifact} is kept, and must not be shipped."
        )
    return outcome.error


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
    collapse = manifest.collapse
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

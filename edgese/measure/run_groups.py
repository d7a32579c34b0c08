"""Measures many artifacts in groups, and goes on where it was interrupted."""

from collections.abc import Sequence
from pathlib import Path

import msgspec

from edgese.measure.job import RUNNER, subjects_of
from edgese.measure.plan import checked, threads_of
from edgese.measure.run_job import run_job
from edgese.measure.sweep import extended, missing, resumed, started
from edgese.protocols import Device, Progress
from edgese.records.measurement import MeasurePlan
from edgese.records.profile import ProfileResult
from edgese.store import write_record


def run_groups(
    artifacts: Sequence[Path],
    place: Device,
    plan: MeasurePlan,
    *,
    size: int,
    out: Path | None,
    resume: bool,
    name: str = "",
    progress: Progress | None = None,
) -> ProfileResult:
    """Measures artifacts in interleaved groups that each hold the first one.

    Args:
        plan: with 0 threads: as many as `default_threads` says.
        size: artifacts of a group at most.
        out: where the result is written after each group; None keeps it in memory.
        resume: goes on with the groups that ``out`` lacks.
        name: of the device, as it was asked for; "" for its own.

    Raises:
        StoreError: ``out`` is the result of another measurement.
        Others as `edgese.measure.api.profile`.
    """
    if len(artifacts) <= size and not resume:
        return run_job(artifacts, place, plan=plan, name=name, progress=progress)
    subjects = subjects_of(artifacts)
    # Of all groups, before the first has taken its minutes.
    for target in sorted({subject.manifest.target for subject in subjects}):
        place.check(target)
    info = place.info()
    threads = threads_of(plan.threads or None, info)
    plan = checked(msgspec.structs.replace(plan, threads=threads), info, min(len(subjects), size))
    result = started(subjects, plan, info, size, RUNNER.read_bytes(), name)
    if resume and out is not None:
        result = resumed(out, result)
    every = len(result.sweep.groups) if result.sweep else 0
    left = missing(result)
    for number, group in enumerate(left, every - len(left)):
        found = run_job(
            [subjects[position] for position in group],
            place,
            plan=plan,
            name=name,
            progress=_part(progress, number, every),
        )
        result = extended(result, found)
        if out is not None:
            write_record(result, out)
    return result


def _part(progress: Progress | None, number: int, every: int) -> Progress | None:
    """Tells a group's progress as a part of the whole."""
    if progress is None:
        return None

    def tell(stage: str, fraction: float) -> None:
        progress(f"group {number + 1} of {every}: {stage}", (number + fraction) / every)

    return tell

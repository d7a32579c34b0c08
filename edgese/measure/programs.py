"""Measures with the runtimes' own benchmark programs, which `binaries` calls and reads."""

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from edgese.errors import ConfigError
from edgese.measure import binaries
from edgese.measure.job import Subject, subjects_of
from edgese.measure.plan import threads_of
from edgese.measure.progress_stream import stages
from edgese.measure.run_job import states
from edgese.protocols import Device, Progress
from edgese.records.measurement import BinaryRun, MeasurePlan
from edgese.records.profile import ProfileResult, ProgramProfile
from edgese.version import __version__


def by_program(
    artifacts: Sequence[Path],
    place: Device,
    program: Path,
    delegate: str,
    plan: MeasurePlan,
    device: str,
    progress: Progress | None,
) -> ProfileResult:
    """Measures each artifact with its runtime's own benchmark program, one after the other.

    Args:
        delegate: "" for the program's default.
        plan: runs and warm-up runs are told to the program; with 0 threads: as many as
            `threads_of` says.
        device: its name, as it was asked for.

    Raises:
        ConfigError: a program that cannot be read, that is none of those that are known, or of
            another runtime; or a delegate that it has not.
        DeviceError: it could not be run, or its words are not those of the program.
        InputError, StoreError: an artifact is not what its manifest describes.
    """
    try:
        sha256 = hashlib.sha256(program.read_bytes()).hexdigest()
    except OSError as error:
        raise ConfigError(
            f"The benchmark program {program} cannot be read: {error.strerror}.",
            hint="Give --runner the file that was built for the device.",
        ) from error
    threads = threads_of(plan.threads or None, place.info())
    found = []
    for subject in subjects_of(artifacts):
        job = binaries.binary_job(
            program,
            Path(subject.path),
            subject.manifest.target,
            delegate=delegate,
            threads=threads,
            runs=plan.min_runs,
            warmup_runs=plan.warmup_runs,
            timeout_s=plan.timeout_s,
        )
        outcome = place.run(job, stages(progress))
        run = binaries.parsed_run(
            program, outcome, delegate=delegate, device=device, warmup_runs=plan.warmup_runs
        )
        found.append(_program_profile(subject, device, threads, program.name, sha256, run))
    before, after = states(place)
    return ProfileResult(
        device=device,
        programs=tuple(found),
        before=before,
        after=after,
        edgese=__version__,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _program_profile(
    subject: Subject,
    device: str,
    threads: int,
    program: str,
    sha256: str,
    run: BinaryRun,
) -> ProgramProfile:
    manifest = subject.manifest
    pixels = manifest.model.preprocessing
    return ProgramProfile(
        label=subject.label,
        sha256=manifest.sha256,
        target=manifest.target,
        recipe=manifest.recipe.name,
        model=manifest.model.name,
        resolution=(pixels.height, pixels.width),
        trained=manifest.weights.trained,
        collapse=manifest.collapse,
        device=device,
        threads=threads,
        program=program,
        program_sha256=sha256,
        run=run,
    )

"""Profiles artifacts: `profile` is what ``edgese profile`` does."""

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec

from edgese import __version__, catalog
from edgese.devices import ANYHOW, Reach, find_device, vela
from edgese.errors import ConfigError, DeviceAbsent, MissingDependency
from edgese.measure import binaries
from edgese.measure.emulation import emulated
from edgese.measure.job import Subject, subjects_of
from edgese.measure.measured import hearing, measured, states
from edgese.measure.plan import default_threads
from edgese.measure.standing import stand_ins
from edgese.protocols import Device, Progress
from edgese.records.binary import BinaryRun
from edgese.records.device import DeviceFacts
from edgese.records.measurement import MeasurePlan
from edgese.records.profile import ProfileResult, ProgramProfile

_DEFAULTS: Final = MeasurePlan(threads=0)


def profile(
    artifacts: Sequence[Path],
    *,
    device: str | Device = "host",
    reach: Reach = ANYHOW,
    require_device: bool = False,
    runner: Path | None = None,
    delegate: str = "",
    threads: int | None = None,
    launches: int = _DEFAULTS.launches,
    blocks: int = _DEFAULTS.blocks,
    min_runs: int = _DEFAULTS.min_runs,
    min_time_s: float = _DEFAULTS.min_time_s,
    warmup_runs: int = _DEFAULTS.warmup_runs,
    warmup_time_s: float = _DEFAULTS.warmup_time_s,
    timeout_s: float = _DEFAULTS.timeout_s,
    progress: Progress | None = None,
) -> ProfileResult:
    """Measures latency and memory of artifacts in their real runtimes, or says what stands in.

    Several artifacts are measured in interleaved blocks, so that what disturbs the machine disturbs
    all of them, and each in several processes after another; ratios are told against the first
    artifact. All are loaded at the same time.

    On an emulated processor instructions are counted, and an Ethos-U is estimated by Vela. Where a
    phone or a board is not there, the emulated processor that its file names is counted on, and its
    latency is predicted; both are told apart from what is measured.

    Args:
        artifacts: paths of artifacts with their manifests; one may be there twice.
        device: a name, or something that behaves like a module in `edgese.devices`.
        reach: how to get to it.
        require_device: nothing stands in for a device that is not there.
        runner: the runtime's own benchmark program for the device, instead of edgese's runner.
        delegate: that such a program is to use; "" for its default.
        threads: for each runtime; None takes the physical cores, at most four.
        launches: new processes of each artifact, one after the other.
        blocks: of each artifact, over all its launches; a multiple of them.
        min_runs, min_time_s: of each artifact over all its blocks; the larger of the two counts,
            the time as the pace of the first warm-up predicts it.
        warmup_runs, warmup_time_s: of each launch before it counts; both are reached.
        timeout_s: for all of it.

    Raises:
        ConfigError: no artifact, an unknown device, or a setting that cannot be.
        InputError: an artifact or its manifest is missing or not readable.
        StoreError: an artifact is not the one that its manifest describes.
        MissingDependency: a runtime, or what reaches the device, is not installed.
        DeviceAbsent: it is not there, and was required, or nothing can stand in for it.
        DeviceError: the device cannot execute one of the targets, broke down, or could measure
            none of the artifacts. Where it could measure some, the others are in ``failures``.
    """
    _check(artifacts, threads, runner, delegate)
    plan = MeasurePlan(
        threads=threads or 0,
        launches=launches,
        blocks=blocks,
        min_runs=min_runs,
        min_time_s=min_time_s,
        warmup_runs=warmup_runs,
        warmup_time_s=warmup_time_s,
        timeout_s=timeout_s,
    )
    if not isinstance(device, str):
        return measured(artifacts, device, plan=plan, progress=progress)
    facts = catalog.device_facts(device)
    if facts.transport in ("qemu", "vela"):
        if runner is not None:
            raise ConfigError(
                f"{facts.title} runs no program of yours.",
                hint="Leave --runner out, or name a device.",
            )
        return _computed(artifacts, facts, threads or 1, timeout_s, progress)
    try:
        place = find_device(device, reach._replace(threads=threads or reach.threads))
    except (DeviceAbsent, MissingDependency) as error:
        if require_device or runner is not None:
            raise
        return stand_ins(
            artifacts, facts, error, threads=threads, timeout_s=timeout_s, progress=progress
        )
    if runner is not None:
        return _by_program(artifacts, place, runner, delegate, plan, device, progress)
    return measured(artifacts, place, plan=plan, name=device, progress=progress)


def _check(
    artifacts: Sequence[Path], threads: int | None, runner: Path | None, delegate: str
) -> None:
    if not artifacts:
        raise ConfigError("No artifact was named.", hint="Name one or more to profile.")
    if threads is not None and threads < 1:
        raise ConfigError(f"{threads} threads were asked for.", hint="Give 1 or more.")
    if delegate and runner is None:
        raise ConfigError(
            f"The delegate {delegate!r} was asked for, and an artifact is measured with its own.",
            hint="--delegate goes with --runner; `edgese convert --delegate` fixes it at "
            "conversion, where the target can.",
        )


def _computed(
    artifacts: Sequence[Path],
    facts: DeviceFacts,
    threads: int,
    timeout_s: float,
    progress: Progress | None,
) -> ProfileResult:
    """Of what is no machine: an emulated processor, or an accelerator that a compiler knows."""
    result = ProfileResult(device=facts.name, edgese=__version__, created=_now())
    if facts.transport == "vela":
        told = tuple(vela.estimated(artifact, facts) for artifact in artifacts)
        return msgspec.structs.replace(result, estimates=told)
    counted = emulated(
        artifacts, facts.name, threads=threads, timeout_s=timeout_s, progress=progress
    )
    return msgspec.structs.replace(result, emulations=counted)


def _by_program(
    artifacts: Sequence[Path],
    place: Device,
    program: Path,
    delegate: str,
    plan: MeasurePlan,
    device: str,
    progress: Progress | None,
) -> ProfileResult:
    """Each artifact with its runtime's own benchmark program, one after the other."""
    try:
        sha256 = hashlib.sha256(program.read_bytes()).hexdigest()
    except OSError as error:
        raise ConfigError(
            f"The benchmark program {program} cannot be read: {error.strerror}.",
            hint="Give --runner the file that was built for the device.",
        ) from error
    threads = plan.threads or default_threads(place.info())
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
        outcome = place.run(job, hearing(progress))
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
        created=_now(),
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
        device=device,
        threads=threads,
        program=program,
        program_sha256=sha256,
        run=run,
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")

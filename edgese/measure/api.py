"""Profiles artifacts: `profile` is what ``edgese profile`` does."""

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from statistics import median

from edgese import __version__
from edgese.devices import find_device
from edgese.errors import ConfigError, DeviceError
from edgese.measure.cautions import cautions
from edgese.measure.job import (
    RUNNER,
    RunArtifact,
    RunLaunch,
    Subject,
    failure_message,
    launches_of,
    measuring_job,
    parsed,
)
from edgese.measure.plan import checked, default_threads
from edgese.measure.summary import ratio, summary
from edgese.models.cost import cost
from edgese.protocols import Device, Progress
from edgese.records.measurement import (
    Block,
    DeviceInfo,
    Launch,
    MeasurePlan,
    Profile,
    ProfileFailure,
    ProfileResult,
)
from edgese.store import read_manifest

_DEFAULTS = MeasurePlan(threads=1)


def profile(
    artifacts: Sequence[Path],
    *,
    device: str | Device = "host",
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
    """Measures latency and memory of artifacts in their real runtimes.

    Several artifacts are measured in interleaved blocks, so that what disturbs the machine disturbs
    all of them, and each in several processes after another; ratios are told against the first
    artifact. All are loaded at the same time.

    Args:
        artifacts: paths of artifacts with their manifests; one may be there twice.
        device: a name, or something that behaves like a module in `edgese.devices`.
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
        MissingDependency: a runtime is not installed.
        DeviceError: the device cannot execute one of the targets, broke down, or could measure
            none of the artifacts. Where it could measure some, the others are in ``failures``.
    """
    if not artifacts:
        raise ConfigError("No artifact was named.", hint="Name one or more to profile.")
    place = find_device(device) if isinstance(device, str) else device
    subjects = _subjects(artifacts)
    for target in sorted({subject.manifest.target for subject in subjects}):
        place.check(target)
    info = place.info()
    plan = checked(
        MeasurePlan(
            threads=default_threads(info) if threads is None else threads,
            launches=launches,
            blocks=blocks,
            min_runs=min_runs,
            min_time_s=min_time_s,
            warmup_runs=warmup_runs,
            warmup_time_s=warmup_time_s,
            timeout_s=timeout_s,
        ),
        info,
        len(artifacts),
    )
    job = measuring_job(subjects, plan, RUNNER.read_bytes())
    result = parsed(place.run(job, _hearing(progress)), plan, len(subjects), info.name)
    pairs = list(zip(subjects, result.artifacts, strict=True))
    profiles = tuple(
        _profile(subject, run, plan, info, result.throttle_events)
        for subject, run in pairs
        if run.failure is None
    )
    failures = tuple(
        ProfileFailure(
            label=subject.label,
            error=failure_message(run.failure, info.name),
            hint="Measure it alone, or convert it again."
            if profiles
            else "Convert it again; `edgese doctor` tells whether its runtime works.",
            exit_code=DeviceError.exit_code,
        )
        for subject, run in pairs
        if run.failure is not None
    )
    if not profiles:
        raise DeviceError(f"{failures[0].label}: {failures[0].error}", hint=failures[0].hint)
    return ProfileResult(
        plan=plan,
        profiles=profiles,
        # Without the first artifact there is nothing to compare with.
        ratios=tuple(ratio(other, profiles[0]) for other in profiles[1:])
        if result.artifacts[0].failure is None
        else (),
        failures=failures,
        edgese=__version__,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _subjects(artifacts: Sequence[Path]) -> list[Subject]:
    subjects = []
    for number, artifact in enumerate(artifacts):
        earlier = list(artifacts[:number]).count(artifact)
        label = f"{artifact} ({earlier + 1})" if earlier else str(artifact)
        manifest = read_manifest(artifact)
        subjects.append(Subject(label=label, path=str(artifact.absolute()), manifest=manifest))
    return subjects


def _hearing(progress: Progress | None) -> Callable[[str], None]:
    """Passes the runner's news on; runtimes' own chatter between them is left out."""

    def hear(line: str) -> None:
        try:
            news = json.loads(line)
        except json.JSONDecodeError:
            return
        if progress is not None and isinstance(news, dict) and "stage" in news:
            progress(news["stage"], news["fraction"])

    return hear


def _profile(
    subject: Subject, run: RunArtifact, plan: MeasurePlan, info: DeviceInfo, throttled: int | None
) -> Profile:
    manifest = subject.manifest
    told = launches_of(run, info.name)
    launches = tuple(map(_launch, told))
    blocks = tuple(chain.from_iterable(launch.blocks for launch in launches))
    latency = summary(blocks)
    first_run_ms = median(launch.first_run_ms for launch in launches)
    pixels = manifest.model.preprocessing
    counts = cost(manifest.spec, pixels.height, pixels.width) if manifest.spec else None
    batch = manifest.interface.input.shape[0]
    return Profile(
        label=subject.label,
        sha256=manifest.sha256,
        size_bytes=manifest.size_bytes,
        target=manifest.target,
        delegate=manifest.delegate,
        recipe=manifest.recipe.name,
        model=manifest.model.name,
        resolution=(pixels.height, pixels.width),
        batch=batch,
        trained=manifest.weights.trained,
        source="measured",
        device=info,
        threads=plan.threads,
        load_ms=median(launch.load_ms for launch in launches),
        first_run_ms=first_run_ms,
        latency=latency,
        throughput_per_s=1000 * batch / latency.mean_ms,
        memory_before_load_mb=median(launch.memory_before_load_mb for launch in launches),
        peak_memory_mb=max(launch.peak_memory_mb for launch in launches),
        throttle_events=throttled,
        versions=told[0].versions,
        cautions=cautions(blocks, first_run_ms, throttled),
        launches=launches,
        macs=counts.macs if counts else None,
        parameters=counts.parameters if counts else None,
    )


def _launch(told: RunLaunch) -> Launch:
    return Launch(
        import_ms=told.import_ns / 1e6,
        load_ms=told.load_ns / 1e6,
        first_run_ms=told.first_run_ns / 1e6,
        memory_before_load_mb=told.memory_before_load_bytes / 2**20,
        peak_memory_mb=told.peak_memory_bytes / 2**20,
        peak_since_load=told.peak_since_load,
        overhead_ns=told.overhead_ns,
        blocks=tuple(
            Block(
                start_ms=block.start_ns / 1e6,
                samples_ns=block.samples_ns,
                frequency_mhz=block.frequency_mhz,
            )
            for block in told.blocks
        ),
    )

"""Measures artifacts on a device that can be reached."""

from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from statistics import median

import msgspec

from edgese import __version__
from edgese.devices.adb import AdbDevice
from edgese.devices.ssh import SshDevice
from edgese.errors import DeviceError
from edgese.measure.cautions import cautions
from edgese.measure.hearing import stages
from edgese.measure.job import (
    RUNNER,
    RunArtifact,
    Subject,
    failure_message,
    launches_of,
    measuring_job,
    parsed,
    subjects_of,
)
from edgese.measure.launches import launch_of
from edgese.measure.plan import checked, default_threads
from edgese.measure.summary import ratio, summary
from edgese.models.cost import cost
from edgese.protocols import Device, Progress
from edgese.records.measurement import (
    DeviceInfo,
    MeasurePlan,
    Profile,
)
from edgese.records.phone import PhoneState
from edgese.records.profile import ProfileFailure, ProfileResult

# The name that `edgese.measure.api` knows it by.
hearing = stages


def measured(
    artifacts: Sequence[Path | Subject],
    place: Device,
    *,
    plan: MeasurePlan,
    name: str = "",
    progress: Progress | None = None,
) -> ProfileResult:
    """Measures latency and memory of artifacts in their real runtimes, in interleaved blocks.

    Args:
        artifacts: paths of artifacts with their manifests, or subjects; one may be there twice.
        plan: with 0 threads: as many as `default_threads` says.
        name: of the device, as it was asked for; "" for its own.

    Raises:
        As `edgese.measure.api.profile`.
    """
    subjects = subjects_of(artifacts)
    for target in sorted({subject.manifest.target for subject in subjects}):
        place.check(target)
    info = place.info()
    threads = plan.threads or default_threads(info)
    plan = checked(msgspec.structs.replace(plan, threads=threads), info, len(artifacts))
    job = measuring_job(subjects, plan, RUNNER.read_bytes())
    result = parsed(place.run(job, stages(progress)), plan, len(subjects), info.name)
    before, after = states(place)
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
        device=name or info.name,
        plan=plan,
        profiles=profiles,
        # Without the first artifact there is nothing to compare with.
        ratios=tuple(ratio(other, profiles[0]) for other in profiles[1:])
        if result.artifacts[0].failure is None
        else (),
        failures=failures,
        before=before,
        after=after,
        edgese=__version__,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def states(place: Device) -> tuple[PhoneState | None, PhoneState | None]:
    """A phone or a board around its last job; None of a device that has no such thing."""
    if isinstance(place, AdbDevice | SshDevice):
        return place.before, place.after
    return None, None


def _profile(
    subject: Subject, run: RunArtifact, plan: MeasurePlan, info: DeviceInfo, throttled: int | None
) -> Profile:
    manifest = subject.manifest
    told = launches_of(run, info.name)
    launches = tuple(map(launch_of, told))
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

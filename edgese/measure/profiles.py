"""Makes profiles of what the runner told; pure."""

from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import chain
from statistics import median

from edgese.errors import DeviceError
from edgese.measure.cautions import cautions, phone_cautions
from edgese.measure.job import (
    RunArtifact,
    RunResult,
    Subject,
    failure_message,
    launches_of,
)
from edgese.measure.launches import launch_of
from edgese.measure.summary import ratio, summary
from edgese.models.cost import cost
from edgese.records.device import PhoneState
from edgese.records.measurement import (
    Caution,
    DeviceInfo,
    MeasurePlan,
    Profile,
    ProfileFailure,
)
from edgese.records.profile import ProfileResult
from edgese.version import __version__


def profiles_of(
    subjects: Sequence[Subject],
    result: RunResult,
    plan: MeasurePlan,
    info: DeviceInfo,
    *,
    device: str = "",
    before: PhoneState | None = None,
    after: PhoneState | None = None,
    created: datetime | None = None,
) -> ProfileResult:
    """The profiles, ratios and failures of a job.

    Args:
        subjects: that were measured, in the order of ``result``.
        info: of the device, before measuring.
        device: as it was asked for; "" for its own name.
        before, after: a phone or a board around the measurement.
        created: when it was measured; None is now.

    Raises:
        DeviceError: none of them could be measured, or what was told of one is not whole.
    """
    pairs = list(zip(subjects, result.artifacts, strict=True))
    heat = phone_cautions(before, after)
    profiles = tuple(
        _profile(subject, run, plan, info, result.throttle_events, heat)
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
        device=device or info.name,
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
        created=(created or datetime.now(UTC)).isoformat(timespec="seconds"),
    )


def _profile(
    subject: Subject,
    run: RunArtifact,
    plan: MeasurePlan,
    info: DeviceInfo,
    throttled: int | None,
    heat: tuple[Caution, ...],
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
        cautions=(*heat, *cautions(blocks, first_run_ms, throttled)),
        launches=launches,
        macs=counts.macs if counts else None,
        parameters=counts.parameters if counts else None,
        collapse=manifest.collapse,
    )

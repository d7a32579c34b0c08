"""Measures artifacts on a device that can be reached."""

from collections.abc import Sequence
from pathlib import Path

import msgspec

from edgese.devices.adb import AdbDevice
from edgese.devices.ssh import SshDevice
from edgese.measure.job import (
    RUNNER,
    Subject,
    measuring_job,
    parsed,
    subjects_of,
)
from edgese.measure.plan import checked, threads_of
from edgese.measure.profiles import profiles_of
from edgese.measure.progress_stream import stages
from edgese.protocols import Device, Progress
from edgese.records.device import PhoneState
from edgese.records.measurement import (
    MeasurePlan,
)
from edgese.records.profile import ProfileResult


def run_job(
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
    threads = threads_of(plan.threads or None, info)
    plan = checked(msgspec.structs.replace(plan, threads=threads), info, len(artifacts))
    job = measuring_job(subjects, plan, RUNNER.read_bytes())
    result = parsed(place.run(job, stages(progress)), plan, len(subjects), info.name)
    before, after = states(place)
    return profiles_of(subjects, result, plan, info, device=name, before=before, after=after)


def states(place: Device) -> tuple[PhoneState | None, PhoneState | None]:
    """A phone or a board around its last job; None of a device that has no such thing."""
    if isinstance(place, AdbDevice | SshDevice):
        return place.before, place.after
    return None, None

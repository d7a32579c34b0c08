"""What a device is to run to measure artifacts, and what it says when it has."""

import hashlib
import json
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec

from edgese.errors import DeviceError
from edgese.records.artifact import Manifest
from edgese.records.base import Record
from edgese.records.bounds import Celsius, Count, Megahertz, Nanoseconds, NotNegative
from edgese.records.measurement import Job, MeasurePlan, Outcome, Push
from edgese.store import read_manifest

RUNNER: Final = Path(__file__).with_name("runner.py")
RESULT: Final = "result.json"
RESULT_SCHEMA: Final = 1


class Subject(Record, frozen=True):
    """An artifact that is to be measured.

    Attributes:
        label: how the profile calls it; unique within a job.
        path: of the artifact on this host.
    """

    label: str
    path: str
    manifest: Manifest


class RunBlock(Record, frozen=True):
    """The samples of one block as the runner tells them."""

    start_ns: Count
    samples_ns: Annotated[tuple[Nanoseconds, ...], msgspec.Meta(min_length=1)]
    frequency_mhz: Megahertz | None
    temperature_c: Celsius | None = None


class RunLaunch(Record, frozen=True):
    """What the runner tells of one process that measured to its end."""

    import_ns: Count
    versions: dict[str, str]
    memory_before_load_bytes: Count
    peak_since_load: bool
    load_ns: Nanoseconds
    first_run_ns: Nanoseconds
    overhead_ns: NotNegative
    peak_memory_bytes: Count
    blocks: Annotated[tuple[RunBlock, ...], msgspec.Meta(min_length=1)]


class RunFailure(Record, frozen=True):
    """Why an artifact could not be measured to the end."""

    during: str
    reason: str
    stderr: str


class RunArtifact(Record, frozen=True):
    """One artifact in the runner's result; its last launch is not complete where it failed."""

    id: str
    runs_per_block: int
    launches: tuple[dict[str, Any], ...]
    failure: RunFailure | None


class RunResult(Record, frozen=True):
    """The file that the runner writes."""

    schema: int
    complete: bool
    throttle_events: Count | None
    artifacts: tuple[RunArtifact, ...]


def subjects_of(artifacts: Sequence[Path | Subject]) -> list[Subject]:
    """Artifacts with their manifests; one that is named again is followed by " (2)" and so on.

    Args:
        artifacts: their paths; what was made a subject before stays as it is.

    Raises:
        InputError: an artifact or its manifest is missing or not readable.
        StoreError: an artifact is not the one that its manifest describes.
    """
    subjects = []
    for number, artifact in enumerate(artifacts):
        if isinstance(artifact, Subject):
            subjects.append(artifact)
            continue
        earlier = list(artifacts[:number]).count(artifact)
        label = f"{artifact} ({earlier + 1})" if earlier else str(artifact)
        manifest = read_manifest(artifact)
        subjects.append(Subject(label=label, path=str(artifact.absolute()), manifest=manifest))
    return subjects


def measuring_job(subjects: Sequence[Subject], plan: MeasurePlan, runner: bytes) -> Job:
    """The job that measures all subjects, interleaved.

    Args:
        runner: content of ``runner.py``.
    """
    artifacts = [
        runner_artifact(subject, number, plan.threads) for number, subject in enumerate(subjects)
    ]
    settings = json.dumps(msgspec.structs.asdict(plan) | {"artifacts": artifacts})
    return Job(
        argv=("{python}", "-P", RUNNER.name, "drive", "plan.json", RESULT),
        push=(
            Push(name=RUNNER.name, content=runner),
            Push(name="plan.json", content=settings.encode()),
            *(
                Push(name=artifact["path"], source=subject.path)
                for artifact, subject in zip(artifacts, subjects, strict=True)
            ),
        ),
        pull=(RESULT,),
        timeout_s=plan.timeout_s,
    )


def parsed(outcome: Outcome, plan: MeasurePlan, count: int, device: str) -> RunResult:
    """The runner's result, if there is no doubt that it is whole.

    Args:
        count: artifacts that were to be measured.

    Raises:
        DeviceError: says what is missing.
    """
    content = brought_back(outcome, device)
    try:
        result = msgspec.json.decode(content, type=RunResult)
    except msgspec.DecodeError as error:
        raise DeviceError(
            f"The result from {device} is not in the runner's format: {error}.",
            hint="Make sure that the runner there is this edgese's own.",
        ) from error
    _check(result, plan, count, device)
    return result


def runner_artifact(subject: Subject, number: int, threads: int) -> dict[str, Any]:
    """An artifact as the runner's plan names it."""
    return {
        "id": str(number),
        "name": Path(subject.path).name,
        "runtime": subject.manifest.target,
        # A runtime may go by the suffix, and two artifacts may have one name.
        "path": f"artifact{number}{Path(subject.path).suffix}",
        "threads": threads,
        "compute_units": subject.manifest.options.compute_units,
    }


def brought_back(outcome: Outcome, device: str) -> bytes:
    """The file that the runner wrote, if there is no doubt that it is whole.

    A transport that breaks may give return code 0 and no output, so the code alone is not believed:
    the end mark must be there, and it must carry the hash of the file that came back.

    Raises:
        DeviceError: says what is missing.
    """
    if outcome.returncode != 0:
        raise DeviceError(
            f"Measuring on {device} {_ending(outcome.returncode)}: {_last_line(outcome.stderr)}",
            hint="If the memory ran out, measure fewer artifacts at once.",
        )
    digest = _end_mark(outcome.stdout)
    if digest is None:
        raise DeviceError(
            f"Measuring on {device} stopped without its end mark, though its return code is 0: "
            "the connection was lost, or what started it went away.",
            hint="Measure again.",
        )
    content = outcome.files.get(RESULT)
    if content is None:
        raise DeviceError(
            f"Measuring on {device} ended, but its result did not come back.", hint="Measure again."
        )
    if hashlib.sha256(content).hexdigest() != digest:
        raise DeviceError(
            f"The result that came back from {device} is not the one that was written there: "
            f"{len(content)} bytes with another hash.",
            hint="Measure again; the connection or the disk there may be bad.",
        )
    return content


def launches_of(artifact: RunArtifact, device: str) -> tuple[RunLaunch, ...]:
    """The launches of an artifact that was measured to the end.

    Raises:
        DeviceError: something is missing.
    """
    try:
        return msgspec.convert(artifact.launches, tuple[RunLaunch, ...])
    except msgspec.ValidationError as error:
        raise DeviceError(
            f"The result from {device} is not in the runner's format: {error}.",
            hint="Make sure that the runner there is this edgese's own.",
        ) from error


def failure_message(failure: RunFailure, device: str) -> str:
    """One sentence about an artifact that could not be measured."""
    said = _last_line(failure.stderr)
    return f"On {device} its process {failure.reason} during {failure.during}: {said}"


def _check(result: RunResult, plan: MeasurePlan, count: int, device: str) -> None:
    sizes = [plan.blocks // plan.launches] * plan.launches
    whole = (
        result.schema == RESULT_SCHEMA
        and result.complete
        and [artifact.id for artifact in result.artifacts] == [str(i) for i in range(count)]
        and all(
            [len(launch.get("blocks", ())) for launch in artifact.launches] == sizes
            for artifact in result.artifacts
            if artifact.failure is None
        )
    )
    if not whole:
        raise DeviceError(
            f"The result from {device} does not hold what the plan asked for.",
            hint="Make sure that the runner there is this edgese's own.",
        )


def _end_mark(stdout: str) -> str | None:
    lines = stdout.strip().splitlines()
    try:
        last = json.loads(lines[-1]) if lines else None
    except json.JSONDecodeError:
        return None
    digest = last.get("end") if isinstance(last, dict) else None
    return digest if isinstance(digest, str) else None


def _ending(returncode: int) -> str:
    if returncode > 0:
        return f"ended with code {returncode}"
    known = {item.value: item.name for item in signal.Signals}
    return f"was ended by {known.get(-returncode, f'signal {-returncode}')}"


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing."

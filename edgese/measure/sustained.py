"""Runs artifacts without a pause for minutes, and keeps what was seen however that ends."""

from collections.abc import Sequence
from pathlib import Path
from time import sleep
from typing import Final

import msgspec

from edgese.errors import ConfigError, DeviceError
from edgese.measure.job import (
    RESULT,
    RESULT_SCHEMA,
    RUNNER,
    Subject,
    brought_back,
    runner_artifact,
    subjects_of,
)
from edgese.measure.plan import check_timed, threads_of
from edgese.measure.progress_stream import stages
from edgese.measure.recording import Recording, Save, SustainRun
from edgese.protocols import Device, Progress
from edgese.records.measurement import Job, Push, SustainedResult

FEWEST_WINDOWS: Final = 6
# Loading, and the last window, are not in the time that is asked for.
_ALLOWANCE_S: Final = 900.0

# Long enough for a median, short enough to see a phone fall off.
WINDOW_S: Final = 5.0


def sustained(
    artifacts: Sequence[Path | Subject],
    device: Device,
    *,
    seconds: float,
    threads: int | None = None,
    window_s: float = WINDOW_S,
    rest_s: float = 60.0,
    warmup_runs: int = 3,
    save: Save | None = None,
    progress: Progress | None = None,
) -> SustainedResult:
    """Runs each artifact without a pause for the given time, one artifact after the other.

    Args:
        artifacts: paths of artifacts with their manifests, or the subjects that were made of them;
            one may be there twice.
        seconds: for each.
        threads: of each runtime; None takes what `edgese.measure.api.profile` takes.
        window_s: length of a window, at least six of which must fit.
        rest_s: pause before every further artifact, so that it does not start hot.
        warmup_runs: before the first window; few, because the first minute is what is looked at.
        save: is given what there is, twice a minute and when the run ends or is interrupted. Such a
            result is not ``complete``.

    Raises:
        ConfigError: no artifact, a number that cannot be, or an emulated device.
        InputError: an artifact or its manifest is missing or not readable.
        StoreError: an artifact is not the one that its manifest describes.
        MissingDependency: a runtime is not installed.
        DeviceError: no artifact gave a single window. Where one did, others are in ``failures``.
    """
    if not artifacts:
        raise ConfigError("No artifact was named.", hint="Name one or more to run.")
    check_timed(device)
    info = device.info()
    computing = threads_of(threads, info)
    _check(seconds=seconds, window_s=window_s, rest_s=rest_s, warmup=warmup_runs)
    subjects = subjects_of(artifacts)
    for target in sorted({subject.manifest.target for subject in subjects}):
        device.check(target)
    recording = Recording(
        info=info,
        threads=computing,
        seconds=seconds,
        window_s=window_s,
        rest_s=rest_s if len(subjects) > 1 else 0.0,
        expected=len(subjects),
        save=save,
    )
    for number, subject in enumerate(subjects):
        if number:
            _rest(rest_s, progress, number / len(subjects))
        name = Path(subject.path).name if len(subjects) > 1 else ""
        recording.begin(subject, stages(progress, name, number, len(subjects)))
        job = sustaining_job(
            subject, computing, seconds=seconds, window_s=window_s, warmup_runs=warmup_runs
        )
        try:
            outcome = device.run(job, recording.hear)
            recording.end(run_of(brought_back(outcome, info.name), info.name))
        except DeviceError as error:
            recording.fail(error)
        finally:
            # Ctrl-C passes here too; what was heard until then is recording.
            recording.put_down()
    result = recording.result()
    if not result.curves:
        failure = result.failures[0]
        raise DeviceError(f"{failure.label}: {failure.error}", hint=failure.hint)
    if progress is not None:
        progress("done", 1.0)
    return result


def sustaining_job(
    subject: Subject, threads: int, *, seconds: float, window_s: float, warmup_runs: int
) -> Job:
    """The job of one artifact."""
    artifact = runner_artifact(subject, 0, threads)
    plan = {
        "artifact": artifact,
        "time_s": seconds,
        "window_s": window_s,
        "warmup_runs": warmup_runs,
        "warmup_time_s": 0.0,
        "lead_in_runs": 0,
        "reply_timeout_s": _ALLOWANCE_S + window_s,
    }
    return Job(
        argv=("{python}", "-P", RUNNER.name, "sustain", "plan.json", RESULT),
        push=(
            Push(name=RUNNER.name, content=RUNNER.read_bytes()),
            Push(name="plan.json", content=msgspec.json.encode(plan)),
            Push(name=artifact["path"], source=subject.path),
        ),
        pull=(RESULT,),
        timeout_s=seconds + _ALLOWANCE_S,
    )


def run_of(content: bytes, device: str) -> SustainRun:
    """The runner's file.

    Raises:
        DeviceError: it is not in its format, or not whole.
    """
    try:
        run = msgspec.json.decode(content, type=SustainRun)
    except msgspec.DecodeError as error:
        raise DeviceError(
            f"The result from {device} is not in the runner's format: {error}.",
            hint="Make sure that the runner there is this edgese's own.",
        ) from error
    if run.schema != RESULT_SCHEMA or not run.complete:
        raise DeviceError(
            f"The result from {device} does not hold what was asked for.",
            hint="Make sure that the runner there is this edgese's own.",
        )
    return run


def _rest(rest_s: float, progress: Progress | None, fraction: float) -> None:
    if progress is not None and rest_s:
        progress(f"rest {rest_s:.0f} s", fraction)
    sleep(rest_s)


def _check(*, seconds: float, window_s: float, rest_s: float, warmup: int) -> None:
    # Written so that NaN is refused too.
    if not (window_s > 0 and rest_s >= 0 and warmup >= 1):
        raise ConfigError(
            f"Windows of {window_s:g} s, a rest of {rest_s:g} s and {warmup} warm-up runs cannot "
            "be.",
            hint="Give windows of more than 0 s, a rest of 0 s or more, and 1 run or more.",
        )
    check_length(seconds, window_s)


def check_length(seconds: float, window_s: float = WINDOW_S) -> None:
    """Refuses a time in which no curve shows.

    Raises:
        ConfigError: as said.
    """
    # Six windows of 0.05 s are more than 0.3 s in binary.
    if not seconds * (1 + 1e-9) >= FEWEST_WINDOWS * window_s:
        raise ConfigError(
            f"{seconds:g} s were asked for; a curve needs {FEWEST_WINDOWS} windows of "
            f"{window_s:g} s.",
            hint=f"Give {FEWEST_WINDOWS * window_s:g} s or more; heat takes minutes to show.",
        )

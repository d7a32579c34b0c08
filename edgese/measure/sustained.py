"""Runs artifacts without a pause for minutes, and keeps what was seen however that ends."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic, sleep
from typing import Any, Final

import msgspec

from edgese import __version__
from edgese.errors import ConfigError, DeviceError
from edgese.measure.curves import (
    cautions_of,
    fell_off_s,
    first_of,
    last_of,
    ranks,
    span_of,
    swaps_of,
)
from edgese.measure.hearing import news_of, stages
from edgese.measure.job import (
    RESULT,
    RESULT_SCHEMA,
    RUNNER,
    RunFailure,
    RunLaunch,
    Subject,
    brought_back,
    failure_message,
    runner_artifact,
    subjects_of,
)
from edgese.measure.launches import launch_of
from edgese.measure.plan import default_threads
from edgese.measure.summary import summary
from edgese.protocols import Device, Progress
from edgese.records.base import Record
from edgese.records.measurement import DeviceInfo, Job, ProfileFailure, Push
from edgese.records.sustained import SustainedCurve, SustainedResult

FEWEST_WINDOWS: Final = 6
_SAVE_EVERY_S: Final = 30.0
# Loading, and the last window, are not in the time that is asked for.
_ALLOWANCE_S: Final = 900.0

Save = Callable[[SustainedResult], None]


class SustainArtifact(Record, frozen=True):
    """The one artifact in the runner's result."""

    id: str
    runs_per_block: int
    launches: tuple[dict[str, Any], ...]
    failure: RunFailure | None


class SustainRun(Record, frozen=True):
    """The file that the runner writes."""

    schema: int
    complete: bool
    throttle_events: int | None
    start_temperature_c: float | None
    artifact: SustainArtifact


def sustained(
    artifacts: Sequence[Path],
    device: Device,
    *,
    seconds: float,
    threads: int | None = None,
    window_s: float = 5.0,
    rest_s: float = 60.0,
    warmup_runs: int = 3,
    save: Save | None = None,
    progress: Progress | None = None,
) -> SustainedResult:
    """Runs each artifact without a pause for the given time, one artifact after the other.

    Args:
        artifacts: paths of artifacts with their manifests; one may be there twice.
        seconds: for each.
        threads: of each runtime; None takes what `edgese.measure.api.profile` takes.
        window_s: length of a window, at least six of which must fit.
        rest_s: pause before every further artifact, so that it does not start hot.
        warmup_runs: before the first window; few, because the first minute is what is looked at.
        save: is given what there is, twice a minute and when the run ends or is interrupted. Such a
            result is not ``complete``.

    Raises:
        ConfigError: no artifact, or a number that cannot be.
        InputError: an artifact or its manifest is missing or not readable.
        StoreError: an artifact is not the one that its manifest describes.
        MissingDependency: a runtime is not installed.
        DeviceError: no artifact gave a single window. Where one did, others are in ``failures``.
    """
    if not artifacts:
        raise ConfigError("No artifact was named.", hint="Name one or more to run.")
    info = device.info()
    computing = default_threads(info) if threads is None else threads
    _check(info, computing, seconds=seconds, window_s=window_s, rest_s=rest_s, warmup=warmup_runs)
    subjects = subjects_of(artifacts)
    for target in sorted({subject.manifest.target for subject in subjects}):
        device.check(target)
    kept = _Kept(
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
        kept.begin(subject, stages(progress, name, number, len(subjects)))
        job = sustaining_job(
            subject, computing, seconds=seconds, window_s=window_s, warmup_runs=warmup_runs
        )
        try:
            outcome = device.run(job, kept.hear)
            kept.end(run_of(brought_back(outcome, info.name), info.name))
        except DeviceError as error:
            kept.fail(error)
        finally:
            # Ctrl-C passes here too; what was heard until then is kept.
            kept.put_down()
    result = kept.result()
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


class _Kept:
    """What is known so far: curves that ended, and the windows of the one that runs."""

    def __init__(
        self,
        *,
        info: DeviceInfo,
        threads: int,
        seconds: float,
        window_s: float,
        rest_s: float,
        expected: int,
        save: Save | None,
    ) -> None:
        self._info = info
        self._threads = threads
        self._seconds = seconds
        self._window_s = window_s
        self._rest_s = rest_s
        self._expected = expected
        self._save = save
        self._saved_s = monotonic()
        self._curves: list[SustainedCurve] = []
        self._failures: list[ProfileFailure] = []
        self._subject: Subject | None = None
        self._show: Callable[[str], None] = lambda _: None
        self._launch: dict[str, Any] = {}
        self._start_c: float | None = None

    def begin(self, subject: Subject, show: Callable[[str], None]) -> None:
        """An artifact's process is about to start; ``show`` is given each of its lines."""
        self._subject, self._show = subject, show
        self._launch, self._start_c = {"blocks": []}, None

    def hear(self, line: str) -> None:
        """Takes a line of the runner."""
        self._show(line)
        news = news_of(line)
        if "launch" in news:
            self._launch |= news["launch"]
            self._start_c = news.get("start_temperature_c")
        elif "window" in news:
            self._launch["blocks"].append(news["window"])
            self._launch["peak_memory_bytes"] = news["peak_memory_bytes"]
            if self._save is not None and monotonic() - self._saved_s > _SAVE_EVERY_S:
                self._save(self.result())
                self._saved_s = monotonic()

    def end(self, run: SustainRun) -> None:
        """The runner's file takes the place of what was heard."""
        assert self._subject is not None  # noqa: S101  # one was begun
        self._launch = run.artifact.launches[0]
        self._start_c = run.start_temperature_c
        failure = run.artifact.failure
        if failure is not None:
            self._failed(
                failure_message(failure, self._info.name), "Run it alone, or convert it again."
            )
        self._take(complete=failure is None, throttled=run.throttle_events)

    def fail(self, error: DeviceError) -> None:
        """The device could not go on with the artifact."""
        self._failed(error.message, error.hint)

    def put_down(self) -> None:
        """Keeps what was heard of an artifact that did not end, and saves."""
        self._take(complete=False, throttled=None)
        if self._save is not None:
            self._save(self.result())

    def result(self) -> SustainedResult:
        """All that there is."""
        pending = self._curve(complete=False, throttled=None)
        curves = [*self._curves, *([pending] if pending else [])]
        starts = [c.start_temperature_c for c in curves if c.start_temperature_c is not None]
        judged = tuple(
            msgspec.structs.replace(
                curve,
                cautions=cautions_of(
                    curve.launch.blocks,
                    complete=curve.complete,
                    seconds=self._seconds,
                    throttle_events=curve.throttle_events,
                    start_c=curve.start_temperature_c,
                    coolest_start_c=min(starts, default=None),
                ),
            )
            for curve in curves
        )
        whole = [curve for curve in judged if curve.complete]
        first, last = ranks(whole)
        return SustainedResult(
            device=self._info,
            threads=self._threads,
            seconds=self._seconds,
            window_s=self._window_s,
            rest_s=self._rest_s,
            curves=judged,
            ranks_first=first,
            ranks_last=last,
            swaps=swaps_of(whole),
            failures=tuple(self._failures),
            complete=len(whole) == self._expected,
            edgese=__version__,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
        )

    def _failed(self, message: str, hint: str) -> None:
        assert self._subject is not None  # noqa: S101  # one was begun
        self._failures.append(
            ProfileFailure(
                label=self._subject.label,
                error=message,
                hint=hint,
                exit_code=DeviceError.exit_code,
            )
        )

    def _take(self, *, complete: bool, throttled: int | None) -> None:
        curve = self._curve(complete=complete, throttled=throttled)
        if curve is not None:
            self._curves.append(curve)
        self._subject, self._launch = None, {}

    def _curve(self, *, complete: bool, throttled: int | None) -> SustainedCurve | None:
        """The curve of the artifact that runs; None where it has not a single window."""
        if self._subject is None or not self._launch.get("blocks"):
            return None
        try:
            told = msgspec.convert(self._launch, RunLaunch)
        except msgspec.ValidationError as error:
            raise DeviceError(
                f"What {self._info.name} told is not in the runner's format: {error}.",
                hint="Make sure that the runner there is this edgese's own.",
            ) from error
        manifest = self._subject.manifest
        pixels = manifest.model.preprocessing
        launch = launch_of(told)
        span_s = span_of(self._seconds)
        first, last = (summary(part(launch.blocks, span_s)) for part in (first_of, last_of))
        return SustainedCurve(
            label=self._subject.label,
            sha256=manifest.sha256,
            target=manifest.target,
            delegate=manifest.delegate,
            recipe=manifest.recipe.name,
            model=manifest.model.name,
            resolution=(pixels.height, pixels.width),
            trained=manifest.weights.trained,
            complete=complete,
            launch=launch,
            start_temperature_c=self._start_c,
            throttle_events=throttled,
            span_s=span_s,
            first=first,
            last=last,
            ratio=last.p50_ms / first.p50_ms,
            fell_off_s=fell_off_s(launch.blocks, span_s),
            versions=told.versions,
        )


def _rest(rest_s: float, progress: Progress | None, fraction: float) -> None:
    if progress is not None and rest_s:
        progress(f"rest {rest_s:.0f} s", fraction)
    sleep(rest_s)


def _check(
    info: DeviceInfo, threads: int, *, seconds: float, window_s: float, rest_s: float, warmup: int
) -> None:
    if not 1 <= threads <= info.cores:
        raise ConfigError(
            f"{threads} threads were asked for; {info.name} has {info.cores} cores.",
            hint=f"Give --threads 1 to {info.cores}.",
        )
    # Written so that NaN is refused too.
    if not (window_s > 0 and rest_s >= 0 and warmup >= 1):
        raise ConfigError(
            f"Windows of {window_s:g} s, a rest of {rest_s:g} s and {warmup} warm-up runs cannot "
            "be.",
            hint="Give windows of more than 0 s, a rest of 0 s or more, and 1 run or more.",
        )
    if not seconds >= FEWEST_WINDOWS * window_s:
        raise ConfigError(
            f"{seconds:g} s were asked for; a curve needs {FEWEST_WINDOWS} windows of "
            f"{window_s:g} s.",
            hint=f"Give {FEWEST_WINDOWS * window_s:g} s or more; heat takes minutes to show.",
        )

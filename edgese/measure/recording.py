"""What is known of artifacts that run without a pause, while they run."""

from collections.abc import Callable
from datetime import UTC, datetime
from time import monotonic
from typing import Any, Final

import msgspec

from edgese.errors import DeviceError
from edgese.measure.curves import (
    cautions_of,
    fell_off_s,
    first_of,
    last_of,
    ranks,
    span_of,
    swaps_of,
)
from edgese.measure.job import RunFailure, RunLaunch, Subject, failure_message
from edgese.measure.launches import launch_of
from edgese.measure.progress_stream import news_of
from edgese.measure.summary import summary
from edgese.records.base import Record
from edgese.records.measurement import DeviceInfo, ProfileFailure, SustainedCurve, SustainedResult
from edgese.version import __version__

_SAVE_EVERY_S: Final = 30.0

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


class Recording:
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

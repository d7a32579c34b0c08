"""Runs conversion jobs in worker processes, as many at once as cores and memory carry.

Workers start before the program is exported, so that importing their converters overlaps with it. A
worker's death is its own failure; leaving the pool early kills all that are left.
"""

import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Self

import msgspec

from edgese.errors import ConversionError
from edgese.lifeline import Child
from edgese.records.base import Record
from edgese.records.conversion import Advanced, ConversionJob, Event, Failed, Succeeded

_EVENTS: Final = msgspec.json.Decoder(Event)
_TAIL_LINES: Final = 12
_TAIL_WIDTH: Final = 300
# A worker that has said its last word leaves at once.
_EXIT_TIMEOUT_S: Final = 10


class Limits(Record, frozen=True):
    """What all workers together may use.

    Attributes:
        workers: how many run at once.
        memory_mb: for all that run at once, in MiB.
        threads: of each worker.
    """

    workers: int
    memory_mb: int
    threads: int


class Waiting(Record, frozen=True):
    """A job that has not started.

    Attributes:
        folder: for its own files, removed by whoever made it.
        memory_mb: what it is expected to take.
    """

    job: ConversionJob
    folder: str
    memory_mb: int


class Ended(Record, frozen=True):
    """A job that has ended, and how long it took from the start of its process."""

    job: ConversionJob
    result: Succeeded | Failed
    seconds: float


def startable(
    waiting: Sequence[Waiting], running: Sequence[Waiting], limits: Limits
) -> tuple[Waiting, ...]:
    """Those that can start now, in order; pure.

    One that is too large for what is left waits, and those behind it that fit go first. One alone
    always starts, however large: the estimate may be wrong, and nothing else would free memory.
    """
    chosen: list[Waiting] = []
    used_mb = sum(job.memory_mb for job in running)
    for candidate in waiting:
        if len(running) + len(chosen) >= limits.workers:
            break
        alone = not running and not chosen
        if alone or used_mb + candidate.memory_mb <= limits.memory_mb:
            chosen.append(candidate)
            used_mb += candidate.memory_mb
    return tuple(chosen)


class _Worker:
    """A running process and what is left to read of its events."""

    def __init__(self, waiting: Waiting, threads: int) -> None:
        self.waiting = waiting
        self.started = time.monotonic()
        self.result: Succeeded | Failed | None = None
        folder = Path(waiting.folder)
        self.log = folder / "log.txt"
        job_file = folder / "job.json"
        job_file.write_text(waiting.job.to_json(), encoding="utf-8")
        with self.log.open("wb") as log:
            self.process = Child(
                # -P: a file of the user's that is called like a library must not be imported.
                [sys.executable, "-P", "-m", "edgese.conversion.worker", job_file],
                piped=True,
                stdout=subprocess.PIPE,
                stderr=log,
                env=_environment(folder, threads),
            )
        self._rest = b""

    @property
    def output(self) -> IO[bytes]:
        assert self.process.stdout is not None  # noqa: S101 - a pipe was asked for
        return self.process.stdout

    def begin(self) -> None:
        """Tells the worker that the program is there."""
        assert self.process.stdin is not None  # noqa: S101 - a pipe was asked for
        try:
            self.process.stdin.write(b"b")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # it has died; its output ends too, and that is where it is noticed

    def read(self) -> tuple[list[Advanced], bool]:
        """News of the worker, and whether it has said its last word."""
        data = os.read(self.output.fileno(), 2**16)
        *lines, self._rest = (self._rest + data).split(b"\n")
        news = []
        for line in lines:
            event = _EVENTS.decode(line)
            if isinstance(event, Advanced):
                news.append(event)
            else:
                self.result = event
        # Not its output's end: a process that a converter left behind may hold that open.
        return news, not data or self.result is not None

    def end(self) -> Ended:
        """Waits for the process, whose output has ended, and says how it went."""
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(_EXIT_TIMEOUT_S)
        self.process.end()
        return Ended(
            job=self.waiting.job,
            result=self.result or self._death(),
            seconds=time.monotonic() - self.started,
        )

    def _death(self) -> Failed:
        target, code = self.waiting.job.target, self.process.returncode
        lines = self.log.read_text(encoding="utf-8", errors="replace").rstrip().splitlines()
        tail = "\n".join(f"  {line[:_TAIL_WIDTH]}" for line in lines[-_TAIL_LINES:])
        if code < 0:
            ended = f"was ended by {signal.Signals(-code).name}"
            advice = (
                "The system may have run out of memory; try `--workers 1`."
                if code == -signal.SIGKILL
                else "The converter crashed; `edgese doctor` tells whether its packages fit."
            )
        else:
            ended = f"failed: {lines[-1][:_TAIL_WIDTH]}" if lines else f"ended in exit code {code}"
            advice = "`edgese doctor` tells whether the converter's packages fit."
        return Failed(
            message=f"The conversion to {target} {ended}",
            hint=f"{advice} Its log ends:\n{tail}" if tail else advice,
            exit_code=ConversionError.exit_code,
        )


class Pool:
    """The workers of one conversion; a context that leaves no process behind.

    Args:
        waiting: in the order in which they are to start.
        on_progress: called with the job's target and its news.
    """

    def __init__(
        self,
        waiting: Sequence[Waiting],
        limits: Limits,
        on_progress: Callable[[str, Advanced], None],
    ) -> None:
        self._waiting = list(waiting)
        self._limits = limits
        self._on_progress = on_progress
        self._running: list[_Worker] = []
        self._selector = selectors.DefaultSelector()
        self._program_is_there = False

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._kill()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._kill()

    def ended(self) -> Iterator[Ended]:
        """Lets the workers begin, starts those that wait, and gives each as it ends."""
        self._program_is_there = True
        for worker in self._running:
            worker.begin()
        while self._running:
            for key, _ in self._selector.select():
                worker = key.data
                news, is_last = worker.read()
                for event in news:
                    self._on_progress(worker.waiting.job.target, event)
                if is_last:
                    self._selector.unregister(worker.output)
                    self._running.remove(worker)
                    ended = worker.end()
                    self._start()
                    yield ended

    def _start(self) -> None:
        running = [worker.waiting for worker in self._running]
        for waiting in startable(self._waiting, running, self._limits):
            self._waiting.remove(waiting)
            worker = _Worker(waiting, self._limits.threads)
            self._running.append(worker)
            self._selector.register(worker.output, selectors.EVENT_READ, worker)
            if self._program_is_there:
                worker.begin()

    def _kill(self) -> None:
        for worker in self._running:
            worker.process.end()
        self._running.clear()
        self._selector.close()


def _environment(folder: Path, threads: int) -> dict[str, str]:
    scratch = folder / "tmp"
    scratch.mkdir()
    return os.environ | {
        # Converters leave temporary files behind; these go with the folder.
        "TMPDIR": str(scratch),
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        # A crash in a converter's C++ leaves its Python stack in the log.
        "PYTHONFAULTHANDLER": "1",
    }

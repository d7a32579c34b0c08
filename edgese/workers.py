"""Runs one function on many items in processes of its own: ``python -m edgese.workers``.

Processes of Python's own kinds import the caller's script again, which starts all over where it has
no ``if __name__ == "__main__"``, and leave sockets and servers behind when they are killed. These
are children like any other (`edgese.lifeline`), and speak over their standard input and output.
"""

import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Generator, Iterable
from contextlib import suppress
from itertools import islice
from multiprocessing.connection import Connection
from typing import IO, Any, Final, TypeVar

from edgese.errors import DeviceError, EdgeseError
from edgese.lifeline import Child

Item = TypeVar("Item")
Result = TypeVar("Result")
Ready = TypeVar("Ready")

_TAIL_CHARACTERS: Final = 2000
_MEMORY: Final = "The system may have run out of memory; try fewer processes (`--workers`)."


def in_order(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    workers: int,
    ahead: int,
    doing: str,
    receive: Callable[[Result], Ready],
) -> Generator[Ready]:
    """Yield what ``function`` makes of each item, in order; close it, and its processes are gone.

    Args:
        function: one that can be pickled, with all that it needs; it is sent once.
        workers: processes.
        ahead: items that each is given before the first result is asked for.
        doing: what they do, for messages: "prepare images".
        receive: is called with each result, in a thread of this process, as soon as it comes.

    Raises:
        EdgeseError: that ``function`` raised.
        DeviceError: a process ended.
    """
    left = iter(items)
    # No process is started that has nothing to do.
    first = list(islice(left, workers * ahead))
    group = [
        Worker(function, receive, doing, hint=_MEMORY) for _ in range(min(workers, len(first)))
    ]
    try:
        for number, item in enumerate(first):
            group[number % len(group)].give(item)
        asked, given = 0, len(first)
        while asked < given:
            worker = group[asked % len(group)]
            result = worker.take()
            asked += 1
            for item in islice(left, 1):
                group[given % len(group)].give(item)
                given += 1
            yield result
    finally:
        for worker in group:
            worker.end()


class Worker:
    """One process, and a thread that empties its output, so that it never waits for that.

    Args:
        function, receive, doing: as in `in_order`.
        hint: what to do where the process ends before its time.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        receive: Callable[[Any], Any],
        doing: str,
        *,
        hint: str,
    ) -> None:
        self.doing = doing
        self.hint = hint
        self.log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  # closed in `end`
        # -P: a file of the user's that is called like a library must not be imported.
        self.process = Child(
            [sys.executable, "-P", "-m", "edgese.workers"],
            piped=True,
            stdout=subprocess.PIPE,
            stderr=self.log,
        )
        assert self.process.stdin is not None  # noqa: S101  # a pipe was asked for
        assert self.process.stdout is not None  # noqa: S101  # a pipe was asked for
        self.input = Connection(os.dup(self.process.stdin.fileno()), readable=False)
        self.output = Connection(os.dup(self.process.stdout.fileno()), writable=False)
        self.results: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.thread = threading.Thread(target=self._listen, args=(receive,), daemon=True)
        self.thread.start()
        self.give(function)

    def give(self, item: object) -> None:
        """Send it an item; where it has died, taking the result tells."""
        with suppress(BrokenPipeError):
            self.input.send(item)

    def take(self) -> Any:  # noqa: ANN401  # whatever the function returns
        """Wait for the next result."""
        found = self.results.get()
        if isinstance(found, EOFError):
            raise self._death()
        if isinstance(found, BaseException):
            raise found
        return found

    def end(self) -> None:
        """Kill it."""
        self.process.end()
        self.thread.join()
        self.input.close()
        self.output.close()
        self.log.close()

    def _listen(self, receive: Callable[[Any], Any]) -> None:
        try:
            while True:
                found = self.output.recv()
                self.results.put(found if isinstance(found, BaseException) else receive(found))
        except (EOFError, OSError):
            # It has ended, in the middle of a message or between two.
            self.results.put(EOFError())
        except Exception as error:  # noqa: BLE001  # of `receive`; whoever waits raises it
            self.results.put(error)

    def _death(self) -> DeviceError:
        code = self.process.wait()
        ended = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"
        size = self.log.seek(0, os.SEEK_END)
        self.log.seek(max(0, size - _TAIL_CHARACTERS))
        said = self.log.read().decode("utf-8", "replace").strip()
        return DeviceError(
            f"A process that was to {self.doing} {ended}.",
            hint=self.hint + (f" It said:\n{said}" if said else ""),
        )


def main() -> None:
    """Apply the function that comes first to each item that follows, until the input ends."""
    # Whatever libraries print goes to the log.
    source, sink = Connection(os.dup(0)), Connection(os.dup(1))
    os.dup2(2, 1)
    with suppress(EOFError):
        function = source.recv()
        while True:
            item = source.recv()
            try:
                result = function(item)
            except EdgeseError as error:
                result = error
            sink.send(result)
    # All is said.
    os._exit(0)


if __name__ == "__main__":
    main()

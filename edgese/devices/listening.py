"""Hears a process out: its lines as they come, within a time limit."""

import os
import selectors
import subprocess
from collections.abc import Callable
from time import monotonic
from typing import IO, Final

from edgese.errors import DeviceError

TAIL_CHARACTERS: Final = 8000


def heard_out(
    process: subprocess.Popen[bytes], timeout_s: float, hear: Callable[[str], None], place: str
) -> str:
    """Passes on every line of the process's standard output, and gives the end of it all.

    Args:
        place: where the job runs, for messages: "this host".

    Raises:
        DeviceError: it did not end in its time; it still runs then.
    """
    deadline = monotonic() + timeout_s
    text = ""
    pending = b""
    assert process.stdout is not None  # noqa: S101  # it was asked for
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while True:
            left_s = deadline - monotonic()
            if left_s <= 0 or not selector.select(left_s):
                raise DeviceError(
                    f"The job on {place} did not end within {timeout_s:g} s.",
                    hint="Measure fewer or smaller artifacts at once, or allow more time.",
                )
            data = os.read(process.stdout.fileno(), 65536)
            *lines, pending = (pending + data).split(b"\n")
            if not data and pending:
                lines.append(pending)
            for line in lines:
                decoded = line.decode("utf-8", "replace")
                text = (text + decoded + "\n")[-TAIL_CHARACTERS:]
                hear(decoded)
            if not data:
                break
    try:
        process.wait(max(deadline - monotonic(), 1))
    except subprocess.TimeoutExpired as error:
        raise DeviceError(
            f"The job on {place} closed its output but did not end within {timeout_s:g} s.",
            hint="Try again; if it happens again, please report it.",
        ) from error
    return text


def tail(log: IO[bytes]) -> str:
    """The end of what was written to a file, as text."""
    log.seek(max(0, log.seek(0, os.SEEK_END) - TAIL_CHARACTERS))
    return log.read().decode("utf-8", "replace")

"""One lock for each device, so that two runs of edgese never measure on one at the same time.

The locks lie in the cache folder, so they hold among the runs of one user on one machine. What
reaches a device from elsewhere is not seen.
"""

import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from edgese.errors import DeviceError
from edgese.store import cache_folder, make_folder, writing

# As long as a plan gives a sweep of many artifacts by default is too long to wait unasked.
WAIT_S: Final = 600.0


@contextmanager
def held(
    key: str, title: str, hear: Callable[[str], None], *, wait_s: float = WAIT_S
) -> Iterator[None]:
    """Keeps a device for the block; waits first where another run has it.

    Args:
        key: names the device: the same for all that reach it the same way.
        title: of the device, for messages.
        hear: is told what is waited for, as a line of the runner's kind.
        wait_s: after which waiting is given up.

    Raises:
        DeviceError: another run still has it; says which.
        OutputError: the cache folder cannot be written.
    """
    from filelock import FileLock, Timeout

    folder = _folder()
    make_folder(folder)
    path = folder / f"{re.sub(r'[^A-Za-z0-9.-]', '_', key)}.lock"
    holder = path.with_suffix(".holder")
    lock = FileLock(path)
    with writing(folder):
        try:
            lock.acquire(timeout=0)
        except Timeout:
            stage = f"wait for {title}: {_who(holder)} measures on it"
            hear(json.dumps({"stage": stage, "fraction": 0.0}))
            try:
                lock.acquire(timeout=wait_s)
            except Timeout as error:
                raise DeviceError(
                    f"{title} is busy: after {wait_s:g} s {_who(holder)} still measures on it.",
                    hint="Wait until it is through, or end it; two at once would disturb "
                    "each other.",
                ) from error
    try:
        with writing(folder):
            holder.write_text(str(os.getpid()), encoding="ascii")
        yield
    finally:
        # Removed while it is held: whoever waits finds that its file has lost its name, and opens
        # the next one.
        holder.unlink(missing_ok=True)
        path.unlink(missing_ok=True)
        lock.release()


def _folder() -> Path:
    return cache_folder() / "devices"


def _who(holder: Path) -> str:
    with suppress(OSError, ValueError):
        return f"another edgese (process {int(holder.read_text(encoding='ascii'))})"
    return "another edgese"

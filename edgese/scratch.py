"""Temporary folders: all those of a process lie in one, which is gone when the process is.

Its name begins with `PREFIX` and it holds a file that its process keeps locked. The guard of
`edgese.lifeline` removes it where the process is killed while it has children. One that stayed all
the same has no lock any more, and the next process removes it.
"""

import atexit
import fcntl
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from edgese import lifeline
from edgese.errors import OutputError
from edgese.store import writing

PREFIX: Final = "edgese-run-"
_LOCK: Final = "lock"
# A folder without a lock file is one that is being made, or whose maker was killed at that moment.
_NEW_S: Final = 60.0


class _Root:
    """This process's folder."""

    def __init__(self) -> None:
        self.mutex = threading.Lock()
        self.folder: Path | None = None
        self.lock = -1
        # Where the caller's own temporary files go.
        self.outside = os.environ.get("TMPDIR")

    def path(self) -> Path:
        with self.mutex:
            if self.folder is None or not self.folder.is_dir():
                self._make()
            assert self.folder is not None  # noqa: S101  # it was made just now
            return self.folder

    def _make(self) -> None:
        try:
            place = Path(tempfile.gettempdir())
        except FileNotFoundError as error:
            raise OutputError(
                f"Temporary files cannot be written: {error.strerror}.",
                hint="Free some space, or let $TMPDIR name another place.",
            ) from error
        sweep(place)
        with writing(place):
            while True:
                folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=place))
                lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
                fcntl.flock(lock, fcntl.LOCK_EX)
                # Whoever swept between the two lines before has removed it.
                if (folder / _LOCK).exists():
                    break
                os.close(lock)
        self.folder, self.lock = folder, lock
        lifeline.guard_folder(folder)

    def remove(self) -> None:
        with self.mutex:
            if self.folder is not None:
                shutil.rmtree(self.folder, ignore_errors=True)
                lifeline.release_folder(self.folder)
                os.close(self.lock)
                self.folder = None

    def leave(self) -> None:
        """Forget the folder of the process that this one was forked from."""
        if self.folder is not None:
            os.close(self.lock)
        self.folder, self.mutex = None, threading.Lock()


_ROOT: Final = _Root()
atexit.register(_ROOT.remove)
os.register_at_fork(after_in_child=_ROOT.leave)


def sweep(place: Path) -> None:
    """Remove the folders in ``place`` whose processes are gone."""
    for folder in place.glob(f"{PREFIX}*"):
        # Other users' are theirs to remove.
        with suppress(OSError):
            _sweep_one(folder)


def _sweep_one(folder: Path) -> None:
    try:
        lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        if time.time() - folder.stat().st_mtime > _NEW_S:
            shutil.rmtree(folder)
        return
    try:
        with suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder)
    finally:
        os.close(lock)


@contextmanager
def temporary(purpose: str) -> Iterator[Path]:
    """Make an empty folder that is removed after the block.

    Args:
        purpose: a word for its name.

    Raises:
        OutputError: there is no place for temporary files.
    """
    root = _ROOT.path()
    with writing(root):
        folder = Path(tempfile.mkdtemp(prefix=f"{purpose}-", dir=root))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def take_over() -> None:
    """Let all temporary files of this process, whoever makes them, lie in its own folder.

    For a process that is edgese's alone: libraries leave files behind. Where there is no place for
    temporary files, whoever needs one reports it.
    """
    with suppress(OutputError):
        root = str(_ROOT.path())
        tempfile.tempdir = os.environ["TMPDIR"] = root


def outside() -> dict[str, str]:
    """Return the environment of a process that stays when this one has ended."""
    found = {key: value for key, value in os.environ.items() if key != "TMPDIR"}
    return found if _ROOT.outside is None else found | {"TMPDIR": _ROOT.outside}

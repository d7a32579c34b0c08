"""Child processes that end with this one, also when it is killed.

Every process that edgese starts is a `Child`. It leads a group of its own, and a guard
(`edgese.guard`, one for all children) kills the groups that are left when this process has ended.
The guard reads a pipe, whose end is the same on every system and for every way to die.

This module needs Python's own library alone, since bundles bring it to devices.
"""

import atexit
import errno
import os
import pkgutil
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Final

from edgese.guard import END, FOLDER, GROUP, OVER

# The program begins when a line has come: by then the guard knows of it. A parent that dies before
# that leaves a shell that reads the end of its input, and ends.
_WAIT: Final = 'read -r go && exec "$@"'
_WAIT_ALONE: Final = f"{_WAIT} </dev/null"
_FAREWELL_S: Final = 5.0


class _Guard:
    """The guard's process, started with the first child."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.process: subprocess.Popen[bytes] | None = None
        self.known: dict[bytes, None] = {}

    def add(self, what: bytes, *, start: bool) -> None:
        with self.lock:
            self.known[what] = None
            if self.process is None:
                if start:
                    self._start()
            else:
                self._say(what)

    def drop(self, what: bytes) -> None:
        with self.lock:
            if self.known.pop(what, what) is None and self.process is not None:
                self._say(OVER + what)

    def close(self) -> None:
        """Let it clear up what is left."""
        with self.lock:
            if self.process is not None and self.process.stdin is not None:
                self.process.stdin.close()
                with suppress(subprocess.TimeoutExpired):
                    self.process.wait(_FAREWELL_S)
                self.process = None

    def leave(self) -> None:
        """Forget the guard of the process that this one was forked from."""
        if self.process is not None and self.process.stdin is not None:
            self.process.stdin.close()
            # It is another process's child.
            self.process.returncode = 0
        self.__init__()  # type: ignore[misc]  # the lock too may have been held

    def _start(self) -> None:
        source = pkgutil.get_data("edgese", "guard.py")
        assert source is not None  # noqa: S101  # it lies beside this file
        self.process = subprocess.Popen(
            # Not -I: the interpreters of devices are told by variables where their library is.
            [sys.executable, "-P", "-S", "-c", source.decode()],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            cwd="/",
            # What ends this process's group must not end it.
            start_new_session=True,
        )
        for what in self.known:
            self._write(what)

    def _say(self, message: bytes) -> None:
        try:
            self._write(message)
        except BrokenPipeError:
            # Somebody has killed it; the next one is told all that is known.
            self.close()
            self._start()

    def _write(self, message: bytes) -> None:
        assert self.process is not None  # noqa: S101
        assert self.process.stdin is not None  # noqa: S101  # a pipe was asked for
        self.process.stdin.write(message + END)


_GUARD: Final = _Guard()
atexit.register(_GUARD.close)
os.register_at_fork(after_in_child=_GUARD.leave)


def guard_folder(folder: Path) -> None:
    """Have ``folder`` removed when this process is killed, if it has started a child until then.

    Args:
        folder: with a name that no other process ever takes: the guard may be late.
    """
    _GUARD.add(FOLDER + os.fsencode(folder), start=False)


def release_folder(folder: Path) -> None:
    """Take back `guard_folder`."""
    _GUARD.drop(FOLDER + os.fsencode(folder))


class Child(subprocess.Popen[bytes]):
    """A process in a group of its own that ends with this process.

    A terminal's Ctrl-C does not reach it; this process has to end it. What it started itself and
    left behind in its group is killed when it has ended.

    Args:
        argv: program and arguments.
        piped: whether its standard input is a pipe from here; else it is empty.
        stdout, stderr, cwd, env: as of `subprocess.Popen`.

    Raises:
        OSError: the program is not there, or may not be executed.
    """

    def __init__(
        self,
        argv: Sequence[str | Path],
        *,
        piped: bool = False,
        stdout: int | IO[bytes] | None = None,
        stderr: int | IO[bytes] | None = None,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self._over = False
        program = str(argv[0])
        where = (os.environ if env is None else env).get("PATH")
        beside = program if cwd is None or "/" not in program else str(cwd / program)
        if shutil.which(beside, path=where) is None:
            number = errno.EACCES if Path(beside).is_file() else errno.ENOENT
            raise OSError(number, os.strerror(number), program)
        shell = shutil.which("sh") or "/system/bin/sh"  # Android's
        super().__init__(
            [shell, "-c", _WAIT if piped else _WAIT_ALONE, "sh", *map(str, argv)],
            stdin=subprocess.PIPE,
            stdout=stdout,
            stderr=stderr,
            cwd=cwd,
            env=env,
            start_new_session=True,
        )
        assert self.stdin is not None  # noqa: S101  # a pipe was asked for
        try:
            _GUARD.add(self._name, start=True)
            with suppress(BrokenPipeError):  # it has been killed already
                self.stdin.write(b"\n")
                self.stdin.flush()
        except BaseException:
            self.end()
            raise
        if not piped:
            self.stdin.close()
            self.stdin = None

    @property
    def _name(self) -> bytes:
        return GROUP + str(self.pid).encode()

    def poll(self) -> int | None:
        """Return the exit code, or None while it runs."""
        code = super().poll()
        if code is not None:
            self._is_over()
        return code

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end and return the exit code."""
        code = super().wait(timeout)
        self._is_over()
        return code

    def end(self) -> None:
        """Kill it and all that it started, and close its pipes."""
        self.kill_group()
        self.wait()
        for pipe in (self.stdin, self.stdout, self.stderr):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()

    def _is_over(self) -> None:
        if not self._over:
            self.kill_group()
            self._over = True
            _GUARD.drop(self._name)

    def kill_group(self) -> None:
        """Kill it and all that it started, and do not wait."""
        if not self._over:
            # macOS refuses to signal a group whose processes have all ended.
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)


def run(
    argv: Sequence[str | Path],
    *,
    said: str = "",
    stdout: int | IO[bytes] = subprocess.PIPE,
    stderr: int | IO[bytes] = subprocess.PIPE,
    timeout_s: float | None = None,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end as a `Child`, and return what it said.

    Args:
        said: to it, on its standard input.

    Raises:
        OSError: the program is not there, or may not be executed.
        subprocess.TimeoutExpired: it did not end in time; it is gone then.
    """
    child = Child(argv, piped=bool(said), stdout=stdout, stderr=stderr, cwd=cwd, env=env)
    try:
        out, err = child.communicate(said.encode() or None, timeout=timeout_s)
    finally:
        child.end()
    return subprocess.CompletedProcess(
        [str(word) for word in argv],
        child.returncode,
        # None where it went elsewhere.
        (out or b"").decode("utf-8", "replace"),
        (err or b"").decode("utf-8", "replace"),
    )

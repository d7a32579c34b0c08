"""A machine that is reached through a shell: a phone over adb, a board over ssh."""

import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import IO, Final, Protocol

from edgese.devices import shell
from edgese.devices.listening import tail
from edgese.errors import DeviceError

# How long a short command may take; copying has no limit but the clients' own.
ASK_TIMEOUT_S: Final = 60.0
# Once the lifeline is cut, the far side kills what it runs; this long it is given to say so.
_FAREWELL_S: Final = 10.0


class Remote(Protocol):
    """A connection to a machine with a POSIX shell."""

    @property
    def name(self) -> str:
        """As in messages: "Pixel 8 (38071FDJH00123)"."""

    @property
    def base(self) -> str:
        """The folder there under which private folders are made."""

    def start(self, script: str, log: IO[bytes]) -> subprocess.Popen[bytes]:
        """Starts a script there; standard input and output are pipes, errors go to ``log``."""

    def send(self, source: Path, dest: str) -> str:
        """Copies a file or a folder there; gives what went wrong, "" where all is well."""

    def fetch(self, source: str, dest: Path) -> str:
        """Copies a file from there; gives what went wrong, "" where all is well."""

    def back(self, timeout_s: float) -> bool:
        """Waits until a machine whose connection was lost can be reached again."""

    def explain(self, said: str) -> tuple[str, str] | None:
        """Message and hint where the client's words tell why it has no connection."""


def ask(remote: Remote, script: str, timeout_s: float = ASK_TIMEOUT_S) -> shell.Answer:
    """Runs a short script there and gives its answer, whatever its return code.

    Raises:
        DeviceError: there is no connection, or it was lost before the answer was whole.
    """
    mark = shell.new_mark()
    with tempfile.TemporaryFile() as log:
        process = remote.start(shell.marked(script, mark), log)
        try:
            stdout, _ = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired as error:
            raise DeviceError(
                f"{remote.name} did not answer within {timeout_s:g} s.",
                hint="Check the connection, and whether the machine is awake.",
            ) from error
        finally:
            ended(process)
        said = tail(log)
    answer = shell.answered(stdout.decode("utf-8", "replace"), mark, said)
    if answer.code is None:
        raise lost(remote, said, "a short command")
    return answer


def told(remote: Remote, script: str, doing: str, timeout_s: float = ASK_TIMEOUT_S) -> str:
    """The standard output of a script that must succeed.

    Args:
        doing: what for, as in "making a folder on".

    Raises:
        DeviceError: it failed; the far side's own words are told.
    """
    answer = ask(remote, script, timeout_s)
    if answer.code:
        raise refused(remote, f"{answer.stdout}\n{answer.stderr}", doing)
    return answer.stdout


def lost(remote: Remote, said: str, during: str) -> DeviceError:
    """The error of a connection that is not there, or not any more."""
    if known := remote.explain(said):
        return DeviceError(*known)
    words = f" The client said: {last_line(said)}" if said.strip() else ""
    return DeviceError(
        f"The connection to {remote.name} was lost during {during}: its end mark did not come, "
        f"whatever the return code.{words}",
        hint="Check the cable or the network, and measure again.",
    )


def refused(remote: Remote, said: str, doing: str) -> DeviceError:
    """The error of something that the far side did not do, in its own words."""
    words = said.lower()
    if "no space left" in words or "disk quota" in words:
        return DeviceError(
            f"{remote.name} is full: {doing} it failed with {last_line(said)!r}.",
            hint=f"Free some space there; {remote.base} is where it was needed.",
        )
    if "permission denied" in words or "operation not permitted" in words:
        return DeviceError(
            f"{remote.name} denies permission: {doing} it failed with {last_line(said)!r}.",
            hint=f"Its user must be able to write to {remote.base} and to run programs there.",
        )
    if "read-only file system" in words:
        return DeviceError(
            f"{remote.name} cannot be written: {doing} it failed with {last_line(said)!r}.",
            hint=f"{remote.base} must be on a file system that takes files.",
        )
    return DeviceError(
        f"{doing[0].upper()}{doing[1:]} {remote.name} failed: {last_line(said)}",
        hint="Try the same by hand to see more.",
    )


def ended(process: subprocess.Popen[bytes]) -> None:
    """Cuts the lifeline, gives the far side a moment to clear up, and ends the client."""
    try:
        if process.stdin is not None:
            with suppress(BrokenPipeError):
                process.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            process.wait(_FAREWELL_S)
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def last_line(text: str) -> str:
    """The last line that says something."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing."

"""What a far shell is told to do, and how its answer is read; pure.

A connection that drops looks like success to whoever believes the client: `adb shell` then returns
0 with no output. So every answer ends with a mark that nobody can guess, and what has no mark did
not happen.

The scripts keep to what Android's mksh with toybox and a board's dash with coreutils or BusyBox
have in common. Android's tools by release (setsid, tar, taskset and timeout came with 6.0,
sha256sum with 8.0):
https://android.googlesource.com/platform/system/core/+/main/shell_and_utilities/README.md
"""

import secrets
import shlex
from collections.abc import Mapping, Sequence
from typing import Final

from edgese.bounds import whole
from edgese.records.base import Record

# What a shell returns for a command that is there but cannot be run, and for one that is not there.
NOT_EXECUTABLE: Final = 126
NOT_FOUND: Final = 127
# A shell tells a signal as 128 + its number.
_SIGNALLED: Final = 128
# Folders of a job: where it runs, and where what it forgets is removed with it.
WORK: Final = "work"
TEMPORARY: Final = "tmp"
_FIELDS: Final = 4


class Answer(Record, frozen=True):
    """What a command on the far side answered.

    Attributes:
        code: its return code; None where the mark is missing, so that the connection was lost.
    """

    code: int | None
    stdout: str
    stderr: str = ""


class FarFile(Record, frozen=True):
    """A file on the far side; ``sha256`` is "" where nothing there can hash."""

    sha256: str
    size_bytes: int


class Ending(Record, frozen=True):
    """How a job ended on the far side.

    Attributes:
        returncode: negative for the signal that ended it; None where no mark came.
        files: what is there, by its place in the list of names that was asked for.
    """

    returncode: int | None
    files: dict[int, FarFile]
    whole: bool


def new_mark() -> str:
    """A word that stands in no output by accident."""
    return f"edgese-{secrets.token_hex(12)}"


def marked(script: str, mark: str) -> str:
    """The script in a shell of its own, followed by a mark with its return code."""
    return f"(\n{script}\n) </dev/null\nprintf '%s\\n' {mark}:$?"


def answered(stdout: str, mark: str, stderr: str = "") -> Answer:
    """Reads the answer to a `marked` script."""
    text, found, code = stdout.rpartition(f"{mark}:")
    number = whole(code.strip())
    if not found or number is None:
        return Answer(code=None, stdout=stdout, stderr=stderr)
    return Answer(code=number, stdout=text, stderr=stderr)


def listing(names: Sequence[str], mark: str) -> str:
    """Tells size and hash of each file that is there; its number stands for its name."""
    lines = []
    for number, name in enumerate(names):
        quoted = shlex.quote(name)
        lines.append(
            f'if [ -f {quoted} ]; then h=$(sha256sum <{quoted} 2>/dev/null) || h=; h="${{h%% *}}"; '
            f'n=$(wc -c <{quoted}); printf \'%s\\n\' "{mark} {number} "$n" ${{h:--}}"; fi'
        )
    return "\n".join(lines)


def listed(text: str, mark: str) -> dict[int, FarFile]:
    """Reads a `listing`."""
    files = {}
    for line in text.splitlines():
        fields = line.split()
        if len(fields) != _FIELDS or fields[0] != mark:
            continue
        number, size = whole(fields[1]), whole(fields[2])
        if number is not None and size is not None:
            digest = "" if fields[3] == "-" else fields[3]
            files[number] = FarFile(sha256=digest, size_bytes=size)
    return files


# What watches the lifeline, which is its standard input: not every shell hands on other files that
# it has open. Its arguments: the script's process, the job's, the folder, seconds.
_GUARD: Final = """trap "" HUP TERM
exec 3<&0 </dev/null
cat <&3 &
line=$!
exec 3<&-
(sleep "$4"; kill -9 $line) &
wait $line
kill -9 "$1"
kill -9 -"$2"
cd /
rm -rf "$3"
kill -9 0"""


def job_script(
    argv: Sequence[str],
    environment: Mapping[str, str],
    *,
    folder: str,
    results: Sequence[str],
    limit_s: float,
    mark: str,
    private_home: bool,
) -> str:
    """The script that runs a job in ``folder``/work and tells how it ended.

    Its standard input is its lifeline: while the host is there it stays open, and nothing comes
    through it. When it ends, because the host gave up, died or lost the connection, a guard on the
    far side kills the job and removes the folder, without anyone's help. It kills this script
    first, which would otherwise end the guard because the job has ended. Job and guard have a
    session each, so that one signal reaches all that they started: adbd hears of the end only when
    nobody holds the line any more. A guard that is killed at once may not have its session yet.

    Args:
        results: names in ``folder``/work whose size and hash are told at the end.
        limit_s: after which the guard acts even if the line is still open.
        private_home: gives the job a home that is removed with it. Without, what its user has
            installed there is found.
    """
    place = shlex.quote(folder)
    temporary = f"{folder}/{TEMPORARY}"
    settings = {"TMPDIR": temporary, **environment}
    if private_home:
        settings["HOME"] = settings["XDG_CACHE_HOME"] = temporary
    variables = " ".join(f"{name}={shlex.quote(value)}" for name, value in settings.items())
    return f"""exec 3<&0
umask 077
cd {place}/{WORK} || exit
export {variables}
setsid {" ".join(map(shlex.quote, argv))} </dev/null 2>../stderr 3<&- &
job=$!
setsid sh -c '{_GUARD}' guard $$ $job {place} {int(limit_s) + 1} <&3 >/dev/null 2>&1 3<&- &
guard=$!
exec 3<&-
wait $job
code=$?
kill -9 $guard
kill -9 -$guard 2>/dev/null
kill -9 -$job 2>/dev/null
printf '%s\\n' "{mark}:$code"
tail -c 8000 ../stderr >../stderr.end
{listing([*results, "../stderr.end"], mark)}
printf '%s\\n' "{mark} end"
"""


class Listener:
    """Hears the output of a `job_script`: passes the job's own lines on and keeps the rest.

    Args:
        hear: is given each line of the job.
    """

    def __init__(self, mark: str) -> None:
        self._mark = mark
        self._told: list[str] = []
        self._code: int | None = None

    def lines(self, line: str) -> list[str]:
        """The job's own lines in what came; none, one, or the last that lacks its newline."""
        if self._code is not None:
            self._told.append(line)
            return []
        text, found, code = line.partition(f"{self._mark}:")
        number = whole(code.strip())
        if not found or number is None:
            return [line]
        self._code = number
        return [text] if text else []

    def ending(self) -> Ending:
        """How it ended, as far as it was heard."""
        code = self._code
        return Ending(
            returncode=_SIGNALLED - code if code is not None and code > _SIGNALLED else code,
            files=listed("\n".join(self._told), self._mark),
            whole=f"{self._mark} end" in self._told,
        )

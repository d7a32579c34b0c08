"""A job on a machine that is reached through a shell: a phone over adb, a board over ssh.

The job gets a private folder there. What is pushed is verified by size and hash, its output is
heard line by line, and when it is over, however that is, its processes and its folder are gone;
what could not be removed is told.
"""

import hashlib
import math
import secrets
import shlex
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Final, Protocol

import msgspec

from edgese.devices import elf, shell
from edgese.devices.listening import TAIL_CHARACTERS, heard_out, tail
from edgese.errors import DeviceError, EdgeseError, InputError
from edgese.records.base import Record
from edgese.records.measurement import Job, Outcome, Push
from edgese.store import sha256_of, size_of, writing

# How long a short command may take; copying has no limit but the clients' own.
ASK_TIMEOUT_S: Final = 60.0
# Once the lifeline is cut, the far side kills what it runs; this long it is given to say so.
_FAREWELL_S: Final = 10.0
# Beyond the job's own time, after which the far side ends it even if nobody tells it to.
_GRACE_S: Final = 60.0
RETURN_S: Final = 20.0


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


class Launch(Record, frozen=True):
    """How commands are started on the machine.

    Attributes:
        python: stands for "{python}".
        prefix: before every command, as in "taskset f0".
        environment: of every command.
        private_home: whether HOME is a folder that is removed with the job.
    """

    python: tuple[str, ...] = ()
    private_home: bool = True
    prefix: tuple[str, ...] = ()
    environment: dict[str, str] = msgspec.field(default_factory=dict)


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
            _ended(process)
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
    words = f" The client said: {_last_line(said)}" if said.strip() else ""
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
            f"{remote.name} is full: {doing} it failed with {_last_line(said)!r}.",
            hint=f"Free some space there; {remote.base} is where it was needed.",
        )
    if "permission denied" in words or "operation not permitted" in words:
        return DeviceError(
            f"{remote.name} denies permission: {doing} it failed with {_last_line(said)!r}.",
            hint=f"Its user must be able to write to {remote.base} and to run programs there.",
        )
    if "read-only file system" in words:
        return DeviceError(
            f"{remote.name} cannot be written: {doing} it failed with {_last_line(said)!r}.",
            hint=f"{remote.base} must be on a file system that takes files.",
        )
    return DeviceError(
        f"{doing[0].upper()}{doing[1:]} {remote.name} failed: {_last_line(said)}",
        hint="Try the same by hand to see more.",
    )


def programs(job: Job) -> list[Push]:
    """Those of the pushed files that the job's command names as programs: "./name"."""
    return [push for push in job.push if f"./{push.name}" in job.argv]


def refuse_foreign(job: Job, machine: str, name: str) -> None:
    """Raises where a pushed program was built for another processor.

    Args:
        machine: as `uname -m` tells it there.
        name: of the device.

    Raises:
        DeviceError: as said.
    """
    for push in programs(job):
        if Path(push.source).is_file():
            elf.refuse_foreign(Path(push.source), machine, name)


def run(remote: Remote, job: Job, hear: Callable[[str], None], launch: Launch) -> Outcome:
    """Runs a job there; when it is left, by Ctrl-C too, nothing of it is left there.

    Raises:
        DeviceError: no connection, a refusal, a job over its time, or a remainder; it is told.
        InputError: a file that was to be pushed does not exist here.
    """
    folder = f"{remote.base}/edgese-job-{secrets.token_hex(8)}"
    try:
        _prepare(remote, folder, job.push)
        outcome = _execute(remote, folder, job, hear, launch)
    except EdgeseError as error:
        if remainder := _removed(remote, folder):
            raise type(error)(error.message, hint=f"{error.hint} {remainder}".strip()) from error
        raise
    except BaseException as error:
        if remainder := _removed(remote, folder):
            error.add_note(remainder)
        raise
    if remainder := _removed(remote, folder):
        raise DeviceError(
            f"The job on {remote.name} ended, but its folder could not be removed.", hint=remainder
        )
    return outcome


def send_verified(remote: Remote, pairs: Sequence[tuple[Path, str]], folder: str) -> None:
    """Copies files or folders to names below ``folder`` and holds what arrived against them.

    Raises:
        DeviceError: the far side refused, the connection was lost, or something else arrived.
    """
    expected: list[tuple[Path, str]] = []
    for source, name in pairs:
        if said := remote.send(source, f"{folder}/{name}"):
            if known := remote.explain(said):
                raise DeviceError(*known)
            # sftp says no more than "Failure" of a disk that is full.
            if 0 <= (free_kb := _free_kb(remote, folder)) < _size_kb(source):
                said = f"{said}: no space left, {free_kb} kB are free for {_size_kb(source)} kB"
            raise refused(remote, said, f"copying {source.name} to")
        if source.is_dir():
            inside = [path for path in sorted(source.rglob("*")) if path.is_file()]
            expected += [(p, f"{name}/{p.relative_to(source).as_posix()}") for p in inside]
        else:
            expected.append((source, name))
    if not expected:
        return
    mark = shell.new_mark()
    names = [name for _, name in expected]
    script = f"cd {shlex.quote(folder)} && {{\n{shell.listing(names, mark)}\n}}"
    found = shell.listed(told(remote, script, "looking at what arrived on", 600), mark)
    for number, (source, name) in enumerate(expected):
        there = found.get(number)
        if there is None:
            raise DeviceError(
                f"{name} was copied to {remote.name}, but it is not there.", hint="Try again."
            )
        size_bytes = source.stat().st_size
        if there.size_bytes != size_bytes or there.sha256 not in {"", sha256_of(source)}:
            raise DeviceError(
                f"What arrived on {remote.name} as {name} is not what was sent: "
                f"{there.size_bytes} bytes of {size_bytes}, or with another hash.",
                hint="Try again; the connection or the storage there may be bad.",
            )


def _free_kb(remote: Remote, folder: str) -> int:
    """Room where a folder is; -1 where that cannot be found out."""
    try:
        words = ask(remote, f"df -k {shlex.quote(folder)} | tail -n 1").stdout.split()
    except DeviceError:
        return -1
    # "filesystem 1K-blocks used available capacity mounted".
    return int(words[3]) if len(words) > 3 and words[3].isdigit() else -1


def _size_kb(path: Path) -> int:
    return math.ceil(size_of(path) / 1024)


def _prepare(remote: Remote, folder: str, pushes: Sequence[Push]) -> None:
    for push in pushes:
        if push.source and not Path(push.source).exists():
            raise InputError(f"There is no {push.source}.", hint="Check the path.")
    places = {f"{folder}/work/{push.name}".rpartition("/")[0] for push in pushes}
    own = (f"{folder}/{name}" for name in (shell.WORK, shell.TEMPORARY))
    wanted = " ".join(map(shlex.quote, sorted({*own, *places})))
    # Made without -p first: a folder of this name that exists already is not ours.
    told(
        remote,
        f"umask 077; mkdir {shlex.quote(folder)} && mkdir -p {wanted}",
        "making a folder on",
    )
    with tempfile.TemporaryDirectory(prefix="edgese-") as name:
        pairs = []
        for number, push in enumerate(pushes):
            source = Path(push.source)
            if not push.source:
                source = Path(name) / str(number)
                with writing(source):
                    source.write_bytes(push.content)
            pairs.append((source, push.name))
        send_verified(remote, pairs, f"{folder}/work")


def _execute(
    remote: Remote, folder: str, job: Job, hear: Callable[[str], None], launch: Launch
) -> Outcome:
    argv = [*launch.prefix]
    for word in job.argv:
        argv += launch.python if word == "{python}" else [word]
    if own := [shlex.quote(f"{folder}/work/{push.name}") for push in programs(job)]:
        # Copying does not always keep that a file may be run.
        told(remote, f"chmod 700 {' '.join(own)}", "making a program executable on")
    mark = shell.new_mark()
    listener = shell.Listener(mark)
    text = ""

    def listen(line: str) -> None:
        nonlocal text
        for own in listener.lines(line):
            text = (text + own + "\n")[-TAIL_CHARACTERS:]
            hear(own)

    script = shell.job_script(
        argv,
        launch.environment,
        folder=folder,
        results=job.pull,
        limit_s=job.timeout_s + _GRACE_S,
        mark=mark,
        private_home=launch.private_home,
    )
    with tempfile.TemporaryFile() as log:
        process = remote.start(script, log)
        try:
            heard_out(process, job.timeout_s, listen, remote.name)
        finally:
            _ended(process)
        said = tail(log)
    ending = listener.ending()
    if ending.returncode is None or not ending.whole:
        raise lost(remote, said, "the job")
    fetched = _fetched(remote, folder, ending, job.pull)
    stderr = fetched.pop("", b"").decode("utf-8", "replace")
    if ending.returncode in {shell.NOT_EXECUTABLE, shell.NOT_FOUND}:
        raise DeviceError(
            f"{argv[len(launch.prefix)]} cannot be started on {remote.name}: {_last_line(stderr)}",
            hint="Check that it exists there and was built for its processor.",
        )
    return Outcome(returncode=ending.returncode, stdout=text, stderr=stderr, files=fetched)


def _fetched(
    remote: Remote, folder: str, ending: shell.Ending, names: Sequence[str]
) -> dict[str, bytes]:
    """What the job left, by name; its standard error is under ""."""
    contents = {}
    with tempfile.TemporaryDirectory(prefix="edgese-") as place:
        for number, there in ending.files.items():
            path = Path(place) / str(number)
            name = names[number] if number < len(names) else ""
            source = f"{folder}/work/{name}" if name else f"{folder}/stderr.end"
            if said := remote.fetch(source, path):
                raise lost(remote, said, f"fetching {name or 'the error output'}")
            content = path.read_bytes()
            digest = hashlib.sha256(content).hexdigest()
            if len(content) != there.size_bytes or there.sha256 not in {"", digest}:
                raise DeviceError(
                    f"What came back from {remote.name} as {name or 'the error output'} is not "
                    f"what is there: {len(content)} bytes of {there.size_bytes}, or another hash.",
                    hint="Measure again; the connection may be bad.",
                )
            contents[name] = content
    return contents


def _ended(process: subprocess.Popen[bytes]) -> None:
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


def _removed(remote: Remote, folder: str) -> str:
    """Removes a job's folder; gives what is to be done by hand where that failed."""
    quoted = shlex.quote(folder)
    # Where the guard there is at it too, one of the two may find a folder that is not yet empty.
    script = (
        f"for i in 1 2 3; do rm -rf {quoted}; [ -e {quoted} ] || break; sleep 1; done; "
        f"[ ! -e {quoted} ]"
    )
    try:
        try:
            answer = ask(remote, script)
        except DeviceError:
            # A cable that was pulled is often put back at once.
            if not remote.back(RETURN_S):
                raise
            answer = ask(remote, script)
    except DeviceError as error:
        return f"Whether {folder} is still on {remote.name} is not known: {error.message}"
    if answer.code:
        return f"{folder} is still on {remote.name}: {_last_line(answer.stderr + answer.stdout)}"
    return ""


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing."

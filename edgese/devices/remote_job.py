"""A job on a machine that is reached through a shell.

The job gets a private folder there. What is pushed is verified by size and hash, its output is
heard line by line, and when it is over, however that is, its processes and its folder are gone;
what could not be removed is told.
"""

import secrets
import shlex
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from edgese.devices import elf, shell
from edgese.devices.copying import fetched, send_verified
from edgese.devices.listening import TAIL_CHARACTERS, heard_out, tail
from edgese.devices.remote import Remote, ask, ended, last_line, lost, told
from edgese.errors import DeviceError, EdgeseError, InputError
from edgese.records.base import Record
from edgese.records.measurement import Job, Outcome, Push
from edgese.scratch import temporary
from edgese.store import writing

# Beyond the job's own time, after which the far side ends it even if nobody tells it to.
_GRACE_S: Final = 60.0
# A cable that was pulled is often put back at once; this long it is waited for.
RETURN_S: Final = 20.0


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


def _prepare(remote: Remote, folder: str, pushes: Sequence[Push]) -> None:
    for push in pushes:
        if push.source and not Path(push.source).exists():
            raise InputError(f"There is no {push.source}.", hint="Check the path.")
    places = {f"{folder}/{shell.WORK}/{push.name}".rpartition("/")[0] for push in pushes}
    own = (f"{folder}/{name}" for name in (shell.WORK, shell.TEMPORARY))
    wanted = " ".join(map(shlex.quote, sorted({*own, *places})))
    # Made without -p first: a folder of this name that exists already is not ours.
    told(
        remote,
        f"umask 077; mkdir {shlex.quote(folder)} && mkdir -p {wanted}",
        "making a folder on",
    )
    with temporary("pushed") as own_folder:
        pairs = []
        for number, push in enumerate(pushes):
            source = Path(push.source)
            if not push.source:
                source = own_folder / str(number)
                with writing(source):
                    source.write_bytes(push.content)
            pairs.append((source, push.name))
        send_verified(remote, pairs, f"{folder}/{shell.WORK}")


def _execute(
    remote: Remote, folder: str, job: Job, hear: Callable[[str], None], launch: Launch
) -> Outcome:
    argv = [*launch.prefix]
    for word in job.argv:
        argv += launch.python if word == "{python}" else [word]
    if own := [shlex.quote(f"{folder}/{shell.WORK}/{push.name}") for push in programs(job)]:
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
            ended(process)
        said = tail(log)
    ending = listener.ending()
    if ending.returncode is None or not ending.whole:
        raise lost(remote, said, "the job")
    files = fetched(remote, folder, ending, job.pull)
    stderr = files.pop("", b"").decode("utf-8", "replace")
    if ending.returncode in {shell.NOT_EXECUTABLE, shell.NOT_FOUND}:
        raise DeviceError(
            f"{argv[len(launch.prefix)]} cannot be started on {remote.name}: {last_line(stderr)}",
            hint="Check that it exists there and was built for its processor.",
        )
    return Outcome(returncode=ending.returncode, stdout=text, stderr=stderr, files=files)


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
            if not remote.back(RETURN_S):
                raise
            answer = ask(remote, script)
    except DeviceError as error:
        return f"Whether {folder} is still on {remote.name} is not known: {error.message}"
    if answer.code:
        return f"{folder} is still on {remote.name}: {last_line(answer.stderr + answer.stdout)}"
    return ""

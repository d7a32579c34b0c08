"""A board with Linux as a device, through the system's `ssh` and `sftp`.

What runs there is what phones and the emulator run: `measure/runner.py` in the interpreter of
`edgese.devices.sysroot`, which is copied once to ``~/.cache/edgese`` there. So a board needs
neither a Python of its own, nor packages, nor the internet. An interpreter that is there already,
with the runtimes, can be named instead.

This was tried with Debian's sshd on the same machine, and not yet on a board.
"""

import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Final

import msgspec

from edgese.catalog import target_facts
from edgese.devices import boards, heat, interpreter, locking, remote, remote_job
from edgese.devices.affinity import mask
from edgese.devices.cooling import cooled
from edgese.devices.pinning import pinning
from edgese.devices.ssh_client import Board, SshClient, connected, parsed
from edgese.errors import DeviceError, MissingDependency
from edgese.records.device import DeviceFacts, PhoneState
from edgese.records.measurement import DeviceInfo, Job, Outcome
from edgese.records.recognition import recognised

_PYTHON: Final = "{python}"
# `measure/runner.py` is written for this Python.
_OLDEST: Final = (3, 11)
_BASE: Final = (
    'd="${XDG_CACHE_HOME:-$HOME/.cache}/edgese"; umask 077; mkdir -p "$d" && cd "$d" && pwd -P'
)


class SshDevice:
    """A board at an address; each call makes one connection and ends it.

    Args:
        address: "user@host:port"; ssh's configuration has the rest, or another name for all of it.
        facts: of the catalogue: the board must answer as they say. None takes any.
        python: the interpreter that is copied there, or the command that starts one which is there
            already, with the runtimes; None where only programs of one's own are run.
        threads: jobs are pinned to the fastest clusters that together have this many cores.
        config: an ssh configuration file instead of the user's own.
        cool_c: jobs wait until the hottest thermal zone that the board tells of is cooler than
            this; None does not wait. A board that tells of none is not waited for.
        cool_timeout_s: after which waiting is given up, as an error.
        busy_timeout_s: the same for another run of edgese that measures on the board.
        sleep: between two looks at a board that cools down.

    Attributes:
        before, after: the board around the last job; None where there was none, or where it was
            lost right after it.
    """

    def __init__(
        self,
        address: str,
        *,
        facts: DeviceFacts | None = None,
        python: interpreter.Bundle | Sequence[str] | None = None,
        threads: int = 4,
        config: Path | None = None,
        cool_c: float | None = heat.BOARD_COOL_C,
        cool_timeout_s: float = heat.TIMEOUT_S,
        busy_timeout_s: float = locking.WAIT_S,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.before: PhoneState | None = None
        self.after: PhoneState | None = None
        self._client = SshClient(parsed(address), config=config)
        self._facts = facts
        self._python = python
        self._threads = threads
        self._cool_c = cool_c
        self._cool_timeout_s = cool_timeout_s
        self._busy_timeout_s = busy_timeout_s
        self._sleep = sleep

    def check(self, target: str) -> None:
        """Raises where artifacts of ``target`` cannot be executed there.

        Raises:
            DeviceError: Core ML, another board, or none.
            MissingDependency: there is no interpreter for it, or it lacks the runtime.
        """
        facts = target_facts(target)
        with self._connected() as board:
            if target == "coreml":
                raise DeviceError(
                    f"{board.name} runs Linux: {facts.title} runs on Apple systems only.",
                    hint="Leave such artifacts out here.",
                )
            hint = "edgese emulator setup" + (" --executorch" if target == "executorch" else "")
            if isinstance(self._python, Sequence):
                _check_version(board, self._python)
                hint = f"Install it there, for {self._python[0]}."
            if self._python is None or not interpreter.has(board, self._python, facts.runtime):
                raise MissingDependency(
                    f"There is no interpreter with {facts.title}'s runtime for {board.name}.",
                    hint=hint,
                )

    def state(self) -> PhoneState:
        """How the board is now.

        Raises:
            DeviceError: it cannot be asked.
        """
        with self._connected() as board:
            return self._state(board)

    def info(self) -> DeviceInfo:
        """What the board is, and how busy it is now."""
        return boards.info(self.state(), self._facts)

    def run(self, job: Job, hear: Callable[[str], None]) -> Outcome:
        """Runs a job there on the fast cores, once the board is cool; leaves nothing of it behind.

        Raises:
            DeviceError: it says what happened, and what could not be removed.
        """
        self.before = self.after = None
        with self._kept(hear), self._connected() as board:
            self.before = before = self._cooled(board, hear)
            remote_job.refuse_foreign(job, before.architecture, board.name)
            python: tuple[str, ...] = ()
            if _PYTHON in job.argv:
                python = self._interpreter(board, before, hear)
            prefix = ("taskset", mask(before.pinned)) if before.pinned else ()
            # A Python that is there may have its packages in its user's home.
            bundled = not isinstance(self._python, Sequence)
            launch = remote_job.Launch(python=python, prefix=prefix, private_home=bundled)
            outcome = remote_job.run(board, job, hear, launch)
            try:
                self.after = self._state(board)
            except DeviceError:
                # The job's results are here; that the board has gone since makes them no worse.
                self.after = None
            return outcome

    def clean(self, hear: Callable[[str], None] = lambda _: None) -> tuple[str, ...]:
        """Removes all that edgese has on the board, the interpreter too; gives their names.

        Raises:
            DeviceError: something could not be removed, or the board is being measured.
        """
        with self._kept(hear), self._connected() as board:
            return interpreter.clean(board)

    def _kept(self, hear: Callable[[str], None]) -> AbstractContextManager[None]:
        """The board for this run alone."""
        address = self._client.address
        key = f"ssh-{address.login}" + (f"-{address.port}" if address.port else "")
        title = f"{self._facts.title if self._facts else 'the board'} ({address.login})"
        return locking.held(key, title, hear, wait_s=self._busy_timeout_s)

    def _cooled(self, board: Board, hear: Callable[[str], None]) -> PhoneState:
        """Waits until the board is cool."""
        limit_c = self._cool_c
        if limit_c is None:
            return self._state(board)
        return cooled(
            lambda: self._state(board),
            lambda now: heat.board_too_warm(now, limit_c),
            board.name,
            hear,
            hint="Give it a heat sink or a fan, or allow more.",
            timeout_s=self._cool_timeout_s,
            sleep=self._sleep,
        )

    @contextmanager
    def _connected(self) -> Iterator[Board]:
        title = self._facts.title if self._facts else "the board"
        with connected(self._client, title) as board:
            board.base = remote.told(board, _BASE, "making a folder on").strip()
            if self._facts is not None and self._facts.properties:
                self._recognise(board, self._facts)
            yield board

    def _recognise(self, board: Board, facts: DeviceFacts) -> None:
        answers = {}
        for path in facts.properties:
            # The kernel ends such texts with a zero byte.
            told = remote.ask(board, f"cat {shlex.quote(path)} 2>/dev/null").stdout
            answers[path] = told.strip("\0\n ")
        if not recognised(facts.properties, answers):
            said = ", ".join(value for value in answers.values() if value) or "nothing"
            raise DeviceError(
                f"{board.client.address.login} is no {facts.title}: of itself it says {said!r}.",
                hint="Name the device that it is, or another address.",
            )

    def _state(self, board: Board) -> PhoneState:
        text = remote.told(board, boards.QUESTIONS, "asking")
        now = boards.state(text, self._client.address.login, self._facts)
        pinned, reason = pinning(board, now.cores, self._threads)
        return msgspec.structs.replace(now, pinned=pinned, pinning=reason)

    def _interpreter(
        self, board: Board, now: PhoneState, hear: Callable[[str], None]
    ) -> tuple[str, ...]:
        if isinstance(self._python, Sequence):
            _check_version(board, self._python)
            return tuple(self._python)
        return (interpreter.installed(board, self._bundle(), now.architecture, hear),)

    def _bundle(self) -> interpreter.Bundle:
        if self._python is None or isinstance(self._python, Sequence):
            raise MissingDependency(
                "There is no interpreter with the runtimes for boards.",
                hint="edgese emulator setup",
            )
        return self._python


def _check_version(board: Board, python: Sequence[str]) -> None:
    code = "import sys; print(*sys.version_info[:2])"
    answer = remote.ask(board, shlex.join([*python, "-c", code]))
    words = answer.stdout.split()
    if answer.code or len(words) != len(_OLDEST):
        raise DeviceError(
            f"{python[0]} cannot be started on {board.name}: "
            f"{(answer.stderr.strip() or 'it said nothing').splitlines()[-1]}",
            hint="Leave it out, so that edgese brings its own interpreter.",
        )
    if tuple(map(int, words)) < _OLDEST:
        raise DeviceError(
            f"{python[0]} on {board.name} is Python {'.'.join(words)}; measuring needs "
            f"{'.'.join(map(str, _OLDEST))} or later.",
            hint="Leave it out, so that edgese brings its own interpreter.",
        )

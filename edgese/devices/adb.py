"""An Android phone as a device, through the system's `adb`.

What runs there by default is what boards and the emulator run: `measure/runner.py` in the
interpreter of `edgese.devices.sysroot`. It computes on the CPU. This was tried with the real client
on the fake phone of the tests, with Android's shell and tools, and not yet on a phone.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Final

import msgspec

from edgese.catalog import target_facts
from edgese.devices import android, heat, interpreter, locking, remote, remote_job
from edgese.devices.adb_client import AdbClient, Phone, server_address
from edgese.devices.affinity import mask
from edgese.devices.cooling import cooled
from edgese.devices.phones import find
from edgese.devices.pinning import pinning
from edgese.errors import DeviceError, MissingDependency
from edgese.records.device import DeviceFacts, PhoneState
from edgese.records.measurement import DeviceInfo, Job, Outcome

_PYTHON: Final = "{python}"


class AdbDevice:
    """A phone that is found when it is first needed.

    Args:
        facts: of the catalogue: the phone must answer as they say. None takes any.
        serial: of the phone; "" takes ANDROID_SERIAL, or the only one that fits.
        server: "HOST:PORT" of an adb server elsewhere; "" for this machine's own.
        python: the interpreter that is copied there, or the command that starts one which is there
            already, with the runtimes; None where only programs of one's own are run.
        prefix: what runs the interpreter's programs there, where the kernel cannot: an emulator.
        threads: jobs are pinned to the fastest clusters that together have this many cores.
        cool_c: jobs wait until the phone is cooler than this; None does not wait.
        cool_timeout_s: after which waiting is given up, as an error.
        busy_timeout_s: the same for another run of edgese that measures on the phone.
        environment: of adb, what differs from this process's.
        sleep: between two looks at a phone that cools down.

    Attributes:
        before, after: the phone around the last job; None where there was none, or where the phone
            was lost right after it.
    """

    def __init__(
        self,
        facts: DeviceFacts | None = None,
        *,
        serial: str = "",
        server: str = "",
        python: interpreter.Bundle | Sequence[str] | None = None,
        prefix: Sequence[str] = (),
        threads: int = 4,
        cool_c: float | None = heat.PHONE_COOL_C,
        cool_timeout_s: float = heat.TIMEOUT_S,
        busy_timeout_s: float = locking.WAIT_S,
        environment: dict[str, str] | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.before: PhoneState | None = None
        self.after: PhoneState | None = None
        self._facts = facts
        self._serial = serial
        self._server = server
        self._client = AdbClient(
            server=server_address(server) if server else None, environment=environment or {}
        )
        self._python = python
        self._prefix = tuple(prefix)
        self._threads = threads
        self._cool_c = cool_c
        self._cool_timeout_s = cool_timeout_s
        self._busy_timeout_s = busy_timeout_s
        self._sleep = sleep
        self._phone: Phone | None = None
        self._pinned: tuple[tuple[int, ...], str] | None = None

    @property
    def phone(self) -> Phone:
        """The phone; looked for at first.

        Raises:
            DeviceError: none fits, several do, or the one is not usable; it says which and why.
            MissingDependency: there is no adb.
        """
        if self._phone is None:
            self._phone = find(self._client, self._facts, self._serial)
        return self._phone

    def check(self, target: str) -> None:
        """Raises where artifacts of ``target`` cannot be executed there.

        Raises:
            DeviceError: Core ML, or a phone that is not there.
            MissingDependency: there is no interpreter for it, or it lacks the runtime.
        """
        facts = target_facts(target)
        if target == "coreml":
            raise DeviceError(
                f"{self.phone.name} runs Android: {facts.title} runs on Apple systems only.",
                hint="Leave such artifacts out here.",
            )
        if self._python is None:
            raise MissingDependency(
                "There is no interpreter with the runtimes for phones.",
                hint="edgese emulator setup",
            )
        if not interpreter.has(self.phone, self._python, facts.runtime):
            raise MissingDependency(
                f"The interpreter for {self.phone.name} lacks {facts.title}'s runtime.",
                hint="edgese emulator setup" + (" --executorch" if target == "executorch" else ""),
            )

    def state(self) -> PhoneState:
        """How the phone is now.

        Raises:
            DeviceError: it cannot be asked.
        """
        text = remote.told(self.phone, android.QUESTIONS, "asking")
        now = android.state(text, self.phone.serial)
        if self._pinned is None:
            self._pinned = pinning(self.phone, now.cores, self._threads)
        cores, reason = self._pinned
        return msgspec.structs.replace(now, pinned=cores, pinning=reason)

    def info(self) -> DeviceInfo:
        """What the phone is, and how busy it is now."""
        return android.info(self.state(), self._facts)

    def run(self, job: Job, hear: Callable[[str], None]) -> Outcome:
        """Runs a job there on the fast cores, once the phone is cool; leaves nothing of it behind.

        Raises:
            DeviceError: it says what happened, and what could not be removed.
        """
        self.before = self.after = None
        with self._kept(hear):
            return self._run(job, hear)

    def clean(self, hear: Callable[[str], None] = lambda _: None) -> tuple[str, ...]:
        """Removes all that edgese has on the phone, the interpreter too; gives their names.

        Raises:
            DeviceError: something could not be removed, or the phone is being measured.
        """
        with self._kept(hear):
            return interpreter.clean(self.phone)

    def _kept(self, hear: Callable[[str], None]) -> AbstractContextManager[None]:
        """The phone for this run alone."""
        # A serial such as "emulator-5554" is one phone on each server.
        key = "-".join(word for word in ("adb", self._server, self.phone.serial) if word)
        return locking.held(key, self.phone.name, hear, wait_s=self._busy_timeout_s)

    def _run(self, job: Job, hear: Callable[[str], None]) -> Outcome:
        phone = self.phone
        self.before = before = self._cooled(hear)
        remote_job.refuse_foreign(job, before.architecture, phone.name)
        python: tuple[str, ...] = ()
        if _PYTHON in job.argv:
            python = self._interpreter(before, hear)
        prefix = ("taskset", mask(before.pinned)) if before.pinned else ()
        outcome = remote_job.run(phone, job, hear, remote_job.Launch(python=python, prefix=prefix))
        try:
            self.after = self.state()
        except DeviceError:
            # The job's results are here; that the phone has gone since does not make them worse.
            self.after = None
        return outcome

    def _interpreter(self, now: PhoneState, hear: Callable[[str], None]) -> tuple[str, ...]:
        if self._python is None:
            raise MissingDependency(
                "There is no interpreter with the runtimes for phones.",
                hint="edgese emulator setup",
            )
        if isinstance(self._python, Sequence):
            return tuple(self._python)
        return (
            interpreter.installed(self.phone, self._python, now.architecture, hear, self._prefix),
        )

    def _cooled(self, hear: Callable[[str], None]) -> PhoneState:
        """Waits until the phone is cool."""
        limit_c = self._cool_c
        if limit_c is None:
            return self.state()
        return cooled(
            self.state,
            lambda now: heat.phone_too_warm(now, limit_c),
            self.phone.name,
            hear,
            hint="Take it out of its case, off the charger and out of the sun, or allow more.",
            timeout_s=self._cool_timeout_s,
            sleep=self._sleep,
        )

"""The system's `adb`: what is attached, a shell on it, and copies to and from it."""

import re
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final

from edgese.bounds import whole
from edgese.errors import ConfigError, DeviceError, MissingDependency
from edgese.lifeline import Child, run
from edgese.records.base import Record
from edgese.scratch import outside

# Where every Android lets its shell's user put files and run them.
TEMPORARY: Final = "/data/local/tmp"
_TIMEOUT_S: Final = 60.0
_COPY_TIMEOUT_S: Final = 3600.0
_INSTALL: Final = (
    "Install it: `sudo apt-get install adb` on Debian and Ubuntu, `brew install "
    "android-platform-tools` on macOS."
)
# What keeps an attached phone from being used, and what helps.
REMEDIES: Final = {
    "unauthorized": "Unlock the phone and allow USB debugging for this computer.",
    "authorizing": "Unlock the phone and allow USB debugging for this computer.",
    "offline": "Plug it in again, or switch USB debugging off and on.",
    "no permissions": "Give your user access to its USB port (on Debian: the group plugdev and "
    "the package android-sdk-platform-tools-common), then plug it in again.",
    "bootloader": "Start Android on it.",
    "recovery": "Start Android on it.",
    "sideload": "Start Android on it.",
}
# How the client tells that its server has lost the phone while it copied, or before.
_LOST: Final = (
    "couldn't read from device",
    "failed to read copy response",
    "connect failed: closed",
    "error: closed",
    "error: device still connecting",
    "protocol fault",
    "Connection reset",
    "Broken pipe",
)


class Attached(Record, frozen=True):
    """A line of ``adb devices -l``.

    Attributes:
        state: "device" where it can be used.
        model: as adb abridges it: "Pixel_8".
    """

    serial: str
    state: str
    model: str = ""


def attached(text: str) -> tuple[Attached, ...]:
    """Reads what ``adb devices -l`` prints."""
    found = []
    for line in text.partition("List of devices attached")[2].splitlines():
        if len(words := line.split(maxsplit=1)) < 2:
            continue
        serial, rest = words
        # "no permissions" is followed by an explanation in brackets.
        several = rest.startswith("no permissions")
        state = "no permissions" if several else rest.split()[0]
        model = re.search(r"\bmodel:(\S+)", rest)
        found.append(Attached(serial=serial, state=state, model=model.group(1) if model else ""))
    return tuple(found)


def server_address(text: str) -> tuple[str, int]:
    """Host and port of ``--adb-server HOST:PORT``.

    Raises:
        ConfigError: it is not of this form.
    """
    host, _, port = text.rpartition(":")
    number = whole(port)
    if not host or number is None or not 0 < number < 2**16:
        raise ConfigError(
            f"{text!r} is no address of an adb server.", hint="Give HOST:PORT, as in lab:5037."
        )
    return host, number


@dataclass(frozen=True)
class AdbClient:
    """The program `adb`, and the server that it talks to.

    Attributes:
        server: host and port; None for this machine's own, which it starts if need be.
        environment: what differs from this process's.
    """

    server: tuple[str, int] | None = None
    environment: Mapping[str, str] = field(default_factory=dict)

    def argv(self, *words: str) -> list[str]:
        """The command line of an adb command.

        Raises:
            MissingDependency: there is no adb.
        """
        program = shutil.which("adb")
        if program is None:
            raise MissingDependency("Phones are reached through adb, which is not here.", _INSTALL)
        place = ["-H", self.server[0], "-P", str(self.server[1])] if self.server else []
        return [program, *place, *words]

    def variables(self) -> dict[str, str]:
        """Of its process. ANDROID_SERIAL is left out: whom we talk to is said each time.

        The client may start adb's server, which stays.
        """
        variables = outside() | dict(self.environment)
        variables.pop("ANDROID_SERIAL", None)
        return variables

    def run(self, *words: str, timeout_s: float = _TIMEOUT_S) -> subprocess.CompletedProcess[str]:
        """Runs an adb command to its end.

        Raises:
            DeviceError: it takes too long.
        """
        try:
            return run(self.argv(*words), env=self.variables(), timeout_s=timeout_s)
        except subprocess.TimeoutExpired as error:
            raise DeviceError(
                f"`adb {' '.join(words)}` did not end within {timeout_s:g} s.",
                hint="Plug the phone in again; `adb kill-server` starts adb's server afresh.",
            ) from error

    def attached(self) -> tuple[Attached, ...]:
        """All phones that the server knows, usable or not.

        Raises:
            DeviceError: the server cannot be reached.
        """
        outcome = self.run("devices", "-l")
        if outcome.returncode:
            where = ":".join(map(str, self.server)) if self.server else "this machine"
            raise DeviceError(
                f"The adb server on {where} cannot be asked: "
                f"{_last(outcome.stderr or outcome.stdout)}",
                hint="Check the address, and that `adb devices` works there.",
            )
        return attached(outcome.stdout)


@dataclass(frozen=True)
class Phone:
    """One phone that adb reaches; a `edgese.devices.remote.Remote`.

    Attributes:
        title: as people call it, for messages.
    """

    client: AdbClient
    serial: str
    title: str = "the phone"

    @property
    def name(self) -> str:
        """Title and serial."""
        return f"{self.title} ({self.serial})"

    @property
    def base(self) -> str:
        """The shell's temporary folder."""
        return TEMPORARY

    def start(self, script: str, log: IO[bytes]) -> subprocess.Popen[bytes]:
        """Starts a script in the phone's shell."""
        return Child(
            self.client.argv("-s", self.serial, "shell", script),
            env=self.client.variables(),
            piped=True,
            stdout=subprocess.PIPE,
            stderr=log,
        )

    def send(self, source: Path, dest: str) -> str:
        """Pushes a file or a folder."""
        return self._copied("push", str(source), dest)

    def fetch(self, source: str, dest: Path) -> str:
        """Pulls a file."""
        return self._copied("pull", source, str(dest))

    def _copied(self, *words: str) -> str:
        outcome = self.client.run("-s", self.serial, *words, timeout_s=_COPY_TIMEOUT_S)
        if not outcome.returncode:
            return ""
        # What it copied all the same is told after the error.
        said = f"{outcome.stdout}\n{outcome.stderr}".strip().splitlines()
        return "\n".join([line for line in said if "error" in line] or said) or "it did not say why"

    def back(self, timeout_s: float) -> bool:
        """Waits until the server has the phone again."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            try:
                if any(one.serial == self.serial and one.state == "device" for one in self._all()):
                    return True
            except DeviceError:
                return False
            time.sleep(0.25)
        return False

    def _all(self) -> Sequence[Attached]:
        return self.client.attached()

    def explain(self, said: str) -> tuple[str, str] | None:
        """Reads adb's own complaints about the connection."""
        for state, remedy in REMEDIES.items():
            if f"device {state}" in said or f"device still {state}" in said:
                return f"{self.name} is attached but {state}.", remedy
        gone = f"device '{self.serial}' not found" in said or "no devices/emulators" in said
        if gone or any(words in said for words in _LOST):
            return (
                f"The connection to {self.name} was lost: {_last(said)}",
                "Check the cable; `adb devices` must list it.",
            )
        if "cannot connect to daemon" in said or "failed to connect to" in said:
            return f"The adb server cannot be reached: {_last(said)}", "Check its address."
        return None


def _last(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing."

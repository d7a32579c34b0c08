"""The system's `ssh` and `sftp`: one connection for all that is done on a board.

Keys and host checking are left as the user has set them; nothing is ever asked for (BatchMode), so
what would need an answer is an error that says so.
"""

import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final

from edgese.devices.listening import tail
from edgese.errors import ConfigError, DeviceError, MissingDependency
from edgese.lifeline import Child, run
from edgese.scratch import temporary

_CONNECT_S: Final = 15
_COPY_TIMEOUT_S: Final = 3600.0
_QUIET_S: Final = 15
_ADDRESS: Final = re.compile(
    r"(?:(?P<user>[A-Za-z0-9_][\w.-]*)@)?"
    r"(?:\[(?P<v6>[0-9A-Fa-f:]+)\]|(?P<host>[A-Za-z0-9_][\w.-]*))(?::(?P<port>[0-9]{1,5}))?"
)
# What the client says where it gets no connection, what that means, and what helps.
_REASONS: Final = (
    (
        "REMOTE HOST IDENTIFICATION HAS CHANGED",
        "is not the machine that it was: its host key has changed",
        "Was it set up anew? Then `ssh-keygen -R {host}`; else somebody may be in between.",
    ),
    (
        "Host key verification failed",
        "is not known here: its host key was never confirmed",
        "Connect once by hand, compare the fingerprint, and say yes: `ssh {login}`.",
    ),
    (
        "Permission denied (",
        "takes none of your keys",
        "Give it your public key: `ssh-copy-id {login}`, or add the key to your agent.",
    ),
    (
        "Could not resolve hostname",
        "cannot be found by its name",
        "Check the name, or give its address.",
    ),
    (
        "Connection refused",
        "refuses the connection: no ssh server listens there",
        "Start it there (`sudo systemctl enable --now ssh`), or give its port: HOST:PORT.",
    ),
    (
        "timed out",
        "does not answer",
        "Check that it is on, and in this network.",
    ),
    ("No route to host", "cannot be reached", "Check that it is on, and in this network."),
    ("Network is unreachable", "cannot be reached", "Check this machine's network."),
    (
        "Bad owner or permissions",
        "was not tried: ssh does not accept its own configuration",
        "Its files must be writable by you alone.",
    ),
)


@dataclass(frozen=True)
class Address:
    """Where a board is.

    Attributes:
        host: name or address.
        user, port: "" and None leave them to ssh's configuration.
    """

    host: str
    user: str = ""
    port: int | None = None

    @property
    def login(self) -> str:
        """As ssh takes it."""
        return f"{self.user}@{self.host}" if self.user else self.host

    @property
    def sftp(self) -> str:
        """As sftp takes it, which reads a colon as the start of a path."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.user}@{host}" if self.user else host


def parsed(text: str) -> Address:
    """Reads "user@host:port", of which the host alone is needed; IPv6 stands in brackets.

    Raises:
        ConfigError: it is not of this form.
    """
    found = _ADDRESS.fullmatch(text)
    port = int(found["port"]) if found and found["port"] else None
    if found is None or (port is not None and not 0 < port < 2**16):
        raise ConfigError(
            f"{text!r} is no address of a board.", hint="Give user@host or user@host:port."
        )
    return Address(host=found["v6"] or found["host"], user=found["user"] or "", port=port)


@dataclass(frozen=True)
class SshClient:
    """The programs `ssh` and `sftp`, and whom they talk to.

    Attributes:
        config: a configuration file instead of the user's own; None for that.
    """

    address: Address
    config: Path | None = None

    def argv(self, program: str, control: Path, *words: str) -> list[str]:
        """The command line of one of the two.

        Args:
            control: socket of the connection that all share.

        Raises:
            MissingDependency: there is no ssh.
        """
        path = shutil.which(program)
        if path is None:
            raise MissingDependency(
                f"Boards are reached through {program}, which is not here.",
                hint="Install it: `sudo apt-get install openssh-client` on Debian and Ubuntu.",
            )
        settings = [
            "BatchMode=yes",
            f"ControlPath={control}",
            f"ConnectTimeout={_CONNECT_S}",
            f"ServerAliveInterval={_QUIET_S}",
            "ServerAliveCountMax=4",
        ]
        if self.address.port is not None:
            settings.append(f"Port={self.address.port}")
        config = ["-F", str(self.config)] if self.config else []
        return [path, *config, *(word for one in settings for word in ("-o", one)), *words]


@dataclass
class Board:
    """One connection to a board; a `edgese.devices.remote.Remote`.

    Attributes:
        base: the folder there for all of edgese's; absolute.
    """

    client: SshClient
    folder: Path
    base: str = ""
    title: str = "the board"
    _master: Child | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        """Title and address."""
        return f"{self.title} ({self.client.address.login})"

    @property
    def _control(self) -> Path:
        # Short, because a socket's path has about a hundred characters.
        return self.folder / "s"

    def open(self) -> None:
        """Makes the connection.

        Raises:
            DeviceError: there is none to be had; it says why.
        """
        self.close()
        # It lives as long as its input does, so that it cannot outlive whoever started it.
        words = ("-M", "-T", "-a", "-x", "-o", "ControlPersist=no", "--")
        with tempfile.TemporaryFile() as log:
            self._master = Child(
                self.client.argv(
                    "ssh", self._control, *words, self.client.address.login, "exec cat >/dev/null"
                ),
                piped=True,
                stdout=subprocess.DEVNULL,
                stderr=log,
            )
            deadline = time.monotonic() + 2 * _CONNECT_S
            # It makes the socket when it is through.
            while not self._control.exists():
                if self._master.poll() is not None or time.monotonic() > deadline:
                    self.close()
                    said = tail(log)
                    message, hint = self.explain(said) or (
                        f"There is no connection to {self.name}: {_last(said)}",
                        f"Try it by hand: `ssh {self.client.address.login}`.",
                    )
                    raise DeviceError(message, hint=hint)
                time.sleep(0.01)

    def close(self) -> None:
        """Ends the connection, and with it all that uses it."""
        if self._master is not None:
            if self._master.stdin is not None:
                self._master.stdin.close()
            self._master.terminate()
            try:
                self._master.wait(5)
            except subprocess.TimeoutExpired:
                self._master.kill()
                self._master.wait()
            self._master = None
        self._control.unlink(missing_ok=True)

    def start(self, script: str, log: IO[bytes]) -> subprocess.Popen[bytes]:
        """Starts a script in a POSIX shell there, whatever shell its user has."""
        quoted = "'" + script.replace("'", "'\"'\"'") + "'"
        words = ("-o", "ControlMaster=no", "-T", "--", self.client.address.login)
        return Child(
            self.client.argv("ssh", self._control, *words, f"exec sh -c {quoted}"),
            piped=True,
            stdout=subprocess.PIPE,
            stderr=log,
        )

    def send(self, source: Path, dest: str) -> str:
        """Copies a file or a folder there."""
        recursive = "-r " if source.is_dir() else ""
        return self._transfer(f"put {recursive}{_escaped(str(source))} {_escaped(dest)}")

    def fetch(self, source: str, dest: Path) -> str:
        """Copies a file from there."""
        return self._transfer(f"get {_escaped(source)} {_escaped(str(dest))}")

    def _transfer(self, command: str) -> str:
        words = ("-q", "-b", "-", "--", self.client.address.sftp)
        outcome = run(
            self.client.argv("sftp", self._control, *words),
            said=f"{command}\n",
            timeout_s=_COPY_TIMEOUT_S,
        )
        return (outcome.stderr.strip() or "sftp did not say why") if outcome.returncode else ""

    def back(self, timeout_s: float) -> bool:
        """Makes the connection anew."""
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                self.open()
            except DeviceError:
                if time.monotonic() > deadline:
                    return False
                time.sleep(1)
            else:
                return True

    def explain(self, said: str) -> tuple[str, str] | None:
        """Reads ssh's own complaints about the connection."""
        address = self.client.address
        for words, meaning, remedy in _REASONS:
            if words in said:
                hint = remedy.format(host=address.host, login=address.login)
                return f"{self.name} {meaning}.", hint
        return None


@contextmanager
def connected(client: SshClient, title: str) -> Iterator[Board]:
    """A connection that ends with the block.

    Raises:
        DeviceError: there is none to be had.
    """
    with temporary("ssh") as folder:
        board = Board(client, folder, title=title)
        board.open()
        try:
            yield board
        finally:
            board.close()


def _escaped(path: str) -> str:
    """A path as sftp's commands take it: quotes, blanks and patterns mean themselves."""
    return re.sub(r"([^\w./-])", r"\\\1", path)


def _last(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing."

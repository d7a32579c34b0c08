"""A phone that is none: an adb daemon on 127.0.0.1 in front of a folder, for tests.

The system's own `adb` client connects, pushes, runs and pulls::

    with FakePhone(folder, properties={"ro.product.model": "Pixel 8"}) as phone:
        subprocess.run(["adb", "connect", phone.serial])

What the shell service is asked for runs here, as this user, in a real shell: that is what
`adb shell` is. Therefore it listens on 127.0.0.1 alone, the paths of a phone (/data, /sys,
/system, ...) in a command lead into the fake's folder, only the tools in its own system/bin are
found by name, and all that was started ends when the fake does. It is a stand-in and no sandbox:
whoever may connect to a port of this machine may run commands as its user while it is there.
"""

import asyncio
import os
import re
import signal
import socket
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Literal, Self

from fake_devices import shell, sync, system
from fake_devices.adbd import Connection, Stream, StreamClosed

Fault = Literal[
    "drop_in_push",
    "drop_in_run",
    "gone_in_run",
    "no_space",
    "no_permission",
    "lost_file",
    "spoilt_file",
    "",
]
# The paths of a phone at the start of a word; of /proc only what the fake has answers for.
_PHONE_PATHS: Final = re.compile(
    r"(?<![\w./-])/(?=(?:data|sdcard|sys|system|vendor)(?:/|\b)|proc/(?:meminfo|loadavg|cpuinfo)\b)"
)
_HALF_PUSH_BYTES: Final = 1000


class FakePhone:
    """A phone in a folder; a context manager.

    Args:
        root: an empty folder that plays the phone's "/".
        properties: more of what `getprop` tells, or other.
        architecture: what `uname -m` tells.
        clusters: count and highest clock in MHz of each kind of core, as numbered.
        quota_bytes: how much its storage takes.
        authorized: False for one that nobody has allowed to be debugged.
        silent: True for one that takes connections and never answers.
        packets: False for one from before Android 7, whose shell tells no return codes.

    Attributes:
        fault: what goes wrong; "" once it has.
        commands: that its shell was asked for, in order.
    """

    def __init__(
        self,
        root: Path,
        *,
        properties: Mapping[str, str] | None = None,
        architecture: str = "aarch64",
        clusters: Sequence[tuple[int, float]] = ((4, 1704.0), (4, 2367.0), (1, 2914.0)),
        quota_bytes: int | None = None,
        authorized: bool = True,
        silent: bool = False,
        packets: bool = True,
    ) -> None:
        self.fault: Fault = ""
        self.commands: list[str] = []
        self.root = root.resolve()
        self._properties = {**system.PROPERTIES, **(properties or {})}
        self._quota_bytes = quota_bytes
        self._authorized = authorized
        self._silent = silent
        self._packets = packets
        self._connections: set[Connection] = set()
        self._processes: list[subprocess.Popen[bytes]] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closing: asyncio.Event | None = None
        self._away = False
        self._socket = socket.socket()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        system.build(self.root, self._properties, architecture, clusters)

    def __enter__(self) -> Self:
        # Bound here, so that the port is known and taken before anybody connects.
        self._socket.bind(("127.0.0.1", 0))
        self._socket.listen()
        self._ready = threading.Event()
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *_: object) -> None:
        if self._loop is not None and self._closing is not None:
            self._loop.call_soon_threadsafe(self._closing.set)
        self._thread.join()
        for pid in self.processes():
            os.kill(pid, signal.SIGKILL)
        for process in self._processes:
            process.wait()

    @property
    def serial(self) -> str:
        """What `adb connect` takes and `adb devices` lists."""
        host, port = self._socket.getsockname()
        return f"{host}:{port}"

    @property
    def storage(self) -> Path:
        """The folder that plays /data/local/tmp."""
        return self.root / system.TEMPORARY

    def processes(self) -> list[int]:
        """Ids of what was started there and still runs."""
        wanted = f"{system.MARK}={self.root}".encode()
        found = []
        for path in Path("/proc").glob("[0-9]*/environ"):
            try:
                variables = path.read_bytes().split(b"\0")
                state = (path.parent / "stat").read_text().rpartition(")")[2].split()[0]
            except OSError:
                continue
            if wanted in variables and state != "Z":
                found.append(int(path.parent.name))
        return found

    def warm(self, *, case_c: float, status: int = 0) -> None:
        """Sets its temperature, and Android's thermal status (0 none to 6 shutdown)."""
        system.warm(self.root, case_c=case_c, status=status)

    def tool(self, name: str, script: str) -> None:
        """Puts a shell script in the place of one of its programs."""
        system.replace(self.root, name, script)

    def without(self, name: str) -> None:
        """Takes one of its programs away."""
        (self.root / system.BIN / name).unlink()

    def real(self, path: str) -> Path:
        """The file that plays a path of the phone."""
        return self.root / path.lstrip("/")

    # What hinders a push; `fake_devices.sync.Hindrance`.

    def before(self, path: Path) -> str:
        """Why a file is refused."""
        # A push of a file to a folder asks for a path outside only by a mistake, or by malice.
        if not path.parent.resolve().is_relative_to(self.root):
            return "Permission denied"
        return "Permission denied" if self._takes("no_permission") else ""

    def during(self, size_bytes: int) -> str:
        """Why no more of a file is taken, after so many bytes."""
        if size_bytes >= _HALF_PUSH_BYTES and self._takes("drop_in_push"):
            self._drop()
        used = sum(file.stat().st_size for file in self.storage.rglob("*") if file.is_file())
        full = self._quota_bytes is not None and used + size_bytes > self._quota_bytes
        return "No space left on device" if full or self._takes("no_space") else ""

    def after(self, path: Path) -> None:
        """Spoils what arrived."""
        if self._takes("lost_file"):
            path.unlink()
        elif self._takes("spoilt_file"):
            content = bytearray(path.read_bytes())
            content[len(content) // 2] ^= 1
            path.write_bytes(content)

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._closing = asyncio.Event()
        server = await asyncio.start_server(self._connected, sock=self._socket)
        self._ready.set()
        async with server:
            await self._closing.wait()
            self._drop()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._away:
            writer.transport.abort()
            return
        connection = Connection(
            reader,
            writer,
            self._service,
            self._properties,
            authorized=self._authorized,
            silent=self._silent,
            packets=self._packets,
        )
        self._connections.add(connection)
        try:
            await connection.serve()
        finally:
            self._connections.discard(connection)

    async def _service(self, name: str, stream: Stream) -> None:
        if name.startswith("sync:"):
            await sync.serve(stream, self.real, self)
        elif name.startswith(("shell", "exec:")):
            await self._shell(name, stream)
        # Anything else, such as "reverse:" or "tcp:", is closed unanswered.

    async def _shell(self, name: str, stream: Stream) -> None:
        kind, _, command = name.partition(":")
        self.commands.append(command)
        packets = self._packets and "v2" in kind.split(",")
        # Its pipes are handed to the event loop; starting it takes no time worth giving up.
        process = subprocess.Popen(  # noqa: ASYNC220  # see above
            [str(self.root / system.BIN / "sh"), "-c", self._mapped(command)],
            cwd=self.root,
            env=system.environment(self.root),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE if packets else subprocess.STDOUT,
            start_new_session=True,
        )
        self._processes.append(process)

        def on_output() -> None:
            # A job, and not one of the questions before it.
            if "setsid" in command and (self._takes("drop_in_run") or self.fault == "gone_in_run"):
                self._away = self._takes("gone_in_run")
                self._drop()
                raise StreamClosed

        await shell.serve(stream, process, packets=packets, on_output=on_output)

    def _mapped(self, command: str) -> str:
        return _PHONE_PATHS.sub(lambda _: f"{self.root}/", command)

    def _drop(self) -> None:
        for connection in tuple(self._connections):
            connection.drop()

    def _takes(self, fault: Fault) -> bool:
        """Whether this is what goes wrong now; it goes wrong once."""
        if self.fault != fault:
            return False
        self.fault = ""
        return True

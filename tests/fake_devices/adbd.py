"""The wire protocol of an adb daemon: connections and the streams on them.

Written after the public descriptions in
https://android.googlesource.com/platform/packages/modules/adb/+/refs/heads/main/protocol.txt.
A message is six little-endian 32-bit words (command, two arguments, length and checksum of the
data, the command's complement) and data. Streams are numbered by both sides; each write is
acknowledged before the next.
"""

import asyncio
import secrets
import struct
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

_HEAD: Final = struct.Struct("<6I")
# From this version on nobody looks at checksums.
_VERSION: Final = 0x01000001
_MOST_DATA: Final = 256 * 1024
_AUTH_TOKEN: Final = 1
_TOKEN_BYTES: Final = 20
_FEATURES: Final = "cmd,stat_v2"


def _word(name: str) -> int:
    return int.from_bytes(name.encode("ascii"), "little")


CNXN, AUTH, OPEN, OKAY, WRTE, CLSE = map(_word, ("CNXN", "AUTH", "OPEN", "OKAY", "WRTE", "CLSE"))


class StreamClosed(Exception):
    """The other side has closed the stream, or the connection is gone."""


@dataclass
class Stream:
    """One stream: bytes in both directions."""

    connection: "Connection"
    local: int
    remote: int
    _received: bytearray = field(default_factory=bytearray)
    _closed: bool = False

    def __post_init__(self) -> None:
        self._news = asyncio.Event()
        self._acknowledged = asyncio.Event()
        self._acknowledged.set()
        self._writing = asyncio.Lock()

    def took(self, data: bytes) -> None:
        """Data came."""
        self._received += data
        self._news.set()

    def acknowledged(self) -> None:
        """The last write arrived."""
        self._acknowledged.set()

    def ended(self) -> None:
        """No more comes, and nothing is taken any more."""
        self._closed = True
        self._news.set()
        self._acknowledged.set()

    async def read(self, size: int | None = None) -> bytes:
        """Exactly ``size`` bytes, or whatever has come.

        Raises:
            StreamClosed: the end came first.
        """
        while len(self._received) < (1 if size is None else size):
            if self._closed:
                raise StreamClosed
            self._news.clear()
            await self._news.wait()
        data = bytes(self._received if size is None else self._received[:size])
        del self._received[: len(data)]
        return data

    async def write(self, data: bytes) -> None:
        """Sends data in as many messages as it takes.

        Raises:
            StreamClosed: nobody takes it any more.
        """
        most = self.connection.most_data
        async with self._writing:
            for start in range(0, len(data), most):
                await self._acknowledged.wait()
                if self._closed:
                    raise StreamClosed
                self._acknowledged.clear()
                part = data[start : start + most]
                await self.connection.send(WRTE, self.local, self.remote, part)
            await self._acknowledged.wait()

    async def close(self) -> None:
        """Ends the stream from this side."""
        if not self._closed:
            self.ended()
            await self.connection.send(CLSE, self.local, self.remote)


# What answers a service, such as "shell,v2,raw:ls": it owns the stream until it returns.
Service = Callable[[str, Stream], Awaitable[None]]


class Connection:
    """One client.

    Args:
        service: answers every stream that the client opens.
        authorized: False asks for a key for ever, as a phone does until somebody allows it.
        silent: True never says a word, as a phone that has crashed.
        packets: offers the second version of the shell service, which tells return codes.
    """

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        service: Service,
        properties: Mapping[str, str],
        *,
        authorized: bool = True,
        silent: bool = False,
        packets: bool = True,
    ) -> None:
        self.most_data = 4096
        self._reader = reader
        self._writer = writer
        self._service = service
        self._properties = properties
        self._authorized = authorized
        self._silent = silent
        self._packets = packets
        self._streams: dict[int, Stream] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._sending = asyncio.Lock()
        self._opened = 0

    def drop(self) -> None:
        """Cuts the connection without a word, as a pulled cable does."""
        self._writer.transport.abort()

    async def send(self, command: int, first: int, second: int, data: bytes = b"") -> None:
        """Sends one message."""
        head = _HEAD.pack(
            command, first, second, len(data), sum(data) & 0xFFFFFFFF, command ^ 0xFFFFFFFF
        )
        async with self._sending:
            self._writer.write(head + data)
            await self._writer.drain()

    async def serve(self) -> None:
        """Answers until the client goes."""
        try:
            while True:
                command, first, second, size, _, magic = _HEAD.unpack(
                    await self._reader.readexactly(_HEAD.size)
                )
                if magic != command ^ 0xFFFFFFFF:
                    return
                data = await self._reader.readexactly(size)
                if not self._silent:
                    await self._answer(command, first, second, data)
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            for stream in self._streams.values():
                stream.ended()
            self._writer.close()

    async def _answer(self, command: int, first: int, second: int, data: bytes) -> None:
        if command == CNXN:
            self.most_data = min(second, _MOST_DATA)
            await self._welcome()
        elif command == AUTH:
            await self.send(AUTH, _AUTH_TOKEN, 0, secrets.token_bytes(_TOKEN_BYTES))
        elif not self._authorized:
            await self.send(CLSE, 0, first)
        elif command == OPEN:
            await self._open(first, data.rstrip(b"\0").decode("utf-8", "replace"))
        elif stream := self._streams.get(second):
            if command == WRTE:
                stream.took(data)
                await self.send(OKAY, stream.local, stream.remote)
            elif command == OKAY:
                stream.acknowledged()
            elif command == CLSE:
                await stream.close()

    async def _welcome(self) -> None:
        if not self._authorized:
            await self.send(AUTH, _AUTH_TOKEN, 0, secrets.token_bytes(_TOKEN_BYTES))
            return
        names = ("ro.product.name", "ro.product.model", "ro.product.device")
        told = ";".join(f"{name}={self._properties.get(name, 'fake')}" for name in names)
        features = f"shell_v2,{_FEATURES}" if self._packets else _FEATURES
        banner = f"device::{told};features={features}"
        await self.send(CNXN, _VERSION, _MOST_DATA, banner.encode())

    async def _open(self, remote: int, service: str) -> None:
        self._opened += 1
        stream = Stream(self, self._opened, remote)
        self._streams[stream.local] = stream
        await self.send(OKAY, stream.local, remote)
        task = asyncio.create_task(self._served(service, stream))
        # The loop keeps weak references to tasks only.
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _served(self, service: str, stream: Stream) -> None:
        try:
            await self._service(service, stream)
            await stream.close()
        except (StreamClosed, ConnectionError):
            stream.ended()
        finally:
            self._streams.pop(stream.local, None)

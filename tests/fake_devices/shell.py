"""The shell service of an adb daemon, with and without the packets of its second version.

In version 2 each packet is a byte (0 input, 1 output, 2 errors, 3 exit code, 4 end of input) and a
little-endian length, as in shell_protocol.h of
https://android.googlesource.com/platform/packages/modules/adb/.
"""

import asyncio
import contextlib
import signal
import struct
import subprocess
from collections.abc import Callable
from typing import IO, Final

from fake_devices.adbd import Stream, StreamClosed

_PACKET: Final = struct.Struct("<BI")
_STDIN, _STDOUT, _STDERR, _EXIT, _CLOSE_STDIN = range(5)
_PART_BYTES: Final = 64 * 1024


async def serve(
    stream: Stream,
    process: subprocess.Popen[bytes],
    *,
    packets: bool,
    on_output: Callable[[], None],
) -> None:
    """Carries a command's input and output until it ends, or until the client goes.

    When the client goes, the command gets SIGHUP and its pipes are closed, as shell_service.cpp
    does it. What it started has to notice for itself.

    Args:
        process: with pipes for all it reads and writes; its errors go to its output where there are
            no packets.
        packets: version 2; otherwise both outputs are one, and the exit code is not told.
        on_output: called after each part of standard output that the client has.
    """

    async def tell(kind: int, data: bytes) -> None:
        await stream.write(_PACKET.pack(kind, len(data)) + data if packets else data)

    async def pass_on(pipe: IO[bytes] | None, kind: int) -> None:
        if pipe is None:
            return
        source = asyncio.StreamReader()
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(source), pipe
        )
        try:
            while data := await source.read(_PART_BYTES):
                await tell(kind, data)
                if kind == _STDOUT:
                    on_output()
        finally:
            transport.close()

    feeding = asyncio.create_task(_feed(stream, process.stdin, packets=packets))
    try:
        outputs = (process.stdout, _STDOUT), (process.stderr, _STDERR)
        await asyncio.gather(*(pass_on(pipe, kind) for pipe, kind in outputs))
        await asyncio.to_thread(process.wait)
        if packets:
            code = process.returncode
            # A shell that a signal ended is told as shells tell it.
            await tell(_EXIT, bytes([code if code >= 0 else 128 - code]))
    except StreamClosed:
        process.send_signal(signal.SIGHUP)
        raise
    finally:
        feeding.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await feeding


async def _feed(stream: Stream, stdin: IO[bytes] | None, *, packets: bool) -> None:
    """Passes the client's input on; its end, or the client's, is the command's end of input."""
    if stdin is None:
        return
    try:
        while True:
            kind, data = _STDIN, b""
            if packets:
                kind, size = _PACKET.unpack(await stream.read(_PACKET.size))
                data = await stream.read(size)
            else:
                data = await stream.read()
            if kind == _CLOSE_STDIN:
                return
            if kind == _STDIN:
                # In a thread, because a command need not read what it is given.
                await asyncio.to_thread(_written, stdin, data)
    except (StreamClosed, BrokenPipeError):
        return
    finally:
        with contextlib.suppress(BrokenPipeError):
            stdin.close()


def _written(pipe: IO[bytes], data: bytes) -> None:
    pipe.write(data)
    pipe.flush()

"""The sync service of an adb daemon: what `adb push` and `adb pull` speak.

Written after SYNC.TXT and the structures in file_sync_protocol.h of
https://android.googlesource.com/platform/packages/modules/adb/+/refs/heads/main/.
A request is four letters and a length, then a path.
"""

import os
import stat
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

from fake_devices.adbd import Stream

_REQUEST: Final = struct.Struct("<4sI")
_STAT: Final = struct.Struct("<4sIII")
# Error, device, inode, mode, links, user, group, size, and three times.
_STAT2: Final = struct.Struct("<4sIQQIIIIQqqq")
_ENTRY: Final = struct.Struct("<4sIIII")
_PART_BYTES: Final = 64 * 1024


class Hindrance(Protocol):
    """What keeps a push from arriving as it was sent."""

    def before(self, path: Path) -> str:
        """Why the file is refused; "" where it is not."""

    def during(self, size_bytes: int) -> str:
        """Why no more of it is taken, after so many bytes; "" where it is."""

    def after(self, path: Path) -> None:
        """May spoil what arrived."""


async def serve(stream: Stream, real: Callable[[str], Path], hindrance: Hindrance) -> None:
    """Answers requests until the client quits.

    Args:
        real: the file that plays a path of the phone.
    """
    while True:
        name, size = _REQUEST.unpack(await stream.read(_REQUEST.size))
        if name == b"QUIT":
            return
        path = (await stream.read(size)).decode("utf-8", "surrogateescape")
        if name == b"SEND":
            await _receive(stream, path, real, hindrance)
        elif name == b"RECV":
            await _send(stream, real(path))
        elif name == b"LIST":
            await _list(stream, real(path))
        elif name in {b"STAT", b"STA2", b"LST2"}:
            await _tell(stream, name, real(path))
        else:
            await _fail(stream, f"unknown request {name!r}")
            return


async def _fail(stream: Stream, reason: str) -> None:
    text = reason.encode()
    await stream.write(_REQUEST.pack(b"FAIL", len(text)) + text)


async def _receive(
    stream: Stream, request: str, real: Callable[[str], Path], hindrance: Hindrance
) -> None:
    """A pushed file: "path,mode", then DATA after DATA, then DONE with its time."""
    name, _, mode = request.rpartition(",")
    path = real(name)
    reason = hindrance.before(path)
    taken = 0
    descriptor = -1
    try:
        if not reason:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    except OSError as error:
        reason = str(error.strerror)
    try:
        while True:
            kind, size = _REQUEST.unpack(await stream.read(_REQUEST.size))
            if kind != b"DATA":
                break
            data = await stream.read(size)
            taken += size
            reason = reason or hindrance.during(taken)
            if not reason:
                os.write(descriptor, data)
    finally:
        if descriptor >= 0:
            os.close(descriptor)
    if reason:
        path.unlink(missing_ok=True)
        await _fail(stream, reason)
        return
    path.chmod(stat.S_IMODE(int(mode)) | stat.S_IRUSR | stat.S_IWUSR)
    os.utime(path, (size, size))
    hindrance.after(path)
    await stream.write(_REQUEST.pack(b"OKAY", 0))


async def _send(stream: Stream, path: Path) -> None:
    try:
        file = path.open("rb")
    except OSError as error:
        await _fail(stream, str(error.strerror))
        return
    with file:
        while data := file.read(_PART_BYTES):
            await stream.write(_REQUEST.pack(b"DATA", len(data)) + data)
    await stream.write(_REQUEST.pack(b"DONE", 0))


async def _list(stream: Stream, folder: Path) -> None:
    for path in _inside(folder):
        found, name = path.lstat(), os.fsencode(path.name)
        size = found.st_size & 0xFFFFFFFF
        head = _ENTRY.pack(b"DENT", found.st_mode, size, int(found.st_mtime), len(name))
        await stream.write(head + name)
    await stream.write(_ENTRY.pack(b"DONE", 0, 0, 0, 0))


async def _tell(stream: Stream, name: bytes, path: Path) -> None:
    error, found = _looked_at(path, follow=name == b"STA2")
    if name == b"STAT":
        facts = (found.st_mode, found.st_size & 0xFFFFFFFF, int(found.st_mtime)) if found else None
        await stream.write(_STAT.pack(name, *(facts or (0, 0, 0))))
    elif found is None:
        await stream.write(_STAT2.pack(name, error, *(0,) * 10))
    else:
        await stream.write(
            _STAT2.pack(
                name,
                0,
                found.st_dev,
                found.st_ino,
                found.st_mode,
                found.st_nlink,
                found.st_uid,
                found.st_gid,
                found.st_size,
                int(found.st_atime),
                int(found.st_mtime),
                int(found.st_ctime),
            )
        )


def _inside(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _looked_at(path: Path, *, follow: bool) -> tuple[int, os.stat_result | None]:
    """The system's error number, or 0 and what it tells."""
    try:
        return 0, path.stat() if follow else path.lstat()
    except OSError as problem:
        return problem.errno or 0, None

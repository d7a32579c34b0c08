"""Writes the archive that Linux unpacks into memory when it starts.

Format: Linux, Documentation/driver-api/early-userspace/buffer-format.rst ("newc").
"""

import gzip
import os
import stat
from pathlib import Path
from typing import BinaryIO, Final

_END: Final = "TRAILER!!!"


def write_archive(root: Path, dest: Path) -> None:
    """Packs a folder; all is root's, and nothing carries a time, so that it is always the same."""
    # Without a name, which would stand in the file.
    with (
        dest.open("wb") as file,
        gzip.GzipFile("", "wb", compresslevel=6, fileobj=file, mtime=0) as packed,
    ):
        number = 0
        for number, path in enumerate(sorted(root.rglob("*")), 1):
            mode = path.lstat().st_mode
            content = b""
            if stat.S_ISLNK(mode):
                content = os.fsencode(path.readlink())
            elif stat.S_ISREG(mode):
                content = path.read_bytes()
            _entry(packed, path.relative_to(root).as_posix(), content, mode, number)
        _entry(packed, _END, b"", 0, number + 1)


def _entry(
    packed: "BinaryIO | gzip.GzipFile", name: str, content: bytes, mode: int, number: int
) -> None:
    encoded = os.fsencode(name) + b"\0"
    fields = (number, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(encoded), 0)
    header = b"070701" + "".join(f"{field:08X}" for field in fields).encode()
    packed.write(_padded(header + encoded))
    packed.write(_padded(content))


def _padded(content: bytes) -> bytes:
    return content + bytes(-len(content) % 4)

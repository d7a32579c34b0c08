"""Which function an address belongs to, in the ELF files of a program that ran.

Where a file keeps its symbols they name the functions. Where it was stripped, the table that C++
exceptions are found by (.eh_frame_hdr) still tells where functions begin, so that they can be told
apart by their addresses, and those that others may call keep their names. Formats:
https://refspecs.linuxfoundation.org/elf/gabi4+/contents.html and LSB 5.0, "Exception Frame Header".
"""

import bisect
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_FUNCTION: Final = 2
_NO_TYPE: Final = 0
_SYMTAB: Final = 2
_DYNSYM: Final = 11
_LOAD: Final = 1
# A search table of 4-byte offsets from the section itself: what every linker writes.
_SORTED_TABLE: Final = b"\x01\x1b\x03\x3b"
_MAP: Final = re.compile(r"^([0-9a-f]+)-([0-9a-f]+) \S+ ([0-9a-f]+) \S+ \d+ +(/.*)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Mapping:
    """A part of a file in a program's memory: addresses [start, stop) hold it from ``offset``."""

    start: int
    stop: int
    offset: int
    path: str


def mappings(maps: str) -> list[Mapping]:
    """The files in a /proc/self/maps, by their addresses."""
    found = (
        Mapping(int(start, 16), int(stop, 16), int(offset, 16), path)
        for start, stop, offset, path in _MAP.findall(maps)
    )
    return sorted(found, key=lambda mapping: mapping.start)


class Functions:
    """The functions of one ELF file for a 64-bit little-endian machine.

    Raises:
        ValueError: it is not such a file.
    """

    def __init__(self, content: bytes) -> None:
        if content[:6] != b"\x7fELF\x02\x01":
            raise ValueError("not an ELF file of 64 bits")
        self._content = content
        (self._headers,) = struct.unpack_from("<Q", content, 0x20)
        self._sections = list(_sections(content))
        named = dict(self._symbols(_SYMTAB))
        if not named:
            # The few names that others may call; where the rest begins, so that these do not
            # swallow it, is told by the frames.
            named = dict.fromkeys(self._frames(), "") | dict(self._symbols(_DYNSYM))
        self._starts = sorted(named)
        self._names = [named[start] for start in self._starts]

    def at(self, offset: int) -> str:
        """The function at an offset in the file; "+0x..." where it has no name; "" where none."""
        address = self._address(offset)
        index = bisect.bisect_right(self._starts, address) - 1
        if index < 0:
            return ""
        return self._names[index] or f"+{self._starts[index]:#x}"

    def _address(self, offset: int) -> int:
        """Where the linker put what stands at an offset of the file."""
        size, count = struct.unpack_from("<HH", self._content, 0x36)
        for number in range(count):
            kind, _, start, address, _, length = struct.unpack_from(
                "<IIQQQQ", self._content, self._headers + number * size
            )
            if kind == _LOAD and start <= offset < start + length:
                return int(address + offset - start)
        return offset

    def _symbols(self, table: int) -> Iterator[tuple[int, str]]:
        for _, kind, _, start, size, link in self._sections:
            if kind != table:
                continue
            _, _, _, names, _, _ = self._sections[link]
            for name, info, _, index, value, _ in struct.iter_unpack(
                "<IBBHQQ", self._content[start : start + size]
            ):
                if index and info & 15 in (_FUNCTION, _NO_TYPE):
                    begin = names + name
                    text = self._content[begin : self._content.index(b"\0", begin)].decode()
                    # "$x" and "$d" mark code and data within a function.
                    if text and not text.startswith("$"):
                        yield value, text

    def _frames(self) -> Iterator[int]:
        for name, _, address, start, _, _ in self._sections:
            if name == b".eh_frame_hdr" and self._content[start : start + 4] == _SORTED_TABLE:
                (count,) = struct.unpack_from("<I", self._content, start + 8)
                for number in range(count):
                    (relative,) = struct.unpack_from("<i", self._content, start + 12 + 8 * number)
                    yield address + relative


def _sections(content: bytes) -> Iterator[tuple[bytes, int, int, int, int, int]]:
    """Name, type, address, offset, size and link of each section."""
    (table,) = struct.unpack_from("<Q", content, 0x28)
    size, count, names = struct.unpack_from("<HHH", content, 0x3A)
    rows = [struct.unpack_from("<IIQQQQI", content, table + size * i) for i in range(count)]
    for name, kind, _, address, offset, length, link in rows:
        begin = rows[names][4] + name
        yield (
            content[begin : content.index(b"\0", begin)],
            kind,
            address,
            offset,
            length,
            link,
        )


def readable(name: str) -> str:
    """A C++ function's scopes and name without its types: "ruy::Pack" for "_ZN3ruy4PackEPKv"."""
    if not name.startswith("_ZN"):
        return name
    rest, words = name[3:].lstrip("KVrRO"), []
    while found := re.match(r"\d+", rest):
        end = found.end() + int(found[0])
        words.append(rest[found.end() : end])
        rest = rest[end:]
    return "::".join(words) or name


def locate(
    address: int, maps: list[Mapping], files: dict[str, Functions | None]
) -> tuple[str, str]:
    """File name and function of an address.

    Args:
        files: what was read already, by path; None for what is no ELF file. Taken further.
    """
    index = bisect.bisect_right(maps, address, key=lambda mapping: mapping.start) - 1
    if index < 0 or address >= maps[index].stop:
        return "", ""
    found = maps[index]
    if found.path not in files:
        try:
            files[found.path] = Functions(Path(found.path).read_bytes())
        except (OSError, ValueError):
            files[found.path] = None
    functions = files[found.path]
    name = functions.at(address - found.start + found.offset) if functions else ""
    return Path(found.path).name, readable(name)

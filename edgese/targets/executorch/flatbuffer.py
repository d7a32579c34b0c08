"""Reads tables of a flatbuffer by the numbers of their fields, without generated code.

Source: https://flatbuffers.dev/internals/. All offsets are checked against the buffer's length, so
that a truncated file is told and not read beyond.
"""

import struct
from dataclasses import dataclass
from typing import Self


class BrokenFlatbuffer(ValueError):
    """An offset that points out of the buffer."""


@dataclass(frozen=True)
class Table:
    """A table at ``position`` of ``data``; a field that is absent reads as its type's nothing."""

    data: bytes
    position: int

    @classmethod
    def root(cls, data: bytes) -> Self:
        """The table that the buffer begins with."""
        return cls(data, _read(data, "<I", 0))

    def integer(self, field: int, form: str = "<i") -> int:
        """A scalar in `struct`'s ``form``; 0 where it is absent."""
        position = self._field(field)
        return _read(self.data, form, position) if position else 0

    def table(self, field: int) -> Self | None:
        """A table, or the one that a union holds."""
        position = self._field(field)
        if not position:
            return None
        return type(self)(self.data, position + _read(self.data, "<I", position))

    def tables(self, field: int) -> tuple[Self, ...]:
        """A vector of tables."""
        start, length = self._vector(field)
        places = (start + 4 * index for index in range(length))
        return tuple(type(self)(self.data, p + _read(self.data, "<I", p)) for p in places)

    def content(self, field: int) -> bytes:
        """A string, or a vector of bytes."""
        start, length = self._vector(field)
        if start + length > len(self.data):
            raise BrokenFlatbuffer(f"{length} bytes are told at {start} of {len(self.data)}")
        return self.data[start : start + length]

    def text(self, field: int) -> str:
        """A string."""
        return self.content(field).decode()

    def _vector(self, field: int) -> tuple[int, int]:
        position = self._field(field)
        if not position:
            return 0, 0
        start = position + _read(self.data, "<I", position)
        return start + 4, _read(self.data, "<I", start)

    def _field(self, field: int) -> int:
        layout = self.position - _read(self.data, "<i", self.position)
        entry = 4 + 2 * field
        if entry >= _read(self.data, "<H", layout):
            return 0
        offset = _read(self.data, "<H", layout + entry)
        return self.position + offset if offset else 0


def _read(data: bytes, form: str, position: int) -> int:
    if position < 0 or position + struct.calcsize(form) > len(data):
        raise BrokenFlatbuffer(f"an offset points to {position} of {len(data)} bytes")
    value: int = struct.unpack_from(form, data, position)[0]
    return value

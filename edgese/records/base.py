"""The base of every record: a frozen value that is strict about what it is read from."""

import json
from pathlib import Path
from typing import Any, Self

import msgspec

from edgese.errors import InputError


class Record(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A value that crosses a stage or touches disk.

    Unknown keys and wrong types are errors, because a misspelt key that is ignored is a setting
    that silently does not apply. Defaults are written out, so that a file keeps its meaning when a
    later version has other ones.
    """

    def to_json(self) -> str:
        """The record as indented JSON."""
        return json.dumps(msgspec.to_builtins(self), indent=2)

    def to_dict(self) -> dict[str, Any]:
        """The record as plain dicts, lists and numbers."""
        builtins: dict[str, Any] = msgspec.to_builtins(self)
        return builtins

    @classmethod
    def from_json(cls, text: str | bytes, source: Path | str) -> Self:
        """Reads a record; ``source`` is named in the InputError that anything unexpected raises."""
        try:
            return msgspec.json.decode(text, type=cls)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise InputError(
                f"{source} is not a readable {cls.__name__}: {error}",
                hint="It may be truncated or made by another version of edgese; make it again.",
            ) from error

    @classmethod
    def from_toml(cls, text: str | bytes, source: Path | str) -> Self:
        """Reads a record from TOML; ``source`` is named in the InputError that it may raise."""
        try:
            return msgspec.toml.decode(text, type=cls)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise InputError(
                f"{source} is not a readable {cls.__name__}: {error}",
                hint="Mend the key that the message names.",
            ) from error

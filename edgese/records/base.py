"""The base of every record, and intervals."""

import json
from pathlib import Path
from typing import Any, Final, Self

import msgspec

from edgese.bounds import check_keys, check_toml
from edgese.errors import InputError, OutputError, stage
from edgese.records.bounds import Confidence, Finite

_MAKE_AGAIN: Final = "It may be truncated or made by another version of edgese; make it again."


class Record(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A value that crosses a stage or touches disk.

    Unknown keys and wrong types are errors, because a misspelt key that is ignored is a setting
    that silently does not apply. Defaults are written out, so that a file keeps its meaning when a
    later version has other ones.
    """

    def to_json(self) -> str:
        """The record as indented JSON.

        Raises:
            OutputError: a text in it is not UTF-8, such as the name of a file; or a number is NaN
                or infinite, which JSON has no form for, so that nobody could read it.
        """
        try:
            msgspec.json.encode(self)
        except UnicodeEncodeError as error:
            text = ascii(error.object)
            raise OutputError(
                f"A {type(self).__name__} cannot hold the name {text}, which is not UTF-8.",
                hint="Rename the file or the folder.",
            ) from error
        try:
            return json.dumps(msgspec.to_builtins(self), indent=2, allow_nan=False)
        except ValueError as error:
            raise OutputError(
                f"A {type(self).__name__} has a number that is NaN or infinite.",
                hint="Whatever was computed overflowed; nothing was written.",
            ) from error

    def to_dict(self) -> dict[str, Any]:
        """The record as plain dicts, lists and numbers."""
        builtins: dict[str, Any] = msgspec.to_builtins(self)
        return builtins

    @classmethod
    def from_json(cls, text: str | bytes, source: Path | str) -> Self:
        """Reads a record; ``source`` is named in the InputError that anything unexpected raises."""
        with stage(f"read {source} as a {cls.__name__}", hint=_MAKE_AGAIN):
            try:
                record = msgspec.json.decode(text, type=cls)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise InputError(
                    f"{source} is not a readable {cls.__name__}: {error}", hint=_MAKE_AGAIN
                ) from error
            check_keys(text, source)
        return record

    @classmethod
    def from_toml(cls, text: str | bytes, source: Path | str) -> Self:
        """Reads a record from TOML; ``source`` is named in the InputError that it may raise."""
        check_toml(text, source)
        with stage(f"read {source} as a {cls.__name__}", hint="Mend the file."):
            try:
                return msgspec.toml.decode(text, type=cls)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise InputError(
                    f"{source} is not a readable {cls.__name__}: {error}",
                    hint="Mend the key that the message names.",
                ) from error


class Interval(Record, frozen=True):
    """From ``low`` to ``high``, both included, with the given confidence.

    Attributes:
        confidence: share of such intervals that hold the true value, in 0..1.
    """

    low: Finite
    high: Finite
    confidence: Confidence = 0.95

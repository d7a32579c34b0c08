"""What the public functions take for a path: a string or a `Path`, one or several.

Each function converts once, where it is entered; what lies behind it knows one type.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar, overload

import msgspec

_Record = TypeVar("_Record", bound=msgspec.Struct)

# One is as good as a list of one. A string is a sequence of strings, so it has to be told apart.
Paths = str | Path | Iterable[str | Path]


@overload
def as_path(given: str | Path) -> Path: ...
@overload
def as_path(given: str | Path | None) -> Path | None: ...
def as_path(given: str | Path | None) -> Path | None:
    """Return the path, or None where none was given."""
    return None if given is None else Path(given)


def as_paths(given: Paths) -> list[Path]:
    """Return the paths in the order given."""
    return [Path(given)] if isinstance(given, str | Path) else [Path(one) for one in given]


def with_text(record: _Record) -> _Record:
    """Return the record with each path that stands in place of a text as that text."""
    fields = {name: getattr(record, name) for name in record.__struct_fields__}
    paths = {name: str(value) for name, value in fields.items() if isinstance(value, Path)}
    return msgspec.structs.replace(record, **paths) if paths else record

"""What the public functions take for a path: a string or a `Path`, one or several.

Each function converts once, where it is entered; what lies behind it knows one type. What is of
another type is refused there, too, with the name of the argument.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from edgese.errors import ConfigError

_Record = TypeVar("_Record", bound=msgspec.Struct)

# One is as good as a list of one. A string is a sequence of strings, so it has to be told apart.
Paths = str | Path | Iterable[str | Path]
_KINDS: Final = {"str": "a string", "Evaluation": "an Evaluation"}


def check_type(what: str, given: object, *kinds: type) -> None:
    """Raise ConfigError unless a value is of one of the types.

    Args:
        what: the argument, as the caller knows it.
    """
    if not isinstance(given, kinds):
        wanted = " or ".join(_KINDS.get(kind.__name__, f"a {kind.__name__}") for kind in kinds)
        raise ConfigError(f"{what} is of the type {type(given).__name__}.", hint=f"Give {wanted}.")


def as_path(given: str | Path, what: str) -> Path:
    """Return the path.

    Raises:
        ConfigError: it is none, see `check_type`.
    """
    check_type(what, given, str, Path)
    return Path(given)


def as_optional_path(given: str | Path | None, what: str) -> Path | None:
    """Return the path, or None where none was given; errors as of `as_path`."""
    return None if given is None else as_path(given, what)


def as_paths(given: Paths, what: str) -> list[Path]:
    """Return the paths in the order given; errors as of `as_path`."""
    if isinstance(given, str | Path) or not isinstance(given, Iterable):
        return [as_path(given, what)]
    return [as_path(one, f"One of {what}") for one in given]


def with_text(record: _Record) -> _Record:
    """Return the record with each path that stands in place of a text as that text."""
    fields = {name: getattr(record, name) for name in record.__struct_fields__}
    paths = {name: str(value) for name, value in fields.items() if isinstance(value, Path)}
    return msgspec.structs.replace(record, **paths) if paths else record

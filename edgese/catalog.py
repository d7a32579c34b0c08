"""Finds and reads the data in targets/ and calibration/: the user's own first, then the built-in.

A user's project, the folder with an ``edgese.toml``, may have the same two folders.
"""

import difflib
from collections.abc import Iterator
from pathlib import Path
from typing import Final, TypeVar

from edgese import project
from edgese.errors import ConfigError, InputError
from edgese.records.artifact import Recipe
from edgese.records.base import Record
from edgese.records.target import TargetFacts

_PACKAGE: Final = Path(__file__).parent
# In a wheel the two folders travel inside the package; in a checkout they stand beside it.
_BUILT_IN: Final = _PACKAGE / "_data" if (_PACKAGE / "_data").is_dir() else _PACKAGE.parent

AnyRecord = TypeVar("AnyRecord", bound=Record)


def target_facts(name: str) -> TargetFacts:
    """The facts of a target.

    Raises:
        ConfigError: no such target; the known ones are told.
    """
    return _read("targets", name, TargetFacts, "target")


def target_names() -> tuple[str, ...]:
    """Every target that has a file, in alphabetical order."""
    return _names("targets")


def recipe(name: str) -> Recipe:
    """The recipe of a name.

    Raises:
        ConfigError: no such recipe; the known ones are told.
    """
    return _read("calibration/recipes", name, Recipe, "recipe")


def recipe_names() -> tuple[str, ...]:
    """Every recipe that has a file, in alphabetical order."""
    return _names("calibration/recipes")


def source(folder: str, name: str) -> Path | None:
    """The file that serves ``name``, the user's before the built-in one."""
    for root in _roots():
        path = root / folder / f"{name}.toml"
        if path.is_file():
            return path
    return None


def _roots() -> Iterator[Path]:
    if (folder := project.root()) is not None:
        yield folder
    yield _BUILT_IN


def _names(folder: str) -> tuple[str, ...]:
    return tuple(
        sorted({path.stem for root in _roots() for path in (root / folder).glob("*.toml")})
    )


def _read(folder: str, name: str, kind: type[AnyRecord], noun: str) -> AnyRecord:
    # A name is never a path: "../x" must not reach outside the folders.
    path = source(folder, name) if name.isidentifier() else None
    if path is None:
        known = _names(folder)
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"Did you mean {near[0]!r}? " if near else ""
        raise ConfigError(
            f"There is no {noun} named {name!r}.", hint=f"{hint}Known: {', '.join(known)}."
        )
    try:
        text = path.read_bytes()
    except OSError as error:
        raise InputError(
            f"The {noun} file {path} cannot be read: {error.strerror}",
            hint="Make it readable, or remove it.",
        ) from error
    return kind.from_toml(text, path)

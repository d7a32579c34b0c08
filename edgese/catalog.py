"""Finds and reads the data in targets/ and calibration/: the user's own first, then the built-in.

A user's project, the folder with an ``edgese.toml``, may have the same two folders.
"""

import difflib
from collections.abc import Iterator
from pathlib import Path
from typing import Final, TypeVar

from edgese import project
from edgese.bounds import TOML_BYTES, content
from edgese.errors import ConfigError, InputError
from edgese.records.artifact import Recipe
from edgese.records.conversion import TargetFacts
from edgese.records.device import DeviceFacts, SocFacts
from edgese.records.training import TrainingRecipe

_PACKAGE: Final = Path(__file__).parent
# In a wheel the two folders travel inside the package; in a checkout they stand beside it.
_BUILT_IN: Final = _PACKAGE / "_data" if (_PACKAGE / "_data").is_dir() else _PACKAGE.parent

Named = TypeVar("Named", DeviceFacts, Recipe, SocFacts, TargetFacts, TrainingRecipe)


def target_facts(name: str) -> TargetFacts:
    """The facts of a target.

    Raises:
        ConfigError: no such target; the known ones are told.
    """
    return _read("targets", name, TargetFacts, "target")


def target_names() -> tuple[str, ...]:
    """Every target that has a file, in alphabetical order."""
    return _names("targets")


def target_of(path: str | Path) -> str:
    """Return the target whose files have the suffix of a path; "" for any other path."""
    suffix = Path(path).suffix
    return next((name for name in target_names() if target_facts(name).suffix == suffix), "")


def device_facts(name: str) -> DeviceFacts:
    """The facts of a device.

    Raises:
        ConfigError: no such device; the known ones are told.
    """
    return _read("targets/devices", name, DeviceFacts, "device")


def device_names() -> tuple[str, ...]:
    """Every device that has a file, in alphabetical order."""
    return _names("targets/devices")


def soc_facts(name: str) -> SocFacts:
    """The facts of a chip.

    Raises:
        ConfigError: no such chip; the known ones are told.
    """
    return _read("targets/socs", name, SocFacts, "chip")


def soc_names() -> tuple[str, ...]:
    """Every chip that has a file, in alphabetical order."""
    return _names("targets/socs")


def recipe(name: str) -> Recipe:
    """The recipe of a name.

    Raises:
        ConfigError: no such recipe; the known ones are told.
    """
    return _read("calibration/recipes", name, Recipe, "recipe")


def recipe_names() -> tuple[str, ...]:
    """Every recipe that has a file, in alphabetical order."""
    return _names("calibration/recipes")


def training_recipe(name: str) -> TrainingRecipe:
    """The training recipe of a name.

    Raises:
        ConfigError: no such recipe; the known ones are told.
    """
    return _read("calibration/training", name, TrainingRecipe, "training recipe")


def training_recipe_names() -> tuple[str, ...]:
    """Every training recipe that has a file, in alphabetical order."""
    return _names("calibration/training")


def source(folder: str, name: str) -> Path | None:
    """The file that serves ``name``, the user's before the built-in one."""
    return _found(f"{folder}/{name}.toml")


def data_file(path: str) -> Path:
    """A file in calibration/ or targets/, the user's before the built-in one.

    Raises:
        InputError: it is in neither place.
    """
    if (found := _found(path)) is not None:
        return found
    raise InputError(
        f"{path} is missing in {_BUILT_IN}.", hint="Install edgese again: its data is incomplete."
    )


def names(folder: str) -> tuple[str, ...]:
    """Every name that has a TOML file in ``folder``, in alphabetical order."""
    return _names(folder)


def _found(name: str) -> Path | None:
    """A file by its path in the data, the user's before the built-in one.

    Raises:
        ConfigError: the user's is somebody else's, see `edgese.project.check_owner`.
    """
    for root in _roots():
        path = root / name
        if path.is_file():
            if root != _BUILT_IN:
                project.check_owner(path)
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


def _read(folder: str, name: str, kind: type[Named], noun: str) -> Named:
    known = _names(folder)
    # Only what is listed is looked up, so that no name is a path: "../x" stays inside the folders.
    path = source(folder, name) if name in known else None
    if path is None:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"Did you mean {near[0]!r}? " if near else ""
        raise ConfigError(
            f"There is no {noun} named {name!r}.", hint=f"{hint}Known: {', '.join(known)}."
        )
    text = content(path, f"{noun} file", TOML_BYTES, hint="Make it readable, or remove it.")
    record = kind.from_toml(text, path)
    if record.name != name:
        raise InputError(
            f"{path} calls itself {record.name!r}.",
            hint=f"Rename the file to {record.name}.toml, or write name = {name!r} in it.",
        )
    return record

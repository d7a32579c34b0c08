"""A user's project: the folder with an ``edgese.toml``, and the defaults that it sets."""

from functools import cache
from pathlib import Path
from typing import Final

import msgspec

from edgese.bounds import TOML_BYTES, content
from edgese.errors import ConfigError
from edgese.records.base import Record
from edgese.records.budget import BudgetTable

FILE: Final = "edgese.toml"


class Defaults(Record, frozen=True):
    """The ``[project]`` table: what commands take where their arguments leave it out.

    Attributes:
        model: a model's name, or a spec file relative to the project's folder.
        weights: of that model, as in ``--weights``; a file is relative to the project's folder.
        targets: as in ``--target``.
        out: folder for artifacts, relative to the project's folder.
    """

    model: str = ""
    weights: str = ""
    targets: tuple[str, ...] = ()
    out: str = ""


class ProjectFile(Record, frozen=True):
    """All of an ``edgese.toml``.

    Attributes:
        addresses: of boards, by their names in the catalogue: "user@host" or ssh's name for one.
        budget: what `edgese.budgets` judges by; a single table may be written ``[budget]``.
    """

    project: Defaults = Defaults()
    addresses: dict[str, str] = msgspec.field(default_factory=dict)
    budget: tuple[BudgetTable, ...] | BudgetTable = ()


@cache
def root() -> Path | None:
    """The nearest folder at or above the current one that has an ``edgese.toml``."""
    here = Path.cwd()
    return next((folder for folder in (here, *here.parents) if (folder / FILE).is_file()), None)


@cache
def file() -> ProjectFile:
    """The project's file; an empty one where there is no project.

    Raises:
        InputError: it cannot be read, or has a key that is not known.
    """
    folder = root()
    if folder is None:
        return ProjectFile()
    path = folder / FILE
    text = content(path, "project file", TOML_BYTES, hint="Make it readable, or remove it.")
    return ProjectFile.from_toml(text, path)


def defaults() -> Defaults:
    """The project's defaults; empty ones where there is no project."""
    return file().project


def address(device: str) -> str:
    """The project's address of a board; "" where it names none."""
    return file().addresses.get(device, "")


def subject(given: str | None) -> str:
    """What a command is about: what was given, else the project's model.

    Raises:
        ConfigError: neither names one.
    """
    if given:
        return given
    if name := _model():
        return name
    raise ConfigError(
        "No model was named, and no edgese.toml here or above names one.",
        hint='Name one (`edgese models` lists them), or put `model = "efficientnet_b0"` under '
        "[project] in edgese.toml.",
    )


def weights(model: str) -> str | None:
    """The project's weights for its own model; None for another model, or where it names none."""
    if model != _model():
        return None
    value = defaults().weights
    is_file = Path(value).suffix in (".safetensors", ".pth", ".pt")
    return (_in_project(value) if is_file else value) or None


def out() -> Path:
    """The folder for artifacts: the project's, or ``edgese-out`` here."""
    value = defaults().out
    return Path(_in_project(value)) if value else Path("edgese-out")


def _model() -> str:
    name = defaults().model
    return _in_project(name) if name.endswith(".toml") else name


def _in_project(value: str) -> str:
    folder = root()
    return value if folder is None else str(folder / value)

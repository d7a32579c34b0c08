"""A user's project: the folder with an ``edgese.toml``, and the defaults that it sets."""

import os
from functools import cache
from pathlib import Path
from typing import Final

import msgspec

from edgese.bounds import TOML_BYTES, content
from edgese.errors import ConfigError
from edgese.records.base import Record
from edgese.records.budget import BudgetTable

FILE: Final = "edgese.toml"
# Names the project's folder, whoever owns it.
VARIABLE: Final = "EDGESE_PROJECT"


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
    """Return the project's folder; None where there is no project.

    That is the one that ``$EDGESE_PROJECT`` names, else the nearest one at or above the current one
    that has an ``edgese.toml``.

    Raises:
        ConfigError: there is none in the folder that is named; or the one that was found is no
            file, or belongs to somebody else, see `check_owner`.
    """
    named = os.environ.get(VARIABLE, "")
    if named:
        folder = Path(named).absolute()
        folder = folder.parent if folder.name == FILE else folder
        if not (folder / FILE).is_file():
            raise ConfigError(
                f"{VARIABLE} names {named}, where there is no {FILE}.",
                hint=f"Name a folder that has one, or unset {VARIABLE}.",
            )
        return folder
    here = Path.cwd()
    found = next(
        (folder for folder in (here, *here.parents) if os.path.lexists(folder / FILE)), None
    )
    if found is not None:
        if not (found / FILE).is_file():
            raise ConfigError(
                f"{found / FILE} is no file, or a link that leads to none.",
                hint="Remove it, or mend the link: one in a folder above would decide instead.",
            )
        check_owner(found / FILE)
    return found


def place() -> str:
    """The path of the project's file; "" where there is no project."""
    folder = root()
    return "" if folder is None else str(folder / FILE)


def check_owner(path: Path) -> None:
    """Raises where a file that nobody named is another user's.

    What lies in a folder above decides without having been asked for, so whoever can put a file
    there could decide. Files of root and, under sudo, of its caller are taken. Where files belong
    to others on purpose, as a checkout that is mounted into a container may, the variable
    ``EDGESE_PROJECT`` names the project, and nothing is asked. Whether others may write the file is
    not asked either: runners of GitLab check out everything so that anybody may.

    Raises:
        ConfigError: as said.
    """
    if os.environ.get(VARIABLE) or not hasattr(os, "geteuid"):
        return
    me = os.geteuid()
    trusted = {0, me}
    caller = os.environ.get("SUDO_UID", "")
    if me == 0 and caller.isdecimal():
        trusted.add(int(caller))
    # Of a link both count: who put it there, and whose it leads to.
    if owners := {path.lstat().st_uid, path.stat().st_uid} - trusted:
        raise ConfigError(
            f"{path} belongs to user {min(owners)}, and this runs as user {me}: it is not taken, "
            "since it would decide what is judged and how.",
            hint=f"If it is yours to trust, name it: {VARIABLE}={root_of(path)}; or make it yours "
            "(chown); or have an edgese.toml of your own in a nearer folder.",
        )


def root_of(path: Path) -> Path:
    """The project's folder that a file in it belongs to."""
    return next((each for each in path.parents if (each / FILE).is_file()), path.parent)


@cache
def file() -> ProjectFile:
    """The project's file; an empty one where there is no project.

    Raises:
        ConfigError: as `root`.
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

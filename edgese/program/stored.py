"""Quantized programs on disk: a .program file with its manifest beside it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edgese import store
from edgese.errors import InputError, StoreError
from edgese.program.storage import SUFFIX
from edgese.records.artifact import ProgramManifest

_REMAKE: Final = "edgese quantize MODEL --data PICTURES"
# What torch.export.save writes, and edgese wrote before it had a file of its own.
_TORCH: Final = ".pt2"


@dataclass(frozen=True)
class StoredProgram:
    """A quantized program that was found and is what its manifest says."""

    path: Path
    manifest: ProgramManifest


def is_program(subject: str | Path) -> bool:
    """Whether a subject is meant as a stored program, by its suffix."""
    return Path(subject).suffix in (SUFFIX, _TORCH)


def find_stored(subject: str | Path) -> StoredProgram | None:
    """The stored program of a path that ends in .program; None for anything else.

    The manifest's hash says whether the file is the one that the manifest was written for, and not
    whom it comes from. Reading the file executes nothing, whoever wrote it.

    Raises:
        InputError: the program or its manifest is missing or not readable, or the program is one of
            torch.export.
        StoreError: the program changed since, or its manifest's schema is another.
    """
    path = Path(subject)
    if not is_program(path):
        return None
    if not path.is_file():
        raise InputError(f"There is no program {path}.", hint=f"`{_REMAKE}` makes one.")
    if path.suffix == _TORCH:
        raise InputError(
            f"{path} is a program of torch.export, and reading one can execute what it holds; "
            "edgese does not read it.",
            hint=f"A quantized program is a {SUFFIX} file: make it again with `{_again(path)}`. "
            "Of a network of your own give the module: edgese.convert(module, ...).",
        )
    manifest = store.read_record(ProgramManifest, store.manifest_path(path), remake=_REMAKE)
    found = store.sha256_of(path)
    if found != manifest.sha256:
        raise StoreError(
            f"{path} is not what its manifest describes: its hash is {found[:12]}..., the manifest "
            f"says {manifest.sha256[:12]}....",
            hint=f"Quantize it again: `{_REMAKE}`.",
        )
    return StoredProgram(path=path, manifest=manifest)


def _again(path: Path) -> str:
    """Return the command that makes a program again, as far as its manifest says."""
    try:
        manifest = store.read_record(ProgramManifest, store.manifest_path(path), remake=_REMAKE)
    except (InputError, StoreError):
        return _REMAKE
    return (
        f"edgese quantize {manifest.model.name} --recipe {manifest.recipe.name} "
        f"--weights {manifest.weights.source} --data {manifest.quantization.calibration.source}"
    )

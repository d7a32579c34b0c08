"""Quantized programs on disk: a .pt2 file with its manifest beside it."""

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

from edgese import store
from edgese.errors import InputError, StoreError
from edgese.records.artifact import ProgramManifest

SUFFIX: Final = ".pt2"
_REMAKE: Final = "edgese quantize MODEL --data PICTURES"


@dataclass(frozen=True)
class StoredProgram:
    """A quantized program that was found and is what its manifest says."""

    path: Path
    manifest: ProgramManifest


def is_program(subject: str | Path) -> bool:
    """Whether a subject is meant as a stored program, by its suffix."""
    return Path(subject).suffix == SUFFIX


def find_stored(subject: str | Path) -> StoredProgram | None:
    """The stored program of a path that ends in .pt2; None for anything else.

    Raises:
        InputError: the program or its manifest is missing or not readable.
        StoreError: the program changed since, its manifest's schema is another, or another version
            of torch made it.
    """
    path = Path(subject)
    if not is_program(path):
        return None
    if not path.is_file():
        raise InputError(f"There is no program {path}.", hint=f"`{_REMAKE}` makes one.")
    manifest = store.read_record(ProgramManifest, store.manifest_path(path), remake=_REMAKE)
    found = store.sha256_of(path)
    if found != manifest.sha256:
        raise StoreError(
            f"{path} is not what its manifest describes: its hash is {found[:12]}..., the manifest "
            f"says {manifest.sha256[:12]}....",
            hint=f"Quantize it again: `{_REMAKE}`.",
        )
    try:
        here = version("torch")
    except PackageNotFoundError:
        # Converting will say so, with the command that installs it.
        here = manifest.torch
    if here.split("+")[0] != manifest.torch.split("+")[0]:
        raise StoreError(
            f"{path} was made by torch {manifest.torch}, and this is {here}; torch promises no "
            "reading across versions.",
            hint=f"Make it again: `edgese quantize {manifest.model.name} "
            f"--recipe {manifest.recipe.name} --weights {manifest.weights.source} "
            f"--data {manifest.quantization.calibration.source}`.",
        )
    return StoredProgram(path=path, manifest=manifest)

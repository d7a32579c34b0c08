"""What a cached result depends on, as one hash; nothing heavy is imported to compute it."""

import hashlib
import json
import platform
from collections.abc import Iterable, Mapping
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Final

from edgese import machine
from edgese.models.weights import ResolvedWeights
from edgese.records.artifact import ModelCard, Recipe
from edgese.records.conversion import TargetPlan
from edgese.version import __version__

# What exports, whatever the target.
EXPORTERS: Final = ("torch", "numpy", "pillow")
_SOURCES: Final = (
    *("conversion", "data", "models", "parallel.py", "program"),
    *("quantization", "records", "targets", "version.py"),
)


def program_key(
    weights: ResolvedWeights,
    *,
    batch: int,
    pictures: str,
    recipe: Recipe | None = None,
    calibration: str = "",
) -> str:
    """Names an exported program with its reference logits.

    Args:
        pictures: identity of the pictures that artifacts are compared on.
        recipe: where it is an integer one, which decides what the program holds.
        calibration: identity of the calibration pictures of such a recipe.
    """
    return _digest(
        {
            "spec": weights.spec.to_dict(),
            "weights": weights.sha256,
            "batch": batch,
            "pictures": pictures,
            "recipe": recipe.to_dict() if recipe else None,
            "calibration": calibration,
            "made_by": made_by(EXPORTERS),
        }
    )


def stored_program_key(sha256: str, *, pictures: str) -> str:
    """Names a stored quantized program with its reference logits."""
    return _digest({"program": sha256, "pictures": pictures, "made_by": made_by(EXPORTERS)})


def artifact_key(program: str, plan: TargetPlan, card: ModelCard) -> str:
    """Names an artifact of a program."""
    return _digest(
        {"program": program, "plan": plan.to_dict(), "card": card.to_dict()}
        | {"made_by": made_by(plan.facts.packages)}
    )


def toolchain(packages: Iterable[str]) -> dict[str, str]:
    """Versions of Python and of distributions; those that are not installed are left out."""
    versions = {"python": platform.python_version()}
    for package in sorted(set(packages)):
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions


def made_by(packages: Iterable[str]) -> dict[str, str]:
    """The toolchain, the kind of machine it ran on, and edgese's own version and sources."""
    return toolchain(packages) | {
        # A cache may be shared: what Linux verified, or could not, says nothing for a Mac.
        "host": f"{platform.system()} {platform.machine()}",
        # Sums in float are rounded otherwise by other kernels, and integers follow from them.
        "arithmetic": machine.arithmetic(),
        "edgese": __version__,
        "sources": _sources_hash(),
    }


@cache
def _sources_hash() -> str:
    """A hash of the code that decides what an artifact contains.

    In a checkout the version stays while the code changes; reading it takes a few milliseconds.
    """
    root = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for source in _SOURCES:
        place = root / source
        for path in [place] if place.is_file() else sorted(place.rglob("*.py")):
            digest.update(f"{path.relative_to(root).as_posix()}\0".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()


def _digest(value: Mapping[str, object]) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()

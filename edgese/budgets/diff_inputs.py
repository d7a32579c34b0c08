"""Finds what is known of one side of a difference."""

from pathlib import Path

from edgese.bounds import is_there
from edgese.budgets.differences import Side
from edgese.budgets.inputs import name_of, read_inputs
from edgese.errors import ConfigError, EdgeseError
from edgese.store import read_manifest


def read_diff_input(path: Path) -> Side:
    """An artifact, or the one profile in a result with its artifact where that still stands.

    Raises:
        ConfigError: a result of several artifacts, or of none.
        InputError, StoreError: it cannot be read, or is not what it says.
    """
    found = read_inputs([path], strict=True)
    for artifact, manifest in found.artifacts:
        return Side(str(artifact), manifest)
    profiles = [profile for _, result in found.results for profile in result.profiles]
    if len(profiles) != 1:
        raise ConfigError(
            f"{path} has {len(profiles)} profiles where one is wanted.",
            hint="Name an artifact, or the result of profiling one alone.",
        )
    profile = profiles[0]
    stands = Path(profile.label)
    try:
        beside = read_manifest(stands) if is_there(stands) else None
    except EdgeseError:
        beside = None  # the profile alone tells less, and what it tells is true
    same = beside is not None and beside.sha256 == profile.sha256
    return Side(f"{path} ({name_of(profile.label)})", beside if same else None, profile)

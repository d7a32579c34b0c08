"""What later artifacts are held against: read, renewed, and matched with candidates."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec

from edgese.bounds import is_there
from edgese.budgets.inputs import check_moment, check_profile, name_of
from edgese.budgets.regression import same_machine
from edgese.errors import InputError, StoreError
from edgese.records.artifact import Manifest
from edgese.records.budget import Baseline, BaselineCell
from edgese.records.measurement import MeasurePlan, Profile
from edgese.records.profile import ProfileResult
from edgese.seals import sealed
from edgese.store import copy, make_folder, manifest_path, read_manifest, read_sealed, staging
from edgese.version import __version__

REMAKE: Final = "edgese baseline update ARTIFACT --baseline FILE"


def read_baseline(path: Path) -> Baseline:
    """The baseline in a file.

    Raises:
        InputError: it is missing, not readable, or contradicts itself.
        StoreError: it was changed since it was written, or its schema is another.
    """
    found = read_sealed(Baseline, path, remake=REMAKE)
    for cell in found.cells:
        check_profile(cell.profile, cell.plan, path)
        check_moment(cell.measured, path)
        if cell.artifact and is_there(path.parent / cell.artifact):
            _check_kept(cell, path)
        if cell.profile.device.name != cell.device:
            raise InputError(
                f"{path}: {cell.name} was measured on {cell.profile.device.name}, not on "
                f"{cell.device}.",
                hint=f"Make it again: `{REMAKE}`.",
            )
    return found


def cells_of(results: Sequence[ProfileResult]) -> tuple[BaselineCell, ...]:
    """A cell for each profile that was measured; what stands in for a device is no baseline.

    Raises:
        InputError: there is none, or two have one name on one device.
    """
    cells = [
        BaselineCell(
            name=name_of(profile.label),
            device=result.device,
            plan=result.plan,
            profile=profile,
            measured=result.created,
        )
        for result in results
        if result.plan is not None
        for profile in result.profiles
    ]
    if not cells:
        raise InputError(
            "Nothing in the results was measured by edgese's own runner.",
            hint="`edgese profile ARTIFACT --require-device --out FILE` measures.",
        )
    keys = [_key(cell) for cell in cells]
    twice = next((key for key in keys if keys.count(key) > 1), None)
    if twice is not None:
        raise InputError(
            f"{twice[0]} was measured twice on {twice[1]} for {twice[2]}.",
            hint="A baseline has one profile of each; name results that have.",
        )
    return tuple(cells)


def renewed(old: Baseline | None, cells: Iterable[BaselineCell]) -> Baseline:
    """The baseline with new cells in the places of those of the same name, device and target."""
    kept = {_key(cell): cell for cell in (old.cells if old else ())}
    kept |= {_key(cell): cell for cell in cells}
    return sealed(
        Baseline(
            cells=tuple(kept[key] for key in sorted(kept)),
            edgese=__version__,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
        )
    )


def matched(
    baseline: Baseline,
    *,
    name: str,
    device: str,
    target: str,
    resolution: tuple[int, int],
    path: Path,
) -> BaselineCell:
    """The cell that an artifact is held against.

    Raises:
        InputError: there is none of its name on this device, or it is of another resolution.
    """
    found = [cell for cell in baseline.cells if _key(cell) == (name, device, target)]
    if not found:
        known = ", ".join(
            f"{cell.name} on {cell.device} ({cell.profile.target})" for cell in baseline.cells
        )
        raise InputError(
            f"{path} has no {name} on {device} ({target}).",
            hint=f"It has {known or 'nothing'}; `{REMAKE}` adds to it.",
        )
    cell = found[0]
    if cell.profile.resolution != resolution:
        raise InputError(
            f"{name} takes {_size(resolution)}, and {path} has it at "
            f"{_size(cell.profile.resolution)}.",
            hint=f"Other inputs are another task; `{REMAKE}` begins anew.",
        )
    return cell


def check_comparable(cell: BaselineCell, profile: Profile, plan: MeasurePlan, path: Path) -> None:
    """Raises where two files cannot be compared, because they were not made alike.

    Raises:
        InputError: another machine, thread count, delegate, batch or plan.
    """
    then = cell.profile
    if not same_machine(then.device, profile.device):
        raise InputError(
            f"{path} was measured on another machine: {then.device.cpu}, {then.device.cores} "
            f"cores; this is {profile.device.cpu}, {profile.device.cores} cores.",
            hint="Keep the baseline's artifact (`edgese baseline update --keep`), and it is "
            "measured again beside the candidate; or make a baseline on this machine.",
        )
    pairs: dict[str, tuple[object, object]] = {
        "threads": (then.threads, profile.threads),
        "delegate": (then.delegate, profile.delegate),
        "batch": (then.batch, profile.batch),
        "launches": (cell.plan.launches, plan.launches),
        "blocks": (cell.plan.blocks, plan.blocks),
        "min_runs": (cell.plan.min_runs, plan.min_runs),
        "min_time_s": (cell.plan.min_time_s, plan.min_time_s),
    }
    for what, (before, now) in pairs.items():
        if before != now:
            raise InputError(
                f"{path} was measured with {what} {before}, {profile.label} with {now}.",
                hint=f"Measure both alike; `{REMAKE}` renews the baseline.",
            )


def _check_kept(cell: BaselineCell, path: Path) -> Manifest:
    """The manifest of the artifact that was kept with a baseline, which it is of.

    Raises:
        InputError, StoreError: it is missing, or another one now.
    """
    found = path.parent / cell.artifact
    manifest = read_manifest(found)
    then = (cell.profile.sha256, cell.profile.size_bytes)
    if (manifest.sha256, manifest.size_bytes) != then:
        raise StoreError(
            f"{found} is not what {path} was made of: its hash is {manifest.sha256[:12]}..., it "
            f"has {manifest.size_bytes} bytes; the baseline says {then[0][:12]}..., {then[1]}.",
            hint=f"Bring it back, or renew the baseline: `{REMAKE}`.",
        )
    return manifest


def kept_artifact(cell: BaselineCell, path: Path) -> Path | None:
    """The baseline's artifact, where it was kept or still stands; None where it is gone.

    Raises:
        InputError, StoreError: it was kept, and is missing or another one now.
    """
    if cell.artifact:
        _check_kept(cell, path)
        return path.parent / cell.artifact
    stands = Path(cell.profile.label)
    if is_there(stands) and is_there(manifest_path(stands)):
        manifest = read_manifest(stands)
        if manifest.sha256 == cell.profile.sha256:
            return stands
    return None


def keep(cells: Iterable[BaselineCell], path: Path) -> tuple[BaselineCell, ...]:
    """Copies the artifacts of cells beside the baseline, so that they can be measured again.

    They lie in ``NAME.artifacts/HASH/`` with their manifests.

    Raises:
        InputError, StoreError: an artifact is gone, or not the one that was measured.
        OutputError: the folder cannot be written.
    """
    found = []
    for cell in cells:
        source = Path(cell.profile.label)
        manifest = read_manifest(source)
        if manifest.sha256 != cell.profile.sha256:
            raise StoreError(
                f"{source} is not what was measured: its hash is {manifest.sha256[:12]}..., "
                f"{cell.profile.sha256[:12]}... was measured.",
                hint="Measure it again.",
            )
        folder = Path(f"{path.name}.artifacts") / manifest.sha256[:12]
        make_folder(path.parent / folder)
        dest = path.parent / folder / cell.name
        with staging(dest, manifest_path(dest)) as (partial, described):
            copy(source, partial)
            copy(manifest_path(source), described)
        found.append(msgspec.structs.replace(cell, artifact=(folder / cell.name).as_posix()))
    return tuple(found)


def _key(cell: BaselineCell) -> tuple[str, str, str]:
    return (cell.name, cell.device, cell.profile.target)


def _size(resolution: tuple[int, int]) -> str:
    return f"{resolution[0]}x{resolution[1]} pixels"

"""Measures artifacts for the gate: a candidate in turns with its baseline's artifact."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from edgese.budgets.baselines import kept_artifact, matched
from edgese.budgets.candidates import Candidate, candidates_of
from edgese.budgets.inputs import Inputs, check_result, untrusted_of
from edgese.errors import EdgeseError
from edgese.records.budget import Baseline, Budget, Untrusted
from edgese.records.measurement import MeasurePlan

if TYPE_CHECKING:
    from edgese.protocols import Progress
    from edgese.records.artifact import Manifest
    from edgese.records.profile import ProfileResult

_PLAN: Final = MeasurePlan(threads=0)


class Measuring(NamedTuple):
    """How artifacts are measured where they are given themselves.

    Attributes:
        serial, adb_server, address: how to get to the device, see `edgese.devices.Reach`.
        threads: None takes the physical cores, at most four.
    """

    serial: str = ""
    adb_server: str = ""
    address: str = ""
    threads: int | None = None
    launches: int = _PLAN.launches
    blocks: int = _PLAN.blocks
    min_runs: int = _PLAN.min_runs
    min_time_s: float = _PLAN.min_time_s
    progress: "Progress | None" = None


DEFAULT: Final = Measuring()


def measure(
    artifacts: Sequence[Path], device: str, how: Measuring, *, require: bool = True
) -> "ProfileResult":
    """Profiles artifacts side by side.

    Raises:
        As `edgese.measure.api.profile`.
    """
    # Of what measures nothing nobody waits for its imports.
    from edgese.devices import Reach
    from edgese.measure.api import profile

    return profile(
        artifacts,
        device=device,
        reach=Reach(serial=how.serial, adb_server=how.adb_server, address=how.address),
        require_device=require,
        threads=how.threads,
        launches=how.launches,
        blocks=how.blocks,
        min_runs=how.min_runs,
        min_time_s=how.min_time_s,
        # Who judges looks at the failures; one of them must not hide the others.
        strict=False,
        progress=how.progress,
    )


class Now(NamedTuple):
    """What measuring a candidate needs to know.

    Attributes:
        path: of the baseline.
    """

    inputs: Inputs
    budget: Budget
    baseline: Baseline | None
    path: Path | None
    how: Measuring


def measured_now(
    artifact: "tuple[Path, Manifest]",
    device: str,
    now: Now,
    untrusted: list[Untrusted],
    notes: list[str],
) -> tuple[Candidate, ...]:
    """An artifact on a device, beside its baseline's where that is kept.

    Args:
        untrusted, notes: are added to.
    """
    path, manifest = artifact
    try:
        base = _beside(path, manifest, device, now, notes)
        limits = now.budget.limits_for(device, manifest.target)
        require = all(set(one.sources) <= {"measured"} for one in limits if "_ms" in one.quantity)
        result = measure([path, base] if base else [path], device, now.how, require=require)
        check_result(result, path)
    except EdgeseError as error:
        untrusted.append(untrusted_of(path, error))
        return ()
    # The second profile is the baseline's, and no candidate.
    own = msgspec.structs.replace(result, profiles=result.profiles[:1], ratios=())
    found = candidates_of(now.inputs._replace(results=((path, own),)))
    if base is None or len(result.profiles) != 2:
        return found
    return tuple(one._replace(beside=result.profiles[1]) for one in found)


def _beside(
    path: Path, manifest: "Manifest", device: str, now: Now, notes: list[str]
) -> Path | None:
    """The baseline's artifact, to be measured in turns with a candidate."""
    if now.baseline is None or now.path is None:
        return None
    pixels = manifest.model.preprocessing
    cell = matched(
        now.baseline,
        name=path.name,
        device=device,
        target=manifest.target,
        resolution=(pixels.height, pixels.width),
        path=now.path,
    )
    found = kept_artifact(cell, now.path)
    if found is None:
        notes.append(
            f"{path}: the baseline's artifact is not here, so it is compared from files; "
            "`edgese baseline update --keep` keeps it."
        )
    return found

"""Judges artifacts: `gate`, `compare` and `update_baseline` are what the commands do."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypeVar

import msgspec

from edgese import __version__
from edgese.budgets.baselines import (
    cells_of,
    keep,
    kept_artifact,
    matched,
    read_baseline,
    renewed,
)
from edgese.budgets.candidates import Candidate, candidates_of
from edgese.budgets.evidence import Times
from edgese.budgets.gating import Case, decided
from edgese.budgets.inputs import Inputs, check_result, is_result, read_inputs, untrusted_of
from edgese.budgets.noise import place, read_noise
from edgese.budgets.reading import read_budget
from edgese.budgets.regression import beside
from edgese.errors import ConfigError, EdgeseError, InputError, MeasurementError, StoreError
from edgese.records.baseline import Baseline, NoiseFile
from edgese.records.budget import Budget
from edgese.records.evaluation import Agreement
from edgese.records.gating import Comparison, GateResult, Untrusted
from edgese.records.measurement import MeasurePlan
from edgese.store import write_record

if TYPE_CHECKING:
    from edgese.protocols import Progress
    from edgese.records.artifact import Manifest
    from edgese.records.profile import ProfileResult

_PLAN: Final = MeasurePlan(threads=0)
HOST: Final = "host"

_Read = TypeVar("_Read")


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


def measured(
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
        progress=how.progress,
    )


def gate(
    inputs: Sequence[Path],
    *,
    budget: Path | None = None,
    baseline: Path | None = None,
    noise: Path | None = None,
    devices: Sequence[str] = (),
    how: Measuring = DEFAULT,
) -> GateResult:
    """Holds artifacts, or what was measured of them, against a budget and a baseline.

    Artifacts are measured now, each in turns with the baseline's artifact where that was kept.
    Beside results, artifacts are not measured: the results must be of them, by their hashes.

    Args:
        inputs: artifacts, and files of `edgese profile`, `evaluate` and `inspect`, in any order.
        budget: None takes edgese.toml's.
        baseline: of `edgese baseline update`.
        noise: of `edgese profile --calibrate-noise`; None looks where that writes by itself.
        devices: that artifacts are measured on, and whose limits are asked about.

    Raises:
        ConfigError: there is no budget, or no input.
        InputError: the budget cannot be read. Of anything else that cannot be trusted the result
            tells.
    """
    limits = read_budget(budget)
    if not inputs:
        raise ConfigError("Nothing was named to judge.", hint="Name artifacts or results.")
    found = read_inputs(inputs)
    untrusted = list(found.untrusted)
    then = _tried(lambda: read_baseline(baseline) if baseline else None, baseline, untrusted)
    noises = _tried(lambda: _noises(noise), noise or place(), untrusted)
    notes: list[str] = []
    # A result that cannot be trusted is no reason to measure in its place.
    if any(is_result(path) for path in inputs):
        untrusted += _not_vouched(found)
        candidates = candidates_of(found)
    else:
        here = tuple(devices) or ((HOST,) if found.artifacts else ())
        devices = here
        candidates = tuple(
            one
            for device in here
            for artifact in found.artifacts
            for one in _measured_now(
                artifact, device, _Now(found, limits, then, baseline, how), untrusted, notes
            )
        )
    for path, result in found.results:
        if not any(one.origin == str(path) for one in candidates):
            error = MeasurementError(f"{path} has nothing of an artifact. {result.absence}".strip())
            untrusted.append(untrusted_of(path, error))
    return decided(
        Case(
            budget=limits,
            budget_name=str(budget or ""),
            candidates=candidates,
            untrusted=untrusted,
            devices=tuple(devices),
            baseline_path=baseline,
            baseline=then,
            noises=noises,
            notes=tuple(notes),
        )
    )


def update_baseline(
    inputs: Sequence[Path],
    path: Path,
    *,
    device: str = HOST,
    kept: bool = False,
    how: Measuring = DEFAULT,
) -> Baseline:
    """Puts what was measured into a baseline, in the places of what had the same names.

    Args:
        inputs: artifacts, which are measured now, or files of `edgese profile`.
        path: of the baseline; it is made where there is none.
        kept: copies the artifacts beside it, so that they can be measured again later.

    Raises:
        InputError, StoreError: an input or the baseline that is there cannot be trusted.
        Others as `edgese.measure.api.profile`.
    """
    found = read_inputs(inputs)
    if found.untrusted:
        first = found.untrusted[0]
        raise InputError(first.message, hint=first.hint)
    if found.evaluations or found.inspections:
        raise ConfigError(
            "A baseline is made of what was measured.", hint="Name artifacts or profiles alone."
        )
    old = read_baseline(path) if path.exists() else None
    results = [result for _, result in found.results]
    if found.artifacts and results:
        if vouched := _not_vouched(found):
            raise StoreError(vouched[0].message, hint=vouched[0].hint)
    elif found.artifacts:
        results = [measured([artifact], device, how) for artifact, _ in found.artifacts]
    cells = cells_of(results)
    if kept:
        cells = keep(cells, path)
    new = renewed(old, cells)
    write_record(new, path)
    return new


def compare(
    first: Path,
    second: Path,
    *,
    device: str = HOST,
    margin: float = 0.0,
    data: Path | None = None,
    how: Measuring = DEFAULT,
) -> Comparison:
    """Whether one artifact is faster than another on one device, and answers as well.

    Both take turns in AB/BA blocks over several launches of each. The ratio's interval is
    Student's over launches: inferences and blocks of one process share its luck, and are no
    evidence of their own.

    Args:
        margin: a difference that does not matter, as a share.
        data: labelled pictures; both are evaluated here on them, and McNemar's exact test judges.

    Raises:
        ConfigError: a margin that cannot be, or an untrained artifact with ``data``.
        Others as `edgese.measure.api.profile` and `edgese.evaluate`.
    """
    if not 0 <= margin < 1:
        raise ConfigError(
            f"A margin of {margin:g} was given.", hint="Give a share such as 0.02 for 2 %."
        )
    agreement = _agreement(first, second, data) if data is not None else None
    result = measured([first, second], device, how)
    if result.failures:
        failure = result.failures[0]
        raise MeasurementError(f"{failure.label}: {failure.error}", hint=failure.hint)
    if len(result.profiles) != 2 or result.plan is None:
        raise MeasurementError(
            f"{device} has no times that two artifacts could be compared by.",
            hint="Name a device that is there and measures.",
        )
    slowdown = beside(result.profiles[1], result.profiles[0])
    return Comparison(
        verdict=_faster(slowdown, margin),
        margin=margin,
        ratio=result.ratios[0],
        smallest_seen=slowdown.smallest_seen(margin, 0.95),
        profiles=(result.profiles[0], result.profiles[1]),
        plan=result.plan,
        agreement=agreement,
        accuracy_verdict=_better(agreement),
        edgese=__version__,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _tried(
    read: Callable[[], _Read], origin: Path | None, untrusted: list[Untrusted]
) -> _Read | None:
    """What could be read; where it could not, the input joins those that cannot be trusted."""
    try:
        return read()
    except EdgeseError as error:
        untrusted.append(untrusted_of(origin or "", error))
        return None


class _Now(NamedTuple):
    """What measuring a candidate needs to know."""

    inputs: Inputs
    budget: Budget
    baseline: Baseline | None
    path: Path | None
    how: Measuring


def _measured_now(
    artifact: "tuple[Path, Manifest]",
    device: str,
    now: _Now,
    untrusted: list[Untrusted],
    notes: list[str],
) -> tuple[Candidate, ...]:
    path, manifest = artifact
    try:
        base = _beside(path, manifest, device, now, notes)
        limits = now.budget.limits_for(device, manifest.target)
        require = all(set(one.sources) <= {"measured"} for one in limits if "_ms" in one.quantity)
        result = measured([path, base] if base else [path], device, now.how, require=require)
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
    path: Path, manifest: "Manifest", device: str, now: _Now, notes: list[str]
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


def _not_vouched(found: Inputs) -> list[Untrusted]:
    """Artifacts that none of the results is of."""
    known = {one.sha256 for one in candidates_of(found)}
    return [
        untrusted_of(
            path,
            StoreError(
                f"None of the results is of {path}, whose hash is {manifest.sha256[:12]}....",
                hint=f"Measure it: `edgese profile {path} --out FILE`; or name it alone.",
            ),
        )
        for path, manifest in found.artifacts
        if manifest.sha256 not in known
    ]


def _noises(path: Path | None) -> NoiseFile | None:
    """That of a file that was named must be there; the default one need not."""
    if path is None and not place().exists():
        return None
    return read_noise(path or place())


def _faster(slowdown: Times, margin: float) -> Literal["faster", "slower", "cannot tell"]:
    interval = slowdown.interval(0.95)
    if interval.low > margin:
        return "slower"
    # As far on the other side: 1 / 1.05 is to 1 what 1 is to 1.05.
    return "faster" if interval.high < 1 / (1 + margin) - 1 else "cannot tell"


def _better(agreement: Agreement | None) -> Literal["", "better", "worse", "cannot tell"]:
    if agreement is None:
        return ""
    if agreement.p_value > 0.05:
        return "cannot tell"
    return "better" if agreement.top1_difference > 0 else "worse"


def _agreement(first: Path, second: Path, data: Path) -> Agreement:
    from edgese.evaluation.api import evaluate
    from edgese.evaluation.comparison import agreement
    from edgese.evaluation.subjects import find_subject

    # Both are looked at before the first takes its minutes.
    subjects = [find_subject(str(path)) for path in (first, second)]
    one, other = (evaluate(subject, data) for subject in subjects)
    return agreement(one, other)

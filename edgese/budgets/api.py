"""Judges artifacts: `gate`, `compare` and `update_baseline` are what the commands do."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal, TypeVar

from edgese import project
from edgese.budgets.baselines import (
    cells_of,
    keep,
    read_baseline,
    renewed,
)
from edgese.budgets.candidates import candidates_of
from edgese.budgets.evidence import Times
from edgese.budgets.gating import Case, decided
from edgese.budgets.inputs import Inputs, is_result, read_inputs, untrusted_of
from edgese.budgets.load_budget import budget_place, load_budget
from edgese.budgets.measuring import DEFAULT, Measuring, Now, measure, measured_now
from edgese.budgets.noise import place, read_noise
from edgese.budgets.recounting import recounted
from edgese.budgets.regression import beside
from edgese.errors import ConfigError, EdgeseError, MeasurementError, StoreError
from edgese.paths import Paths, as_optional_path, as_path, as_paths
from edgese.records.budget import Baseline, Comparison, GateResult, NoiseFile, Untrusted
from edgese.records.evaluation import Agreement
from edgese.statistics import mcnemar
from edgese.store import write_record
from edgese.version import __version__

HOST: Final = "host"
_ALPHA: Final = 0.05

_Read = TypeVar("_Read")


def gate(
    inputs: Paths,
    *,
    budget: str | Path | None = None,
    baseline: str | Path | None = None,
    noise: str | Path | None = None,
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
            tells. A limit that is missed or unclear is an answer, too: see its ``exit_code``.
    """
    inputs = as_paths(inputs, "inputs")
    budget = as_optional_path(budget, "budget")
    baseline = as_optional_path(baseline, "baseline")
    noise = as_optional_path(noise, "noise")
    limits = load_budget(budget)
    if not inputs:
        raise ConfigError("Nothing was named to judge.", hint="Name artifacts or results.")
    found = read_inputs(inputs)
    untrusted = list(found.untrusted)
    then = _tried(lambda: read_baseline(baseline) if baseline else None, baseline, untrusted)
    noises = _tried(lambda: _noises(noise), noise or place(), untrusted)
    noise_name = str(noise or place()) if noises is not None else ""
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
            for one in measured_now(
                artifact, device, Now(found, limits, then, baseline, how), untrusted, notes
            )
        )
    given = candidates
    candidates = recounted(given, found, limits, untrusted)
    for path, result in found.results:
        if not any(one.origin == str(path) for one in given):
            error = MeasurementError(f"{path} has nothing of an artifact. {result.absence}".strip())
            untrusted.append(untrusted_of(path, error))
    return decided(
        Case(
            budget=limits,
            budget_name=budget_place(budget),
            noise_name=noise_name,
            project_name=project.place(),
            candidates=candidates,
            untrusted=untrusted,
            devices=tuple(devices),
            baseline_path=baseline,
            baseline=then,
            noises=noises,
            noise_path=noise,
            notes=tuple(notes),
        )
    )


def update_baseline(
    inputs: Paths,
    path: str | Path,
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
    path = as_path(path, "path")
    found = read_inputs(as_paths(inputs, "inputs"), strict=True)
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
        results = [measure([artifact], device, how) for artifact, _ in found.artifacts]
    cells = cells_of(results)
    if kept:
        cells = keep(cells, path)
    new = renewed(old, cells)
    write_record(new, path)
    return new


def compare(
    first: str | Path,
    second: str | Path,
    *,
    device: str = HOST,
    margin: float = 0.0,
    data: str | Path | None = None,
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
    first, second = as_path(first, "first"), as_path(second, "second")
    pictures = as_optional_path(data, "data")
    agreement = _agreement(first, second, pictures) if pictures is not None else None
    result = measure([first, second], device, how)
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
    first, second, unread = (
        agreement.only_first_right,
        agreement.only_second_right,
        agreement.left_out,
    )
    if second > first + unread and mcnemar(first + unread, second) <= _ALPHA:
        return "better"
    if first > second + unread and mcnemar(first, second + unread) <= _ALPHA:
        return "worse"
    return "cannot tell"


def _agreement(first: Path, second: Path, data: Path) -> Agreement:
    from edgese.evaluation.api import evaluate
    from edgese.evaluation.comparison import agreement
    from edgese.evaluation.subjects import find_subject

    # Both are looked at before the first takes its minutes.
    subjects = [find_subject(str(path)) for path in (first, second)]
    one, other = (evaluate(subject, data) for subject in subjects)
    return agreement(one, other)

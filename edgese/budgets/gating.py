"""From candidates, a budget and a baseline to verdicts and an exit code; pure."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

from edgese.budgets.baselines import check_comparable, matched
from edgese.budgets.candidates import Candidate
from edgese.budgets.inputs import untrusted_of
from edgese.budgets.judging import ERROR_RATE, Cell, judged_together
from edgese.budgets.metrics import Against, cell_of
from edgese.budgets.next_steps import Files, measure
from edgese.budgets.repeats import with_repeats
from edgese.errors import ConfigError, EdgeseError, InputError, MeasurementError
from edgese.records.budget import (
    MAX_SLOWDOWN,
    RELATIVE,
    SOURCES,
    Baseline,
    BaselineCell,
    Budget,
    GateCell,
    GateResult,
    Limit,
    NoiseFile,
    Untrusted,
    Verdict,
)
from edgese.version import __version__

MISSED: Final = 1


class Case(NamedTuple):
    """All that a gate judges by.

    Attributes:
        budget_name, noise_name, project_name: the files that decide; "" for none.
        devices: whose limits are asked about; empty is all of the budget's.
        baseline_path: as it was named; None where there is no baseline.
        baseline: None where there is none, or it could not be read.
        noise_path: as it was named; None where that of the project or none is taken.
    """

    budget: Budget
    budget_name: str
    candidates: Sequence[Candidate]
    untrusted: Sequence[Untrusted]
    devices: tuple[str, ...] = ()
    baseline_path: Path | None = None
    baseline: Baseline | None = None
    noises: NoiseFile | None = None
    noise_path: Path | None = None
    notes: tuple[str, ...] = ()
    error_rate: float = ERROR_RATE
    noise_name: str = ""
    project_name: str = ""


class _Asked(NamedTuple):
    candidate: Candidate
    cell: Cell


def decided(case: Case) -> GateResult:
    """Every limit held against every candidate, and the exit code.

    Inputs that cannot be trusted give the lowest of their codes; else any miss gives 1; else
    anything unclear gives 6. Without a single limit that was judged nothing is met.
    """
    untrusted = list(case.untrusted)
    asked: list[_Asked] = []
    for candidate in sorted(with_repeats(case.candidates), key=_place):
        try:
            asked += _asked(candidate, case)
        except EdgeseError as error:
            untrusted.append(untrusted_of(candidate.origin, error))
    judged = judged_together([one.cell for one in asked], case.error_rate)
    cells = [
        GateCell(
            name=one.candidate.name,
            device=one.candidate.device,
            target=one.candidate.target,
            origin=one.candidate.origin,
            judged=verdict,
        )
        for one, verdict in zip(asked, judged, strict=True)
    ]
    cells += _unanswered(case)
    if not cells and not untrusted:
        untrusted.append(
            untrusted_of(
                "the gate",
                ConfigError("There is nothing to judge.", hint="Name artifacts or results."),
            )
        )
    verdict, code = _outcome([cell.judged.verdict for cell in cells], untrusted)
    return GateResult(
        budget=case.budget_name,
        baseline=str(case.baseline_path or ""),
        cells=tuple(cells),
        untrusted=tuple(sorted(untrusted, key=lambda one: (one.origin, one.message))),
        notes=case.notes,
        error_rate=case.error_rate,
        verdict=verdict,
        exit_code=code,
        edgese=__version__,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        noise=case.noise_name,
        project=case.project_name,
    )


def limits_of(candidate: Candidate, case: Case) -> tuple[Limit, ...]:
    """The limits of a candidate, with the default slowdown where a baseline has no other.

    Raises:
        ConfigError: the budget has none for it.
    """
    limits = case.budget.limits_for(candidate.device, candidate.target)
    if case.devices and candidate.device not in case.devices:
        limits = ()
    if not limits:
        raise ConfigError(
            f"The budget has no limit for {candidate.name} on {candidate.device} "
            f"({candidate.target})"
            + (f"; limits for {', '.join(case.devices)} are asked about." if case.devices else "."),
            hint="What has no limit cannot pass; add a [[budget]] table for it, or leave it out.",
        )
    if case.baseline_path is None or any(one.quantity in RELATIVE for one in limits):
        return limits
    return (
        *limits,
        Limit(
            name="max_slowdown",
            quantity="slowdown",
            bound=MAX_SLOWDOWN,
            at_most=True,
            sources=SOURCES["slowdown"],
        ),
    )


def _asked(candidate: Candidate, case: Case) -> list[_Asked]:
    limits = limits_of(candidate, case)
    accuracy = [one.name for one in limits if one.quantity in ("accuracy", "accuracy_drop")]
    if accuracy and candidate.trained is False:
        raise ConfigError(
            f"{candidate.name} is UNTRAINED: its weights are random, and the budget asks for its "
            f"{accuracy[0]}.",
            hint="Judge an artifact with trained weights.",
        )
    against = Against(_baseline_of(candidate, limits, case), case.noises, _files(case))
    return [_Asked(candidate, cell_of(limit, candidate, against)) for limit in limits]


def _baseline_of(candidate: Candidate, limits: Sequence[Limit], case: Case) -> BaselineCell | None:
    """The candidate's own cell; None where the baseline was not read, which is told elsewhere.

    Raises:
        InputError: it has none that can be compared.
    """
    if case.baseline is None or case.baseline_path is None:
        return None
    if not any(one.quantity in RELATIVE for one in limits):
        return None
    cell = matched(
        case.baseline,
        name=candidate.name,
        device=candidate.device,
        target=candidate.target,
        resolution=candidate.resolution,
        path=case.baseline_path,
    )
    if candidate.profile and candidate.profile.batch != cell.profile.batch:
        raise InputError(
            f"{candidate.name} takes {candidate.profile.batch} images at once, and "
            f"{case.baseline_path} has it with batch {cell.profile.batch}.",
            hint="Other inputs are another task; `edgese baseline update` begins anew.",
        )
    if candidate.profile and candidate.plan and candidate.beside is None:
        check_comparable(cell, candidate.profile, candidate.plan, case.baseline_path)
    return cell


def _files(case: Case) -> Files:
    return Files(case.budget_name, str(case.baseline_path or ""), str(case.noise_path or ""))


def _unanswered(case: Case) -> list[GateCell]:
    """Limits for a device or a target of which there is no candidate at all."""
    pairs = {(one.device, one.target) for one in case.candidates}
    cells = []
    for table in case.budget.tables:
        wanted = table.device in ("", *case.devices) or not case.devices
        answered = any(
            table.device in ("", device) and table.target in ("", target)
            for device, target in pairs
        )
        if not wanted or answered:
            continue
        reason = f"Nothing that was given is of {table.target or 'any target'}" + (
            f" on {table.device}; measure it, or leave it out of this gate with --device."
            if table.device
            else "."
        )
        settle = measure(table.device or "DEVICE")
        missing = judged_together(
            [Cell(limit, None, reason=reason, next_step=settle) for limit in table.limits()]
        )
        cells += [
            GateCell(
                name="-",
                device=table.device or "-",
                target=table.target or "-",
                origin=case.budget_name,
                judged=one,
            )
            for one in missing
        ]
    return cells


def _outcome(verdicts: Sequence[Verdict], untrusted: Sequence[Untrusted]) -> tuple[Verdict, int]:
    if untrusted:
        worst: Verdict = "misses" if "misses" in verdicts else "unclear"
        return worst, min(one.exit_code for one in untrusted)
    if "misses" in verdicts:
        return "misses", MISSED
    if "unclear" in verdicts:
        return "unclear", MeasurementError.exit_code
    return "meets", 0


def _place(candidate: Candidate) -> tuple[str, ...]:
    return (candidate.name, candidate.device, candidate.target, candidate.origin)

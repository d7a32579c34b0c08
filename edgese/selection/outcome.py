"""A decision with what it rests on, as it is stored; nothing of the work is needed for it."""

from collections.abc import Sequence
from datetime import UTC, datetime

from edgese import __version__
from edgese.records.decision import Decision, Finding, SelectionResult, Spent
from edgese.selection.deciding import Aim


def result_of(
    decision: Decision,
    aim: Aim,
    *,
    device: str,
    budget: str,
    rounds: Sequence[Spent] = (),
    findings: Sequence[Finding] = (),
    notes: Sequence[str] = (),
    seconds: float = 0.0,
) -> SelectionResult:
    """A decision with what it rests on."""
    return SelectionResult(
        decision=decision,
        device=device,
        budget=budget,
        limits=aim.limits,
        rounds=tuple(rounds),
        findings=tuple(findings),
        notes=tuple(notes),
        seconds=round(seconds, 3),
        edgese=__version__,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )

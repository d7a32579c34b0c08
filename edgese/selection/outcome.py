"""A decision with what it rests on, as it is stored; nothing of the work is needed for it."""

import shlex
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from edgese.records.budget import TIMES
from edgese.records.selection import Decision, Finding, SelectionResult, Spent
from edgese.selection.deciding import Aim
from edgese.version import __version__


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
    """A decision with what it rests on, and what a reader of it should know."""
    return SelectionResult(
        decision=decision,
        device=device,
        budget=budget,
        limits=aim.limits,
        rounds=tuple(rounds),
        findings=tuple(findings),
        notes=(*notes, *_cautions(decision)),
        seconds=round(seconds, 3),
        edgese=__version__,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _cautions(decision: Decision) -> Iterator[str]:
    """Yield what a gate would still ask, where times that were measured once decided."""
    chosen = decision.winner
    if chosen is None:
        return
    times = [
        one.limit.quantity
        for one in chosen.judged
        if one.limit.quantity in TIMES and one.source == "measured"
    ]
    if times:
        artifact = shlex.quote(chosen.artifact or "ARTIFACT")
        yield (
            f"{', '.join(dict.fromkeys(times))} of {chosen.label} is of one run, and runs differ "
            "by more than the processes of one. By how much: "
            f"`edgese profile {artifact} --calibrate-noise`; `edgese gate {artifact}` goes by it."
        )

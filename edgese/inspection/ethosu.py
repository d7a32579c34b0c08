"""Asks Vela, Arm's compiler, what an Ethos-U takes of an int8 .tflite file."""

from collections import Counter
from pathlib import Path
from typing import Final

from edgese.catalog import device_facts
from edgese.devices import vela
from edgese.inspection.rules import left_out
from edgese.records.conversion import DelegateFacts
from edgese.records.emulation import Estimate
from edgese.records.inspection import DelegateReport

# U55 and U65 take the same operators; U85 takes more.
DEVICE: Final = "ethos-u55-256"
_PIECES: Final = "Vela does not tell in how many pieces the accelerator executes it."


def asked(artifact: Path, facts: DelegateFacts) -> DelegateReport:
    """What Vela places on the accelerator, and its reasons for the rest.

    Raises:
        MissingDependency: Vela is not installed.
        DeviceError: Vela failed, or places nothing on the accelerator.
    """
    return report(facts, vela.estimated(artifact, device_facts(DEVICE)))


def report(facts: DelegateFacts, estimate: Estimate) -> DelegateReport:
    """An estimate's operators as a report; pure."""
    reasons = Counter((each.operator, each.reason) for each in estimate.fallbacks)
    total = estimate.npu_operators + estimate.cpu_operators
    whole = estimate.cpu_operators == 0
    untold = estimate.cpu_operators - sum(reasons.values())
    if untold > 0:
        reasons["others", "Vela gave no reason"] = untold
    return DelegateReport(
        delegate=facts.name,
        title=facts.title,
        basis="asked",
        by=f"{estimate.compiler} for {estimate.device}",
        operators=total,
        taken=estimate.npu_operators,
        partitions=1 if whole else None,
        partition_sizes=(total,) if whole else (),
        left_out=tuple(
            left_out("tflite", facts.name, operator, count, "ARGUMENTS", reason)
            for (operator, reason), count in sorted(reasons.items())
        ),
        notes=() if whole else (_PIECES,),
    )

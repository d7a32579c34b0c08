"""What a vendor's compiler estimates of an artifact on a processor that nobody ran."""

from typing import Literal

from edgese.records.base import Record
from edgese.records.bounds import Count, Factor, Milliseconds, Positive, Side

ESTIMATE_SCHEMA = 1


class OperatorEstimate(Record, frozen=True):
    """One operator as the compiler schedules it.

    Attributes:
        operator: in the compiler's words, as in "Conv2D".
        executed_as: what it became, as in "LUT" for a sigmoid.
        output: name of the tensor that it writes.
        processor: "cpu": it falls back to the processor beside the accelerator, whose time is not
            estimated.
        cycles: of the accelerator.
    """

    operator: str
    executed_as: str
    output: str
    processor: Literal["npu", "cpu"]
    cycles: Count
    macs: Count


class CpuFallback(Record, frozen=True):
    """An operator that the accelerator does not take.

    Attributes:
        operator: in TFLite's words, as in "QUANTIZE".
        output: name of the tensor that it writes.
        reason: the compiler's own, in one line.
    """

    operator: str
    output: str
    reason: str


class Estimate(Record, frozen=True):
    """One artifact on one configuration of an accelerator, as its compiler estimates it.

    Attributes:
        label: the artifact's path as it was given.
        resolution: height and width of the input.
        device: as in ``--device``.
        accelerator, system, memory_mode: the configuration, in the compiler's words.
        clock_mhz: of the accelerator in that system; it makes cycles a time.
        cycles: of the accelerator for one inference, waiting for its memories included.
        compute_cycles: of them, what the arithmetic alone takes.
        latency_ms: the cycles at that clock. What falls back to the processor is not in it.
        sram_bytes, dram_bytes, flash_bytes: that the artifact occupies at its peak.
        npu_operators, cpu_operators: how many land where.
        fallbacks: why, for those on the processor that the compiler gave a reason for.
        operators: in the order of execution; empty where the compiler did not tell.
        compiler: name and version.
    """

    label: str
    sha256: str
    target: str
    recipe: str
    model: str
    resolution: tuple[Side, Side]
    trained: bool
    device: str
    accelerator: str
    system: str
    memory_mode: str
    clock_mhz: Factor
    cycles: Positive
    compute_cycles: Count
    latency_ms: Milliseconds
    macs: Count
    sram_bytes: Count
    dram_bytes: Count
    flash_bytes: Count
    npu_operators: Count
    cpu_operators: Count
    fallbacks: tuple[CpuFallback, ...]
    operators: tuple[OperatorEstimate, ...]
    compiler: str
    edgese: str
    created: str
    source: Literal["estimated"] = "estimated"
    schema: int = ESTIMATE_SCHEMA

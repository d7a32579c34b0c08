"""What stands in for measurements: counted instructions and compilers' estimates."""

from typing import Literal

from edgese.records.base import Record
from edgese.records.bounds import (
    Count,
    Factor,
    Finite,
    Milliseconds,
    NotNegative,
    Positive,
    Share,
    Side,
)
from edgese.records.measurement import Source

EmulationCautionCode = Literal[
    "NO_DOT_PRODUCT", "MANY_INSTRUCTIONS", "OUTSIDE_XNNPACK", "SPREAD", "OTHER_VERSION"
]

EMULATION_SCHEMA = 1


class InstructionCounts(Record, frozen=True):
    """Instructions that were executed, by class.

    ``total`` is the sum of the seven after it; the last five are counted among "vector" too.

    Attributes:
        integer: arithmetic on general registers, addresses and comparisons included.
        vector: floating point and fixed-length vectors (NEON).
        sve: vectors of the processor's own length.
        f32_multiply_add, f16_multiply_add: FMLA, FMADD and the like; a full vector multiplies
            4 or 8 pairs of numbers.
        integer_multiply_add: SMLAL, SMULL, MLA and the like: int8 without dot products.
        int8_dot: SDOT, UDOT: 16 pairs of int8.
        int8_matrix: SMMLA, UMMLA (the feature i8mm): 32 pairs of int8.
    """

    total: Positive
    loads: Count
    stores: Count
    branches: Count
    integer: Count
    vector: Count
    sve: Count
    other: Count
    f32_multiply_add: Count
    f16_multiply_add: Count
    integer_multiply_add: Count
    int8_dot: Count
    int8_matrix: Count


class Kernel(Record, frozen=True):
    """A function that took part in an inference.

    Attributes:
        name: as its library names it; "library+0x..." where the library has no names.
        library: file name.
        instructions: of one inference.
        share: of all instructions of the inference, in 0..1.
        by: what it multiplies with: "i8mm", "dot product", "integer multiply-add", "fp16
            multiply-add", "fp32 multiply-add"; "" where it hardly multiplies.
    """

    name: str
    library: str
    instructions: Count
    share: Share
    by: str = ""


class EmulationCaution(Record, frozen=True):
    """Something that a reader of the counts should know; fields as in `measurement.Caution`."""

    code: EmulationCautionCode
    numbers: dict[str, Finite]
    message: str
    advice: str


class Emulation(Record, frozen=True):
    """One artifact on one emulated processor.

    Instruction counts rank variants within one runtime and tell which kernels were chosen. They
    know nothing of caches, of clock frequencies, or of how many instructions a core does at once.

    Attributes:
        label: the artifact's path as it was given; a repeated one is followed by " (2)".
        device: the emulated class, as in "arm64-a76".
        cpu: the core as Arm calls it, as in "cortex-a76".
        features: that the emulated program sees, in /proc/cpuinfo's words.
        instructions: of one inference: medians over all counted ones, of each class.
        totals: all instructions of each counted inference, by process.
        spread: (largest - smallest) / median of them.
        overhead: instructions between the marks around an empty call, which are in every count.
        dispatch: what the kernels multiply with, the most used first.
        kernels: the functions with the most instructions.
        versions: of the runtime's packages in the emulator, which may be others than here.
        macs: of the network at this resolution; None where no spec describes it.
        collapse: why the artifact must not be shipped, as its manifest says; "" where it may.
        cautions: what a reader should know.
    """

    label: str
    sha256: str
    size_bytes: Positive
    target: str
    delegate: str
    recipe: str
    model: str
    resolution: tuple[Side, Side]
    batch: Side
    trained: bool
    device: str
    cpu: str
    features: tuple[str, ...]
    qemu: str
    threads: Positive
    instructions: InstructionCounts
    totals: tuple[tuple[Positive, ...], ...]
    spread: NotNegative
    overhead: Count
    dispatch: tuple[str, ...]
    kernels: tuple[Kernel, ...]
    versions: dict[str, str]
    cautions: tuple[EmulationCaution, ...]
    macs: Count | None = None
    collapse: str = ""
    source: Source = "emulated"
    schema: int = EMULATION_SCHEMA


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

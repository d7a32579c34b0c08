"""What the converting processes tell each other."""

from edgese.records.artifact import (
    Interface,
    ModelCard,
    OperatorReport,
    Parity,
    Recipe,
    TargetOptions,
    WeightsInfo,
)
from edgese.records.base import Record
from edgese.records.bounds import ExitCode, Mebibytes, Positive, Share
from edgese.records.quantization import Quantization

PROGRAM_SCHEMA = 2


class ConversionJob(Record, frozen=True):
    """What one worker process is to do; it starts at once and begins when the program is there.

    Attributes:
        options: those that this target owns; the others have their defaults.
        delegate: what will execute the artifact, the target's default already filled in.
        program: the exported program, a .program file.
        reference: the pictures and PyTorch's logits for them, an .npz file.
        artifact: where to write.
        threads: how many the worker may use.
        trained: False for random weights.
    """

    target: str
    card: ModelCard
    recipe: Recipe
    options: TargetOptions
    delegate: str
    program: str
    reference: str
    artifact: str
    threads: Positive
    trained: bool = True


class Advanced(Record, frozen=True, tag="advanced"):
    """A worker's progress: what it does now, and how much of its whole work is behind, in 0..1."""

    stage: str
    fraction: Share


class Succeeded(Record, frozen=True, tag="succeeded"):
    """A worker's artifact is complete and compared.

    Attributes:
        sha256, size_bytes: of the artifact.
        peak_memory_mb: largest resident memory of the process, in MiB.
    """

    interface: Interface
    operators: OperatorReport
    parity: Parity
    sha256: str
    size_bytes: Positive
    peak_memory_mb: Mebibytes


class Failed(Record, frozen=True, tag="failed"):
    """A worker's error, or what its parent makes of its sudden end.

    Attributes:
        exit_code: of the error's class, as in `edgese.errors`.
    """

    message: str
    hint: str
    exit_code: ExitCode
    peak_memory_mb: Mebibytes = 0.0


Event = Advanced | Succeeded | Failed


class ProgramRecord(Record, frozen=True):
    """Stands beside an exported program and says what it is.

    Attributes:
        program_sha256, reference_sha256: of exported.program and reference.npz.
        model: the name of what was exported.
        torch: the version that exported it.
        quantization: of an integer recipe.
    """

    model: str
    program_sha256: str
    reference_sha256: str
    weights: WeightsInfo
    torch: str
    quantization: Quantization | None = None
    schema: int = PROGRAM_SCHEMA

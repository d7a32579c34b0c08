"""Targets, what is to be converted for them, and what the cache keeps."""

from typing import Literal

from edgese.records.artifact import (
    Interface,
    ModelCard,
    OperatorReport,
    Parity,
    Precision,
    Recipe,
    TargetOptions,
    WeightsInfo,
)
from edgese.records.base import Record
from edgese.records.bounds import Count, ExitCode, Mebibytes, Positive, Seconds, Share
from edgese.records.quantization import Quantization


class OperatorRemark(Record, frozen=True):
    """What is documented of some operators of a delegate beyond whether it has them.

    Attributes:
        operators: in the words of the target's own files.
        taken: whether the delegate executes them at all.
        remark: why not, or how and where: a clause without a full stop.
        source: where that stands.
    """

    operators: tuple[str, ...]
    taken: bool
    remark: str
    source: str


class DelegateFacts(Record, frozen=True):
    """What one delegate of a target takes, here or on another device.

    Attributes:
        name: as in a device's ``delegates``.
        title: its own name, for tables.
        precisions: of recipes that it executes; empty where that is not known.
        operators: that it takes, in the words of the target's own files. One that is listed may
            stay outside all the same: of shapes and types the runtime decides. Empty where nobody
            publishes a list; then the runtime itself is asked.
        source: where that stands, with the version.
        remarks: what is documented of single operators, where there is no list.
    """

    name: str
    title: str
    source: str
    precisions: tuple[Precision, ...] = ()
    operators: tuple[str, ...] = ()
    remarks: tuple[OperatorRemark, ...] = ()


class TargetFacts(Record, frozen=True):
    """The facts of a runtime and its file format.

    Attributes:
        name: as in ``--target``.
        title: its own name, for tables.
        suffix: of its artifacts, with the dot.
        extra: the extra that installs it: ``pip install 'edgese[<extra>]'``.
        modules: what must be importable to convert.
        runtime: what must be importable to execute its artifacts.
        packages: distributions whose versions a manifest records.
        precisions: of recipes that it can execute.
        default_recipe: what `convert` takes where no recipe is named.
        delegates: what can execute it, the default first.
        coverage: what each of them takes, and what delegates take that only other devices have.
        same_integers: whether int8 artifacts compute the very integers of the quantized program;
            else the share of outputs within a step is told, and nothing is asked of it.
        options: the fields of `TargetOptions` that are its own. The batch is everyone's.
        worker_memory_mb: memory that converting takes beyond the network itself, in MiB.
        worker_seconds: how long converting an EfficientNet-B0 takes, roughly; the longest starts
            first.
        sources: where the facts come from.
    """

    name: str
    title: str
    suffix: str
    extra: str
    modules: tuple[str, ...]
    runtime: str
    packages: tuple[str, ...]
    precisions: tuple[Precision, ...]
    default_recipe: str
    delegates: tuple[str, ...]
    worker_memory_mb: Count
    worker_seconds: Seconds
    same_integers: bool = True
    options: tuple[str, ...] = ()
    coverage: tuple[DelegateFacts, ...] = ()
    sources: tuple[str, ...] = ()


class TargetPlan(Record, frozen=True):
    """One artifact that is to be made.

    Attributes:
        options: those that the target owns; the others have their defaults.
        delegate: what will execute the artifact, the target's default filled in.
        artifact: its file name.
    """

    facts: TargetFacts
    recipe: Recipe
    options: TargetOptions
    delegate: str
    artifact: str


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


class CacheEntry(Record, frozen=True):
    """One stored result of a conversion, or the program that several were made from.

    Attributes:
        title: the artifact's name, or the model's for a program.
        used: when it last served, or was made; UTC, ISO 8601.
    """

    kind: Literal["artifact", "program"]
    key: str
    title: str
    size_bytes: Count
    used: str

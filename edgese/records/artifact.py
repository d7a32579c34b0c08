"""What conversion is asked for, and what it leaves: recipes, options, manifests, reports."""

from typing import Annotated, Literal

import msgspec

from edgese.records.base import Record
from edgese.records.bounds import (
    Cosine,
    Count,
    Decibels,
    ExitCode,
    Factor,
    Mebibytes,
    NotNegative,
    Number,
    Positive,
    Seconds,
    Share,
    Side,
)
from edgese.records.model import ModelSpec, Preprocessing
from edgese.records.quantization import Quantization, QuantizationRecipe

Precision = Literal["fp32", "fp16", "int8", "int8_weights", "palette6", "palette4"]
Verdict = Literal["passed", "failed", "not_run"]

MANIFEST_SCHEMA = 2


class ParityBound(Record, frozen=True):
    """What an artifact must reach beside PyTorch on the same pictures.

    PyTorch runs the same program: for an integer recipe that is the quantized one.

    Attributes:
        min_cosine: smallest cosine of any picture's logits with PyTorch's.
        min_sqnr_db: signal to noise over all logits, 10 log10(sum r^2 / sum (a - r)^2).
        min_within_step: integer recipes: share of the logits that are at most one step of the
            output's grid away.
    """

    min_cosine: Cosine
    min_sqnr_db: Decibels
    min_within_step: Share = 0.0


class Recipe(Record, frozen=True):
    """How numbers are reduced; a file in calibration/recipes.

    Attributes:
        name: as in ``--recipe``.
        precision: of weights and, where the target allows it, of activations.
        summary: one sentence for lists.
        parity: what the artifact must reach.
        quantization: how the numbers of an integer precision are found; None for the others.

    Raises:
        ValueError: an integer precision without ``quantization``, another one with it, or one whose
            activations stay in float with a key that is about them.
    """

    name: str
    precision: Precision
    summary: str
    parity: ParityBound
    quantization: QuantizationRecipe | None = None

    def __post_init__(self) -> None:
        """Refuses what would be read and have no effect."""
        if (self.quantization is not None) != self.is_integer:
            needs = "needs" if self.is_integer else "has no"
            raise ValueError(f"The precision {self.precision} {needs} [quantization].")
        how = self.quantization
        if how is None or self.precision == "int8":
            return
        idle = {
            'ranges other than "min_max"': how.ranges != "min_max",
            "bias_correction": how.bias_correction,
            "training": how.training,
        }
        if found := [name for name, given in idle.items() if given]:
            raise ValueError(
                f"{found[0]} has no effect where activations stay in float ({self.precision})"
            )

    @property
    def is_integer(self) -> bool:
        """Whether calibration pictures decide its numbers."""
        return self.precision in ("int8", "int8_weights")


class TargetOptions(Record, frozen=True):
    """Options of one conversion beyond the recipe; each target reads its own and refuses the rest.

    Attributes:
        delegate: what executes the artifact; "" is the target's default.
        batch: examples in the input's first dimension.
        deployment_target: Core ML: oldest system that must run it ("iOS17").
        compute_units: Core ML: "all", "cpu_only", "cpu_and_gpu" or "cpu_and_ne"; advice for whoever
            loads the package, kept in its metadata and manifest.
        image_input: Core ML: takes a picture instead of a tensor; mean and std are inside.
        author, license: Core ML: kept in its metadata, which Xcode shows.
        io: integer recipes: "int8" leaves quantizing the input and dequantizing the output to
            whoever calls the artifact; its manifest has the two grids.
        activations: ONNX Runtime, integer recipes: "uint8", which its x86 kernels are fast for, or
            "int8", for ARM; the same steps, 128 apart. "" is "uint8".
    """

    delegate: str = ""
    batch: Side = 1
    deployment_target: str = ""
    compute_units: str = ""
    image_input: bool = False
    author: str = ""
    license: str = ""
    io: Literal["float", "int8"] = "float"
    activations: Literal["", "int8", "uint8"] = ""


class ModelCard(Record, frozen=True):
    """What an artifact must know of its model, whether or not a spec describes it.

    Attributes:
        classes: outputs of the classifier; 0 for pooled features.
        labels: names of the classes in order; empty where nobody named them.
    """

    name: str
    classes: Count
    preprocessing: Preprocessing
    labels: tuple[str, ...] = ()


class Grid(Record, frozen=True):
    """The values that an integer tensor can have: ``scale * (code - zero_point)``.

    Attributes:
        scale: the step, in the tensor's own unit.
        zero_point: the code of 0.
        dtype: of the codes.
    """

    scale: Factor
    zero_point: Number
    dtype: Literal["int8", "uint8"] = "int8"


class TensorInfo(Record, frozen=True):
    """One input or output of an artifact.

    Attributes:
        layout: "NCHW" or "NHWC" for pictures, "NC" for logits or features.
        dtype: numpy's name, as in "float32", or "image" for a Core ML picture.
        grid: of an integer recipe; with an integer ``dtype`` the codes themselves are passed, else
            they are made from floats behind the input and turned into floats before the output.
    """

    name: str
    shape: Annotated[tuple[Side, ...], msgspec.Meta(min_length=1)]
    layout: Literal["NCHW", "NHWC", "NC"]
    dtype: str
    grid: Grid | None = None


class Interface(Record, frozen=True):
    """What goes into an artifact and what comes out."""

    input: TensorInfo
    output: TensorInfo


class OutsideOperator(Record, frozen=True):
    """Operators of one kind that the delegate does not take, and why."""

    operator: str
    count: Positive
    reason: str


class OperatorReport(Record, frozen=True):
    """What an artifact consists of, read back from the file.

    Attributes:
        operators: how many there are of each kind, in the format's own names; those inside a
            compiled delegate are counted where the file still names them.
        delegate: what was asked to execute them.
        partitions: how many pieces the delegate executes; 1 is the whole network in one piece.
        outside: what stays outside the delegate.
        partition_sizes: operators in each piece; empty where that is not read.
    """

    operators: dict[str, Positive]
    delegate: str
    partitions: Count
    outside: tuple[OutsideOperator, ...] = ()
    partition_sizes: tuple[Positive, ...] = ()


class Parity(Record, frozen=True):
    """An artifact beside PyTorch on the same pictures.

    Attributes:
        verdict: "not_run" where this host cannot execute the artifact; it never means passed.
        reason: why it failed or was not run; "" where it passed.
        pictures: how many were compared.
        cosine: the smallest cosine of a picture's logits with PyTorch's.
        max_abs_diff: the largest difference of a logit.
        sqnr_db: signal to noise over all logits, in dB; 999.0 where there is no noise at all.
        top1_agreement: share of the pictures with the same first class.
        within_step: integer recipes: share of the logits that are at most one step of the output's
            grid away.
        by: what computed the artifact in the runtime's place; "" where the runtime itself did.
        deviation: where the runtime's numbers are not the program's: the largest difference of a
            logit between the saved file and its program with that runtime's numbers, computed
            without any rounding but that of the grids.
    """

    verdict: Verdict
    reason: str = ""
    pictures: Count = 0
    cosine: Cosine | None = None
    max_abs_diff: NotNegative | None = None
    sqnr_db: Decibels | None = None
    top1_agreement: Share | None = None
    within_step: Share | None = None
    by: str = ""
    deviation: NotNegative | None = None


class WeightsInfo(Record, frozen=True):
    """Where the weights came from.

    Attributes:
        source: path, package or "none".
        sha256: of the file, or of a module's parameters and buffers; "" for "none".
        naming: whose parameter names it used: "edgese", "torchvision", "timm" ...
        trained: False for random weights; accuracy must not be judged on them.
    """

    source: str
    sha256: str
    naming: str
    trained: bool


class Manifest(Record, frozen=True):
    """Stands beside every artifact and says what it is.

    Attributes:
        artifact: file or folder name beside the manifest.
        sha256: of the file, or over the sorted names and contents of the folder.
        spec: None where the model was a user's own module.
        program_sha256: of the exported program that all targets were made from.
        quantization: of an integer recipe.
        toolchain: versions of the packages that made it.
        created: UTC, ISO 8601.
        seal: see `edgese.seals`.
    """

    artifact: str
    sha256: str
    size_bytes: Positive
    target: str
    delegate: str
    recipe: Recipe
    model: ModelCard
    spec: ModelSpec | None
    weights: WeightsInfo
    options: TargetOptions
    interface: Interface
    operators: OperatorReport
    parity: Parity
    program_sha256: str
    toolchain: dict[str, str]
    edgese: str
    created: str
    quantization: Quantization | None = None
    seal: str = ""
    schema: int = MANIFEST_SCHEMA

    @property
    def collapse(self) -> str:
        """Why the artifact must not be shipped; "" where its quantization held."""
        return self.quantization.collapse if self.quantization else ""


class ProgramManifest(Record, frozen=True):
    """Stands beside a stored quantized program and says what it is.

    Attributes:
        program: file name beside the manifest.
        sha256: of the file.
        batch: examples in its input's first dimension.
        torch: the version that exported it.
        created: UTC, ISO 8601.
    """

    program: str
    sha256: str
    size_bytes: Positive
    recipe: Recipe
    model: ModelCard
    spec: ModelSpec | None
    weights: WeightsInfo
    quantization: Quantization
    batch: Side
    torch: str
    toolchain: dict[str, str]
    edgese: str
    created: str
    schema: int = MANIFEST_SCHEMA


class ConversionOutcome(Record, frozen=True):
    """How one target's conversion ended; one row of the table.

    Attributes:
        status: "converted", "cached" (answered without converting) or "failed".
        artifact: path of the artifact; "" where it failed.
        manifest: path of the manifest; "" where it failed.
        seconds: wall time of this target, verification included.
        peak_memory_mb: largest resident memory of its worker process, in MiB; 0 where cached.
        integers: of an integer recipe: hash of the integers that all targets' artifacts of the
            program hold, see `edgese.records.quantization.Quantization`.
        collapse: of an integer recipe: why the artifact must not be shipped, as far as the
            calibration pictures tell; "" where they show no collapse.
        notes: of an integer recipe: as in `edgese.records.quantization.Quantization`.
        error: what went wrong, with its remedy in ``hint``.
        exit_code: of that error, or of a collapse; 0 otherwise.
        note: what a reader should know; "" for nothing.
    """

    target: str
    recipe: str
    status: Literal["converted", "cached", "failed"]
    artifact: str = ""
    manifest: str = ""
    size_bytes: Count = 0
    seconds: Seconds = 0.0
    peak_memory_mb: Mebibytes = 0.0
    parity: Parity | None = None
    partitions: Count = 0
    outside_operators: Count = 0
    integers: str = ""
    collapse: str = ""
    notes: tuple[str, ...] = ()
    error: str = ""
    hint: str = ""
    exit_code: ExitCode = 0
    note: str = ""

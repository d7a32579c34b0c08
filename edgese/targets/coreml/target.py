"""Core ML programs (.mlpackage); converted everywhere, executed by Core ML on Apple systems.

Elsewhere the saved program is executed by `edgese.targets.coreml.mil`, whose arithmetic is
edgese's own: it proves the file, and not where Core ML places its operators. `validate` compares
the file with what was asked for.
"""

import platform
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from edgese.errors import ConfigError, ConversionError
from edgese.program.forms import (
    INPUT,
    evaluating,
    folded_weights,
    input_grid,
    input_shape,
    output_grid,
    output_name,
    output_shape,
)
from edgese.program.nodes import DEQUANTIZE_CHANNELS
from edgese.protocols import Predictor, Progress
from edgese.records.artifact import (
    Interface,
    ModelCard,
    OperatorReport,
    Recipe,
    TargetOptions,
    TensorInfo,
)
from edgese.records.model import Preprocessing
from edgese.targets.coreml import classifier as mlclassifier
from edgese.targets.coreml import loading as mlloading
from edgese.targets.coreml import package as mlpackage
from edgese.targets.coreml import padding as mlpadding
from edgese.targets.coreml import pairs as mlpairs
from edgese.targets.coreml import palettes as mlpalettes
from edgese.targets.coreml import quantization as mlquantization
from edgese.targets.coreml.loading import COMPUTE_UNITS, COMPUTE_UNITS_KEY, PREPROCESSING_KEY
from edgese.targets.requests import check_request, known_delegate

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor
    from torch.export import ExportedProgram

NAME: Final = "coreml"
DEPLOYMENT_TARGET: Final = "iOS17"
# Palettes are of use with a scale for each channel alone.
PALETTES_TARGET: Final = "iOS18"
# Names that coremltools 9 knows, oldest first, from the first on that has fp16 inputs.
DEPLOYMENT_TARGETS: Final = (
    "iOS16",
    "macOS13",
    "iOS17",
    "macOS14",
    "iOS18",
    "macOS15",
    "iOS26",
    "macOS26",
)
# Those without operators that quantize activations; weights are expanded at load in all.
_FLOAT_ACTIVATIONS: Final = ("iOS16", "macOS13")
# Those whose palettes have no scale for each channel.
_UNSCALED_PALETTES: Final = ("iOS16", "macOS13", "iOS17", "macOS14")

PREVIEW_KEY: Final = "com.apple.coreml.model.preview.type"


def prepare() -> None:
    """Imports the converter."""
    mlpackage.import_coremltools()


def check(card: ModelCard, recipe: Recipe, options: TargetOptions) -> None:
    """Raises ConfigError where Core ML cannot do what is asked."""
    check_request(NAME, card, recipe, options)
    if options.deployment_target not in ("", *DEPLOYMENT_TARGETS):
        raise ConfigError(
            f"There is no deployment target {options.deployment_target!r}.",
            hint=f"Known: {', '.join(DEPLOYMENT_TARGETS)}.",
        )
    if recipe.precision == "int8" and options.deployment_target in _FLOAT_ACTIVATIONS:
        raise ConfigError(
            f"Core ML quantizes activations from iOS17 and macOS14 on, and the recipe "
            f"{recipe.name!r} was asked for {options.deployment_target}.",
            hint="Choose a later deployment target, or the recipe int8-weights.",
        )
    if options.compute_units not in ("", *COMPUTE_UNITS):
        raise ConfigError(
            f"There are no compute units {options.compute_units!r}.",
            hint=f"Known: {', '.join(COMPUTE_UNITS)}.",
        )
    if options.image_input and options.batch != 1:
        raise ConfigError(
            f"A Core ML image input holds one picture, not a batch of {options.batch}.",
            hint="Leave out the batch or the image input.",
        )
    if len(set(card.labels)) != len(card.labels):
        twice = next(label for label in card.labels if card.labels.count(label) > 1)
        raise ConfigError(
            f"Two classes of {card.name} have the label {twice!r}; Core ML tells them by it.",
            hint="Give each class a label of its own.",
        )


def convert(
    program: "ExportedProgram",
    card: ModelCard,
    recipe: Recipe,
    options: TargetOptions,
    dest: Path,
    progress: Progress,
) -> Interface:
    """Writes an ML program and validates its structure.

    Input and output are fp32 with every recipe; ``options.image_input`` makes the input a picture.
    With labels and a batch of 1 it is a classifier: beside the logits it gives "label" and all
    probabilities. With "int8" weights are int8 codes and so are the activations where Core ML gains
    by it (see `edgese.targets.coreml.pairs`), with "int8_weights" the weights alone; with palettes
    (`edgese.targets.coreml.palettes`) the weights are indices. All else is fp16.

    Raises:
        ConversionError: coremltools refused the program, or made another than was asked for.
    """
    check(card, recipe, options)
    progress("load coremltools", 0.0)
    prepare()
    progress("decompose", 0.2)
    shape, result = input_shape(program), output_shape(program)
    if recipe.is_integer:
        program = mlpairs.fusable(_with_int8_zeros(folded_weights(program)))
    quantization = mlquantization.expected(program)
    grids = input_grid(program), output_grid(program)
    if options.image_input:
        program = _normalizing(program, card.preprocessing)
    program = program.run_decompositions({})
    progress("convert to Core ML", 0.4)
    model = _converted(program, shape, card, recipe, options)
    if bits := mlpalettes.BITS.get(recipe.precision):
        progress("find the palettes", 0.7)
        scaled = _oldest(recipe, options) not in _UNSCALED_PALETTES
        model = mlpalettes.palettized(model, bits, scaled=scaled)
    _describe(model, card, options)
    progress("write", 0.9)
    mlpackage.save(model, dest)
    interface = Interface(
        input=TensorInfo(
            name=INPUT,
            shape=shape,
            layout="NCHW",
            dtype="image" if options.image_input else "float32",
            grid=grids[0],
        ),
        output=TensorInfo(
            name=output_name(card), shape=result, layout="NC", dtype="float32", grid=grids[1]
        ),
    )
    named = card.labels if options.batch == 1 else ()
    validate(dest, interface, quantization, named)
    return interface


def validate(
    artifact: Path,
    interface: Interface,
    quantization: mlquantization.Quantization | None = None,
    labels: tuple[str, ...] = (),
) -> None:
    """Holds the saved program against what was asked for; needs no Apple system.

    Args:
        quantization: the codes and grids that it must have, to the bit.
        labels: the classes that it must tell, in order; none where it is no classifier.

    Raises:
        ConversionError: input, output, operators or weights are not what they should be.
        InputError: not a readable artifact.
    """
    package = mlpackage.read(artifact)
    faults = mlpackage.faults(package, interface)
    if mlclassifier.labels(package) != labels:
        faults += ("labels that are not the model's",)
    if quantization is not None:
        faults += tuple(mlquantization.faults(package, quantization))
    if faults:
        raise ConversionError(
            f"coremltools made a program whose structure is wrong: {'; '.join(faults)}.",
            hint="The artifact was not kept. Please report it with the model's spec.",
        )


def deviation(
    program: "ExportedProgram",
    card: ModelCard,
    artifact: Path,
    interface: Interface,
    pictures: "NDArray[np.float32]",
) -> float | None:
    """How far a saved package with codes is from its program with Core ML's pairs and numbers.

    Both are computed in fp64 (see `edgese.targets.coreml.simulation`), so that anything above
    a float's rounding is a fault of the file, with random weights too. None for a program without
    codes, and for one with an operator that a package may compute otherwise.

    Raises:
        InputError: not a readable artifact.
        OperatorUnknown: an operator that Core ML alone executes.
    """
    if not any(str(node.target) == DEQUANTIZE_CHANNELS for node in program.graph.nodes):
        return None
    import numpy as np

    from edgese.targets.coreml import simulation as mlsimulation
    from edgese.targets.coreml.mil.steps import Arithmetic

    program = mlpairs.fusable(folded_weights(program))
    given = pictures
    if interface.input.dtype == "image":
        program = _normalizing(program, card.preprocessing)
        given = mlloading.pixels_of(card.preprocessing)(pictures)
    if any(mlsimulation.unknown(program)):
        return None
    file = mlloading.evaluated(
        artifact,
        mlpackage.read(artifact),
        interface,
        threads=1,
        arithmetic=Arithmetic.DOUBLES,
    )
    return float(np.abs(file(pictures) - mlsimulation.simulated(program, given)).max())


def inspect(artifact: Path, delegate: str) -> OperatorReport:
    """Counts the operators of the program; constants are not among them.

    Which unit executes which is decided when the program is loaded on a device.

    Raises:
        ConfigError: another delegate than Core ML itself.
        InputError: not a readable artifact.
    """
    name = known_delegate(NAME, delegate)
    operators = dict(mlpackage.operators(mlpackage.read(artifact)))
    return OperatorReport(
        operators=operators,
        delegate=name,
        partitions=1,
        partition_sizes=(sum(operators.values()),),
    )


def unavailable() -> str:
    """Every host executes Core ML programs, if not always by Core ML; see `stand_in`."""
    return ""


def stand_in() -> str:
    """What executes programs here in Core ML's place; "" on a Mac."""
    if platform.system() == "Darwin":
        return ""
    return "edgese's evaluator of the saved file, since Core ML runs on Apple systems only"


def load(artifact: Path, interface: Interface, *, threads: int) -> Predictor:
    """The artifact in Core ML on a Mac, and elsewhere in edgese's evaluator.

    Raises:
        InputError: not a readable artifact.
        StoreError: of a newer specification than is known here.
        OperatorUnknown: an operator that Core ML alone executes, elsewhere than on a Mac.
    """
    package = mlpackage.read(artifact)
    if stand_in():
        return mlloading.evaluated(artifact, package, interface, threads=threads)
    return mlloading.predicted(artifact, package, interface)


def _oldest(recipe: Recipe, options: TargetOptions) -> str:
    """The oldest system that must run it: what was asked for, or the recipe's default."""
    palettes = recipe.precision in mlpalettes.BITS
    return options.deployment_target or (PALETTES_TARGET if palettes else DEPLOYMENT_TARGET)


def _converted(
    program: "ExportedProgram",
    shape: tuple[int, ...],
    card: ModelCard,
    recipe: Recipe,
    options: TargetOptions,
) -> Any:  # noqa: ANN401  # coremltools is untyped
    import coremltools as ct
    import numpy as np

    # Core ML's classifier names the class of one picture; a batch gives its logits alone.
    named = bool(card.labels) and options.batch == 1
    classifier = mlclassifier.config(card.labels) if named else None
    passes = mlclassifier.pipeline() if named else ct.PassPipeline()
    if recipe.precision == "int8":
        passes = mlpadding.append_to(passes)
    tensor = (
        ct.ImageType(name=INPUT, shape=shape, color_layout=ct.colorlayout.RGB)
        if options.image_input
        else ct.TensorType(name=INPUT, shape=shape, dtype=np.float32)
    )
    try:
        return ct.convert(
            program,
            inputs=[tensor],
            outputs=[ct.TensorType(name=output_name(card), dtype=np.float32)],
            classifier_config=classifier,
            pass_pipeline=passes,
            convert_to="mlprogram",
            minimum_deployment_target=ct.target[_oldest(recipe, options)],
            compute_precision=ct.precision.FLOAT16
            if recipe.precision != "fp32"
            else ct.precision.FLOAT32,
            compute_units=ct.ComputeUnit[COMPUTE_UNITS[options.compute_units or "all"]],
            skip_model_load=True,
        )
    except (RuntimeError, ValueError, TypeError, KeyError, AttributeError, IndexError) as error:
        told = str(error).strip().splitlines()
        raise ConversionError(
            f"coremltools refused the program: {told[0] if told else type(error).__name__}",
            hint="Write the operator that it names as others that mean the same.",
        ) from error


def _describe(model: Any, card: ModelCard, options: TargetOptions) -> None:  # noqa: ANN401  # untyped
    """What Xcode shows, and what `load` needs.

    With pictures and labels Xcode's preview classifies what is dropped on it; the key is of
    https://apple.github.io/coremltools/docs-guides/source/xcode-model-preview-types.html.
    """
    import json

    p = card.preprocessing
    what = f"{card.classes} classes" if card.classes else "features"
    model.short_description = f"{card.name}, {what}, {p.height} x {p.width} pixels"
    if options.author:
        model.author = options.author
    if options.license:
        model.license = options.license
    if options.image_input and card.labels:
        model.user_defined_metadata[PREVIEW_KEY] = "imageClassifier"
    model.user_defined_metadata[PREPROCESSING_KEY] = json.dumps(p.to_dict())
    model.user_defined_metadata[COMPUTE_UNITS_KEY] = options.compute_units or "all"
    model.input_description[INPUT] = (
        "An RGB picture, resized and cropped; it is normalized inside."
        if options.image_input
        else f"RGB in 0..1, minus {p.mean}, divided by {p.std}."
    )
    model.output_description[output_name(card)] = (
        "One score for each class, before softmax." if card.classes else "Pooled features."
    )


def _with_int8_zeros(program: "ExportedProgram") -> "ExportedProgram":
    """Makes the zero points of weights int8, in place: coremltools' cast to it needs iOS17."""
    import torch

    targets = {spec.arg.name: spec.target for spec in program.graph_signature.input_specs}
    for node in program.graph.nodes:
        if str(node.target) == DEQUANTIZE_CHANNELS:
            zeros = node.args[2]
            kept = program.state_dict
            if targets[zeros.name] not in kept:
                kept = program.constants
            kept[targets[zeros.name]] = kept[targets[zeros.name]].to(torch.int8)
            zeros.meta["val"] = zeros.meta["val"].to(torch.int8)
    return program


def _normalizing(program: "ExportedProgram", preprocessing: Preprocessing) -> "ExportedProgram":
    """The program for values in 0..255 in place of normalized ones.

    Core ML's own image scale is one number for all channels, and folding the mean into the first
    convolution would be wrong where that one pads with zeros. So it is an operator of its own.
    """
    import torch
    from torch import nn

    def across_channels(values: list[float]) -> "Tensor":
        return torch.tensor(values, dtype=torch.float64).float().reshape(1, 3, 1, 1)

    class Normalizing(nn.Module):
        scale: "Tensor"
        offset: "Tensor"

        def __init__(self) -> None:
            super().__init__()
            self.network = program.module(check_guards=False)
            mean, std = preprocessing.mean, preprocessing.std
            self.register_buffer("scale", across_channels([1 / (255 * s) for s in std]))
            self.register_buffer(
                "offset", across_channels([-m / s for m, s in zip(mean, std, strict=True)])
            )

        def forward(self, x: "Tensor") -> "Tensor":
            y: Tensor = self.network(x * self.scale + self.offset)
            return y

    return torch.export.export(evaluating(Normalizing()), (torch.zeros(input_shape(program)),))

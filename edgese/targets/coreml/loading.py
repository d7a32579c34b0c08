"""Loads packages: into Core ML on a Mac, and elsewhere into what stands in for it."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from edgese.protocols import Predictor
from edgese.records.artifact import Interface
from edgese.records.model import Preprocessing
from edgese.targets.batches import checked, dealt, predictor, unreadable
from edgese.targets.coreml.package import TITLE, Package

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edgese.targets.coreml.mil.steps import Arithmetic

COMPUTE_UNITS: Final = {
    "all": "ALL",
    "cpu_only": "CPU_ONLY",
    "cpu_and_gpu": "CPU_AND_GPU",
    "cpu_and_ne": "CPU_AND_NE",
}
PREPROCESSING_KEY: Final = "edgese.preprocessing"
COMPUTE_UNITS_KEY: Final = "edgese.compute_units"


def evaluated(
    artifact: Path,
    package: Package,
    interface: Interface,
    *,
    threads: int,
    arithmetic: "Arithmetic | None" = None,
) -> Predictor:
    """A package executed by edgese's own evaluator, any number of pictures at once where it can be.

    Args:
        threads: that compute alone, each with a part of the pictures.
        arithmetic: halves, if not given.

    Raises:
        InputError: not a program that can be read, or another's interface.
        OperatorUnknown: an operator that Core ML alone executes.
    """
    import torch

    from edgese.targets.coreml.mil.program import computed, loaded
    from edgese.targets.coreml.mil.steps import Arithmetic

    program = loaded(artifact, package, interface.output.name, arithmetic or Arithmetic.HALVES)
    batch, *picture_shape = interface.input.shape
    if program.shape != interface.input.shape:
        raise unreadable(
            artifact, TITLE, f"its input is {program.shape}, not {interface.input.shape}"
        )
    pixels = _pixels_in(artifact, package, interface)

    def run(pictures: "NDArray[np.float32]") -> "NDArray[np.float32]":
        given = pictures if pixels is None else pixels(pictures)
        with torch.inference_mode():
            logits: NDArray[np.float32] = computed(program, torch.from_numpy(given)).float().numpy()
        return logits

    if program.takes_rows:
        return checked(dealt(run, threads), tuple(picture_shape))
    return predictor(run, tuple(picture_shape), batch)


def predicted(artifact: Path, package: Package, interface: Interface) -> Predictor:
    """A package executed by Core ML; how many threads it takes is Core ML's own decision.

    NOT TESTED: it needs a Mac.

    Raises:
        InputError: Core ML does not load it.
    """
    import coremltools

    units = COMPUTE_UNITS[package.spec.description.metadata.userDefined[COMPUTE_UNITS_KEY]]
    try:
        model = coremltools.models.MLModel(
            str(artifact), compute_units=coremltools.ComputeUnit[units]
        )
    except (RuntimeError, ValueError, OSError) as error:
        raise unreadable(artifact, TITLE, error) from error
    source, output = interface.input, interface.output.name
    pixels = _pixels_in(artifact, package, interface)

    def run(pictures: "NDArray[np.float32]") -> "NDArray[np.float32]":
        given = pictures if pixels is None else _image(pixels(pictures)[0])
        logits: NDArray[np.float32] = model.predict({source.name: given})[output]
        return logits

    batch, *picture_shape = source.shape
    return predictor(run, tuple(picture_shape), batch)


def _pixels_in(artifact: Path, package: Package, interface: Interface) -> Predictor | None:
    """What makes the program's pixels of normalized pictures; None where it takes these.

    Raises:
        InputError: the package does not say how its pictures are normalized.
    """
    if interface.input.dtype != "image":
        return None
    text = package.spec.description.metadata.userDefined[PREPROCESSING_KEY]
    return pixels_of(Preprocessing.from_json(text, artifact))


def pixels_of(preprocessing: Preprocessing) -> Predictor:
    """What makes pixels of normalized pictures again."""
    import numpy as np

    mean, std = (
        np.array(values, np.float64).reshape(1, 3, 1, 1)
        for values in (preprocessing.mean, preprocessing.std)
    )

    def pixels(pictures: "NDArray[np.float32]") -> "NDArray[np.float32]":
        """(N, 3, H, W) in 0..255, whole."""
        values = (pictures * std + mean) * 255
        return values.round().clip(0, 255).astype(np.float32)

    return pixels


def _image(pixels: "NDArray[np.float32]") -> Any:  # noqa: ANN401  # PIL's
    import numpy as np
    from PIL import Image

    return Image.fromarray(pixels.transpose(1, 2, 0).astype(np.uint8))

"""What quantizing is asked for, and what it leaves."""

from typing import Annotated, Literal

import msgspec

from edgese.records.base import Record
from edgese.records.bounds import Count, Decibels, Finite, Positive, Share
from edgese.records.data import PicturesInfo

RangeMethod = Literal["min_max", "percentile", "mse", "fisher"]
_PERCENTILE = 99.99


class QuantizationRecipe(Record, frozen=True):
    """How the numbers of an integer recipe are found; part of a file in calibration/recipes.

    Attributes:
        ranges: how an activation's range is set, see `edgese.quantization.ranges.chosen_range`.
        percentile: for "percentile": the share of values inside, in percent.
        bias_correction: shifts each channel's mean back to what it is in float, through the bias.
        norm_reestimation: matches each channel's spread too, through the scale of its weights:
            re-estimating BatchNorm's statistics, where BatchNorm is folded.
        compensation: changes weights so that each layer makes up for the errors of its input, see
            `edgese.quantization.compensation`.
        equalization: cross-layer equalization where the operator between two convolutions allows
            it (ReLU, or none).
        keep_float: patterns of module paths whose operators stay in float.
        pictures: how many calibration pictures are taken, evenly spread over what is given.
        seed: of whatever is drawn at random.
        training: the training recipe of quantization-aware training; "" for none.

    Raises:
        ValueError: a key that has no effect beside the others.
    """

    ranges: RangeMethod = "fisher"
    percentile: Annotated[float, msgspec.Meta(gt=50, le=100)] = _PERCENTILE
    bias_correction: bool = True
    norm_reestimation: bool = False
    compensation: bool = False
    equalization: bool = False
    keep_float: tuple[str, ...] = ()
    pictures: Annotated[int, msgspec.Meta(ge=1)] = 256
    seed: int = 0
    training: str = ""

    def __post_init__(self) -> None:
        """Refuse what would be read and have no effect."""
        if self.percentile != _PERCENTILE and self.ranges != "percentile":
            raise ValueError(f'`percentile` is for ranges = "percentile", not "{self.ranges}"')
        for name in ("norm_reestimation", "compensation"):
            if getattr(self, name) and not self.bias_correction:
                raise ValueError(f"`{name}` moves the means, and needs bias_correction = true")


class CalibrationPicture(Record, frozen=True):
    """A picture that grids were found with.

    Attributes:
        file: relative to the calibration set's source.
        sha256: of the file's contents.
    """

    file: str
    sha256: str


class Calibration(Record, frozen=True):
    """What grids were found with.

    Attributes:
        source: the folder or CSV that was named; "embedded" for crops of scikit-learn's two
            photographs.
        pictures: none for the embedded ones.
    """

    source: str
    pictures: tuple[CalibrationPicture, ...]


class Fidelity(Record, frozen=True):
    """How close a quantized program is to the network itself, both run by PyTorch.

    The network is the user's own module, or the one that a spec describes, in evaluation mode and
    before it is exported: nothing is folded or rewritten in it.

    Attributes:
        pictures: how many; calibration pictures, so that the figures flatter a little.
        kl: Kullback-Leibler divergence of the predicted classes from the float network's, in nats,
            mean over the pictures; None where the network has no classes.
        top1_agreement: share with the same first class; None where the network has no classes.
        sqnr_db: signal to quantization noise over all outputs.
    """

    pictures: Positive
    sqnr_db: Decibels
    kl: Finite | None = None
    top1_agreement: Share | None = None


class Quantization(Record, frozen=True):
    """What made an integer program what it is, beside its recipe.

    Attributes:
        integers: hash of the integers of weights and biases, and of all scales and zero points;
            artifacts with the same one hold the same integers, whatever their runtimes. "" in a
            manifest from before it was there.
        collapse: why the program must not be shipped, as far as the calibration pictures tell; ""
            where they show no collapse.
        learnt_from: the pictures of a quantization-aware training; None where there was none.
        notes: what of the recipe was done, and in how many layers, where that may be less than all.
    """

    calibration: Calibration
    fidelity: Fidelity
    integers: str = ""
    collapse: str = ""
    learnt_from: PicturesInfo | None = None
    notes: tuple[str, ...] = ()


Cause = Literal["weights", "range", "outlier channel", "gate saturation", "rounding"]


class LayerCost(Record, frozen=True):
    """What quantizing one layer alone does to the network's output.

    It is compared with the same network in float, whose weights are those of the program already:
    corrected, or trained. What these changed is part of `Fidelity`, and of no single layer.

    Attributes:
        layer: path of the module.
        operator: what computes there, as in "conv2d".
        part: its weights, or the grid behind it.
        sqnr_db: of the network's outputs, signal to the noise that this part alone makes.
        kl: of the predicted classes, in nats; None where the network has no classes.
        cause: "weights": coarse steps in some channel. "range": most codes serve few values.
            "outlier channel": one channel stretches the range of all. "gate saturation": a sigmoid
            whose inputs lie where it hardly changes. "rounding": none of these.
        detail: the figures behind it.
    """

    layer: str
    operator: str
    part: Literal["weights", "activations"]
    sqnr_db: Decibels
    kl: Finite | None
    cause: Cause
    detail: str


class QuantizedProgram(Record, frozen=True):
    """What ``edgese quantize`` leaves.

    Attributes:
        program: path of the stored program, a .program file.
        manifest: path of its manifest.
        calibrated_on: how many pictures its grids were found with.
        integers, collapse, notes: as in `Quantization`.
        layers: what each layer costs alone, the costliest first; empty where nobody asked.
    """

    program: str
    manifest: str
    model: str
    recipe: str
    size_bytes: Count
    calibrated_on: Count
    fidelity: Fidelity
    integers: str
    collapse: str = ""
    notes: tuple[str, ...] = ()
    layers: tuple[LayerCost, ...] = ()

"""What a network is: its spec, its preprocessing, what it costs."""

from collections.abc import Mapping
from math import isfinite
from types import MappingProxyType
from typing import Annotated, Final, Literal

import msgspec

from edgese.records.base import Record
from edgese.records.bounds import Count, Fraction, Percent, Positive, Share, Side

Activation = Literal["silu", "hard_swish", "relu", "relu6"]
Gate = Literal["sigmoid", "hard_sigmoid", "relu", "tanh"]
Squeeze = Literal["avg", "max", "none"]
Placement = Literal["standard", "pre", "post", "identity", "spatial"]
Block = Literal["mbconv", "fused_mbconv", "basic", "bottleneck"]
Interpolation = Literal["nearest", "bilinear", "bicubic"]
StemPool = Literal["none", "max", "max_ceil"]
Padding = Literal["symmetric", "same"]


# Fields of a stage that say something of some blocks alone.
_BLOCKS_WITH: Final[Mapping[str, tuple[Block, ...]]] = MappingProxyType(
    {
        "expansion": ("mbconv", "fused_mbconv"),
        "inner": ("bottleneck",),
        "groups": ("bottleneck",),
        "stride_in": ("bottleneck",),
        "shortcut": ("basic", "bottleneck"),
        "active_end": ("basic", "bottleneck"),
    }
)


class SqueezeExcite(Record, frozen=True):
    """The squeeze-and-excitation gate of a stage, with every choice that its paper ablates.

    Source: Hu et al., "Squeeze-and-Excitation Networks", arXiv:1709.01507, section 6.

    Attributes:
        reduction: the hidden width is a reference width divided by this.
        reference: "gated" divides the width of the tensor that is gated (SENet), "block" the width
            that enters the block (EfficientNet, whose gated tensor is the expanded one).
        divisor: the hidden width is rounded to the nearest multiple of this, at least one
            multiple; with 1 it is rounded down.
        squeeze: global average or max pooling, or "none": a gate for every position.
        activation: between the two 1x1 convolutions.
        gate: what turns the second convolution's output into factors.
        placement: "standard" on the residual branch's output, "pre" on its input, "post" after the
            addition, "identity" on the shortcut, "spatial" right after the spatial convolution
            (SE_3x3 in the paper, and where EfficientNet has it).
        bias: whether the two convolutions have biases.
    """

    reduction: Annotated[float, msgspec.Meta(gt=0)] = 16
    reference: Literal["gated", "block"] = "gated"
    divisor: Positive = 1
    squeeze: Squeeze = "avg"
    activation: Activation = "relu"
    gate: Gate = "sigmoid"
    placement: Placement = "standard"
    bias: bool = True


class Stage(Record, frozen=True):
    """One row of a network's table: ``depth`` blocks of one kind.

    Attributes:
        block: "mbconv" (1x1, depthwise, 1x1), "fused_mbconv" (kxk, 1x1), "basic" (3x3, 3x3) or
            "bottleneck" (1x1, 3x3, 1x1).
        channels: width that leaves each block.
        depth: number of blocks.
        stride: of the first block; the others have 1.
        kernel: side of the spatial convolution.
        expansion: mbconv and fused_mbconv: inner width over the width that enters; 1 leaves the
            expanding convolution out.
        inner: bottleneck: widths that leave its 1x1 and its 3x3 convolution.
        groups: bottleneck: groups of its 3x3 convolution.
        stride_in: bottleneck: which convolution carries the stride. The SE paper and Caffe have it
            in the 1x1, torchvision and today's timm in the 3x3.
        shortcut: basic and bottleneck: the convolution of a shortcut that changes shape.
        active_end: basic and bottleneck: whether the activation also follows the branch's last
            convolution, before gate and addition, as in timm's legacy SE-ResNet-18 and -34.
        se: the gate; None for a plain stage.

    Raises:
        ValueError: fields that contradict each other, or that say nothing of this kind of block.
    """

    block: Block
    channels: Positive
    depth: Positive
    stride: Positive = 1
    kernel: Positive = 3
    expansion: Annotated[float, msgspec.Meta(ge=1)] = 1
    inner: tuple[Positive, Positive] | None = None
    groups: Positive = 1
    stride_in: Literal["1x1", "3x3"] = "3x3"
    shortcut: Literal["conv1x1", "conv3x3"] = "conv1x1"
    active_end: bool = False
    se: SqueezeExcite | None = None

    def __post_init__(self) -> None:
        """Refuses what cannot be built, and what would be read and have no effect."""
        _refuse_even(self.kernel)
        if not isfinite(self.expansion):
            raise ValueError(f"The expansion is {self.expansion}.")
        for name, blocks in _BLOCKS_WITH.items():
            if self.block not in blocks and getattr(self, name) != _STAGE_DEFAULTS[name]:
                raise ValueError(f"A {self.block} stage has no `{name}`.")
        if self.block != "bottleneck":
            return
        if self.inner is None:
            raise ValueError("A bottleneck stage needs its `inner` widths, as in [64, 64].")
        if any(width % self.groups for width in self.inner):
            raise ValueError(
                f"The inner widths {self.inner} do not divide by {self.groups} groups."
            )


_STAGE_DEFAULTS: Final = {field.name: field.default for field in msgspec.structs.fields(Stage)}


class Stem(Record, frozen=True):
    """What stands before the stages: convolutions and perhaps a pool.

    Attributes:
        channels: width that leaves each convolution.
        stride: of the first one; the others have 1.
        pool: a 3x3 max pool of stride 2: "max" pads by one on all sides, "max_ceil" does not pad
            and rounds the output size up (Caffe), "none" leaves it out.

    Raises:
        ValueError: an even kernel.
    """

    channels: Annotated[tuple[Positive, ...], msgspec.Meta(min_length=1)]
    kernel: Positive = 3
    stride: Positive = 2
    pool: StemPool = "none"

    def __post_init__(self) -> None:
        """Refuses what cannot be built."""
        _refuse_even(self.kernel)


class Head(Record, frozen=True):
    """What follows the stages: perhaps a 1x1 convolution, global average pool, linear classifier.

    Attributes:
        channels: width of the 1x1 convolution; 0 leaves it out.
        dropout: rate before the classifier, in training only.
    """

    channels: Annotated[int, msgspec.Meta(ge=0)] = 0
    dropout: Fraction = 0.0


class Normalization(Record, frozen=True):
    """BatchNorm's constants; they differ between implementations of one network."""

    eps: Annotated[float, msgspec.Meta(gt=0)] = 1e-5
    momentum: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.1


class Preprocessing(Record, frozen=True):
    """From a decoded RGB picture to the network's input; travels with spec, weights and artifact.

    The shorter side is resized to ``round(max(height, width) / crop)`` pixels, the centre is
    cropped to ``height`` x ``width``, values are divided by 255, ``mean`` is subtracted and the
    result divided by ``std``.

    Attributes:
        mean, std: per channel, for values in 0..1.

    Raises:
        ValueError: a mean or std that is no number, or a std of 0.
    """

    height: Positive = 224
    width: Positive = 224
    crop: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.875
    interpolation: Interpolation = "bicubic"
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)

    def __post_init__(self) -> None:
        """Refuses what would make every input infinite or none."""
        if not all(map(isfinite, (*self.mean, *self.std))) or min(self.std) <= 0:
            raise ValueError(f"The mean is {self.mean} and the std {self.std}; a std is above 0.")


class Published(Record, frozen=True):
    """An accuracy that somebody published for this network, and where.

    Attributes:
        top1: accuracy in percent on ``dataset``'s validation or test set.
    """

    top1: Percent
    source: str
    dataset: str = "imagenet-1k"


class ModelSpec(Record, frozen=True):
    """A network as a table of typed rows; everything that building it needs.

    Attributes:
        name: how it is called in commands and files.
        family: the group that it is listed under.
        stem, stages, head: the rows, scaling already applied.
        classes: outputs of the classifier; 0 leaves it out and gives pooled features.
        activation: of the backbone. A gate's own activation is part of its stage.
        padding: "symmetric" (torch) or "same" (TensorFlow's, uneven where the stride does not
            divide).
        stochastic_depth: rate of the last block's dropped residual branch, in training only;
            it grows linearly from 0 at the first.
        labels: names of the classes in order, or "imagenet-1k" for that set's.

    Raises:
        ValueError: not as many labels as classes.
    """

    name: str
    family: str
    stem: Stem
    stages: Annotated[tuple[Stage, ...], msgspec.Meta(min_length=1)]
    head: Head = Head()
    classes: Annotated[int, msgspec.Meta(ge=0)] = 1000
    activation: Activation = "relu"
    normalization: Normalization = Normalization()
    padding: Padding = "symmetric"
    stochastic_depth: Fraction = 0.0
    preprocessing: Preprocessing = Preprocessing()
    labels: Literal["imagenet-1k"] | tuple[str, ...] = ()
    published: Published | None = None

    def __post_init__(self) -> None:
        """Refuses labels that would name other classes than the network's."""
        named = 1000 if self.labels == "imagenet-1k" else len(self.labels)
        if named not in (0, self.classes):
            raise ValueError(f"There are {named} labels and {self.classes} classes.")


def _refuse_even(kernel: int) -> None:
    # Half a kernel of padding on both sides keeps the size of odd ones alone.
    if kernel % 2 == 0:
        raise ValueError(f"The kernel is {kernel}; it must be odd.")


class GateShare(Record, frozen=True):
    """How much of each count is there because of squeeze-and-excitation, in 0..1.

    The share of a count is what it loses when every gate is taken out of the network, over the
    count itself.
    """

    parameters: Share
    macs: Share
    paper_flops: Share
    peak_activation_bytes: Share


class StageCost(Record, frozen=True):
    """One line of a network's table.

    Attributes:
        name: "stem", "stages.0" ... or "head" (with the pool and the classifier).
        kind: the stage's block, or "stem" or "head".
        depth: number of blocks; of convolutions in the stem and the head.
        channels, height, width: of the tensor that leaves the stage.
        gates: number of squeeze-and-excitation gates.
        parameters, macs, paper_flops: of this stage alone, as in `ModelCost`.
        peak_activation_bytes: most that is alive while this stage runs, shortcuts included.
    """

    name: str
    kind: str
    depth: Count
    channels: Side
    height: Side
    width: Side
    gates: Count
    parameters: Count
    macs: Count
    paper_flops: Count
    peak_activation_bytes: Count
    gate_share: GateShare


class ModelCost(Record, frozen=True):
    """What one picture costs.

    Attributes:
        height, width: resolution that it is counted at.
        parameters: weights, biases, and BatchNorm's scale and shift; not its running statistics.
        macs: multiply-adds of convolutions and linear layers, padding counted as if it were data;
            half of what ``torch.utils.flop_counter`` counts.
        paper_flops: "FLOPs" as arXiv:1709.01507 counts them: a multiply-add is one, and besides
            the MACs there is one for each element that a global pool reads and one for each element
            that a gate scales. BatchNorm, biases, activations, residual additions and the stem's
            max pool are free.
        peak_activation_bytes: largest sum of fp32 tensors that are alive at once, with BatchNorm
            folded, nothing done in place and SiLU computed as ``x * sigmoid(x)``. The input counts
            until its last use.
        gate_weights: weights of all gates, without their biases.
    """

    model: str
    height: Side
    width: Side
    parameters: Count
    macs: Count
    paper_flops: Count
    peak_activation_bytes: Count
    gate_weights: Count
    gate_share: GateShare
    stages: tuple[StageCost, ...]

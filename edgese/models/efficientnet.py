"""The EfficientNet families: the published tables, and the rules that scale them.

Sources: Tan and Le, "EfficientNet", arXiv:1905.11946 (table 1, section 3.3); "EfficientNetV2",
arXiv:2104.00298 (table 4); the EfficientNet-Lite and V2 configurations in tensorflow/tpu and
google/automl (`efficientnet_lite_builder.py`, `effnetv2_configs.py`).
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple

from edgese.errors import ConfigError
from edgese.models.blocks import round_channels
from edgese.records.model import (
    Head,
    ModelSpec,
    Normalization,
    Padding,
    Preprocessing,
    Published,
    SqueezeExcite,
    Stage,
    Stem,
)

ALPHA: Final = 1.2  # depth
BETA: Final = 1.1  # width
GAMMA: Final = 1.15  # resolution
# 38 times B0's depth and 6.7 times its width; EfficientNet-L2 has 5.3 times and 4.3 times.
MOST_PHI: Final = 20

# The hidden width of an EfficientNet gate is a quarter of what enters the block, not of what it
# gates.
GATE: Final = SqueezeExcite(
    reduction=4, reference="block", activation="silu", gate="sigmoid", placement="spatial"
)


class Row(NamedTuple):
    """A published table's row, before scaling."""

    expansion: int
    kernel: int
    stride: int
    channels: int
    depth: int
    fused: bool = False


B0_ROWS: Final = (
    Row(1, 3, 1, 16, 1),
    Row(6, 3, 2, 24, 2),
    Row(6, 5, 2, 40, 2),
    Row(6, 3, 2, 80, 3),
    Row(6, 5, 1, 112, 3),
    Row(6, 5, 2, 192, 4),
    Row(6, 3, 1, 320, 1),
)
V2_BASE_ROWS: Final = (
    Row(1, 3, 1, 16, 1, fused=True),
    Row(4, 3, 2, 32, 2, fused=True),
    Row(4, 3, 2, 48, 2, fused=True),
    Row(4, 3, 2, 96, 3),
    Row(6, 3, 1, 112, 5),
    Row(6, 3, 2, 192, 8),
)
V2_S_ROWS: Final = (
    Row(1, 3, 1, 24, 2, fused=True),
    Row(4, 3, 2, 48, 4, fused=True),
    Row(4, 3, 2, 64, 4, fused=True),
    Row(4, 3, 2, 128, 6),
    Row(6, 3, 1, 160, 9),
    Row(6, 3, 2, 256, 15),
)
V2_M_ROWS: Final = (
    Row(1, 3, 1, 24, 3, fused=True),
    Row(4, 3, 2, 48, 5, fused=True),
    Row(4, 3, 2, 80, 5, fused=True),
    Row(4, 3, 2, 160, 7),
    Row(6, 3, 1, 176, 14),
    Row(6, 3, 2, 304, 18),
    Row(6, 3, 1, 512, 5),
)
V2_L_ROWS: Final = (
    Row(1, 3, 1, 32, 4, fused=True),
    Row(4, 3, 2, 64, 7, fused=True),
    Row(4, 3, 2, 96, 7, fused=True),
    Row(4, 3, 2, 192, 10),
    Row(6, 3, 1, 224, 19),
    Row(6, 3, 2, 384, 25),
    Row(6, 3, 1, 640, 7),
)


@dataclass(frozen=True)
class Dialect:
    """What tells two implementations of one network apart, with the same weights' shapes."""

    padding: Padding
    normalization: Normalization


TORCH: Final = Dialect("symmetric", Normalization())
# torchvision builds B5 to B7 with TensorFlow's BatchNorm constants, and the others with torch's.
TORCH_LARGE: Final = Dialect("symmetric", Normalization(eps=1e-3, momentum=0.01))
TENSORFLOW: Final = Dialect("same", Normalization(eps=1e-3, momentum=0.01))
# V2 was trained with TensorFlow's momentum 0.9, which is torch's 0.1 (google/automl `hparams.py`).
TORCH_V2: Final = Dialect("symmetric", Normalization(eps=1e-3, momentum=0.1))
TENSORFLOW_V2: Final = Dialect("same", Normalization(eps=1e-3, momentum=0.1))


def scaled(
    rows: Iterable[Row],
    width: float,
    depth: float,
    gate: SqueezeExcite | None,
    *,
    fix_ends: bool = False,
    lowest: float = 0.9,
) -> tuple[Stage, ...]:
    """The rows with widths and depths scaled; fused rows carry no gate.

    Args:
        fix_ends: leaves the depth of the first and last row alone, as EfficientNet-Lite does.
        lowest: see `round_channels`.
    """
    rows = tuple(rows)
    last = len(rows) - 1
    return tuple(
        Stage(
            block="fused_mbconv" if row.fused else "mbconv",
            channels=round_channels(row.channels * width, lowest=lowest),
            depth=row.depth if fix_ends and index in (0, last) else math.ceil(row.depth * depth),
            stride=row.stride,
            kernel=row.kernel,
            expansion=row.expansion,
            se=None if row.fused else gate,
        )
        for index, row in enumerate(rows)
    )


def v1(
    name: str,
    width: float,
    depth: float,
    resolution: int,
    *,
    dropout: float,
    dialect: Dialect = TORCH,
    crop: float = 0.875,
    published: Published | None = None,
) -> ModelSpec:
    """An EfficientNet of the first generation."""
    return ModelSpec(
        name=name,
        family="efficientnet",
        stem=Stem(channels=(round_channels(32 * width),)),
        stages=scaled(B0_ROWS, width, depth, GATE),
        head=Head(channels=round_channels(1280 * width), dropout=dropout),
        activation="silu",
        normalization=dialect.normalization,
        padding=dialect.padding,
        stochastic_depth=0.2,
        preprocessing=Preprocessing(height=resolution, width=resolution, crop=crop),
        labels="imagenet-1k",
        published=published,
    )


def by_phi(phi: float) -> ModelSpec:
    """Compound scaling for any ``phi``: depth 1.2^phi, width 1.1^phi, resolution 224 * 1.15^phi.

    The resolution is rounded to a multiple of 8, and the dropout grows by 0.05 from B0's 0.2 within
    0.1 to 0.5. The published B1 to B7 are rounded by hand, so ``by_phi(1)`` is close to B1, and not
    B1.

    Raises:
        ConfigError: ``phi`` is beyond -20 to 20.
    """
    if not abs(phi) <= MOST_PHI:
        raise ConfigError(
            f"An EfficientNet scaled by phi = {phi:g} was asked for.",
            hint=f"Give a phi from -{MOST_PHI} to {MOST_PHI}; B7 is near 7.",
        )
    return v1(
        f"efficientnet_phi{phi:g}",
        BETA**phi,
        ALPHA**phi,
        max(8, round(224 * GAMMA**phi / 8) * 8),
        dropout=min(0.5, max(0.1, 0.2 + 0.05 * phi)),
    )


def lite(
    name: str, width: float, depth: float, resolution: int, *, dropout: float, top1: float
) -> ModelSpec:
    """An EfficientNet-Lite: no gates, ReLU6, stem and head not scaled.

    Resized bicubically, as timm and EfficientNet-Lite-PyTorch evaluate the published weights;
    tensorflow/tpu resizes bilinearly.
    """
    return ModelSpec(
        name=name,
        family="efficientnet_lite",
        stem=Stem(channels=(32,)),
        stages=scaled(B0_ROWS, width, depth, None, fix_ends=True),
        head=Head(channels=1280, dropout=dropout),
        activation="relu6",
        normalization=TENSORFLOW.normalization,
        padding=TENSORFLOW.padding,
        stochastic_depth=0.2,
        preprocessing=Preprocessing(
            height=resolution,
            width=resolution,
            crop=resolution / (resolution + 32),
            mean=(127 / 255, 127 / 255, 127 / 255),
            std=(128 / 255, 128 / 255, 128 / 255),
        ),
        labels="imagenet-1k",
        published=Published(top1=top1, source="tensorflow/tpu efficientnet/lite/README.md"),
    )


def v2(
    name: str,
    rows: tuple[Row, ...],
    preprocessing: Preprocessing,
    *,
    stem: int,
    width: float = 1.0,
    depth: float = 1.0,
    dropout: float,
    dialect: Dialect,
    published: Published,
) -> ModelSpec:
    """An EfficientNetV2: Fused-MBConv first, gates only in the later stages."""
    # Unlike the first generation's, V2's rounding may fall more than 10 % short.
    return ModelSpec(
        name=name,
        family="efficientnet_v2",
        stem=Stem(channels=(round_channels(stem * width, lowest=0),)),
        stages=scaled(rows, width, depth, GATE, lowest=0),
        head=Head(channels=round_channels(1280 * width, lowest=0), dropout=dropout),
        activation="silu",
        normalization=dialect.normalization,
        padding=dialect.padding,
        stochastic_depth=0.2,
        preprocessing=preprocessing,
        labels="imagenet-1k",
        published=published,
    )


class Scale(NamedTuple):
    """How one variant is scaled, with the accuracy of its two well-known sets of weights."""

    width: float
    depth: float
    resolution: int
    dropout: float
    torchvision_top1: float
    torchvision_resize: int
    paper_top1: float


# Width, depth, resolution and dropout: `efficientnet_builder.py`, tensorflow/tpu. Accuracies:
# torchvision's weights (IMAGENET1K_V1) and table 2 of arXiv:1905.11946.
V1_SCALES: Final = {
    "b0": Scale(1.0, 1.0, 224, 0.2, 77.692, 256, 77.1),
    "b1": Scale(1.0, 1.1, 240, 0.2, 78.642, 256, 79.1),
    "b2": Scale(1.1, 1.2, 260, 0.3, 80.608, 288, 80.1),
    "b3": Scale(1.2, 1.4, 300, 0.3, 82.008, 320, 81.6),
    "b4": Scale(1.4, 1.8, 380, 0.4, 83.384, 384, 82.9),
    "b5": Scale(1.6, 2.2, 456, 0.4, 83.444, 456, 83.6),
    "b6": Scale(1.8, 2.6, 528, 0.5, 84.008, 528, 84.0),
    "b7": Scale(2.0, 3.1, 600, 0.5, 84.122, 600, 84.3),
}


def _v1_torch(key: str, scale: Scale) -> ModelSpec:
    # torchvision evaluates B2 at 288 px; the network's own resolution is kept here.
    source = "torchvision IMAGENET1K_V1" + (", at 288 px" if key == "b2" else "")
    return v1(
        f"efficientnet_{key}",
        scale.width,
        scale.depth,
        scale.resolution,
        dropout=scale.dropout,
        dialect=TORCH_LARGE if key in ("b5", "b6", "b7") else TORCH,
        crop=scale.resolution / scale.torchvision_resize,
        published=Published(top1=scale.torchvision_top1, source=source),
    )


def _v1_tensorflow(key: str, scale: Scale) -> ModelSpec:
    return v1(
        f"tf_efficientnet_{key}",
        scale.width,
        scale.depth,
        scale.resolution,
        dropout=scale.dropout,
        dialect=TENSORFLOW,
        crop=scale.resolution / (scale.resolution + 32),
        published=Published(top1=scale.paper_top1, source="arXiv:1905.11946 table 2"),
    )


def _v2_base(
    key: str, width: float, depth: float, resolution: int, dropout: float, top1: float
) -> ModelSpec:
    return v2(
        f"efficientnet_v2_{key}",
        V2_BASE_ROWS,
        Preprocessing(height=resolution, width=resolution, crop=resolution / (resolution + 32)),
        stem=32,
        width=width,
        depth=depth,
        dropout=dropout,
        dialect=TENSORFLOW_V2,
        published=Published(top1=top1, source="google/automl efficientnetv2/README.md"),
    )


def _v2_large(
    key: str, rows: tuple[Row, ...], resolution: int, dropout: float, torch: float, paper: float
) -> tuple[ModelSpec, ModelSpec]:
    """Torchvision's and TensorFlow's form of V2-S, M or L."""
    half = (0.5, 0.5, 0.5)
    stem = rows[0].channels
    square = Preprocessing(height=resolution, width=resolution, crop=1.0)
    ours = Preprocessing(
        height=resolution,
        width=resolution,
        crop=1.0,
        interpolation="bicubic" if key == "l" else "bilinear",
        mean=half if key == "l" else square.mean,
        std=half if key == "l" else square.std,
    )
    theirs = Preprocessing(height=resolution, width=resolution, crop=1.0, mean=half, std=half)
    return (
        v2(
            f"efficientnet_v2_{key}",
            rows,
            ours,
            stem=stem,
            dropout=dropout,
            dialect=TORCH_V2,
            published=Published(top1=torch, source="torchvision IMAGENET1K_V1"),
        ),
        v2(
            f"tf_efficientnet_v2_{key}",
            rows,
            theirs,
            stem=stem,
            dropout=dropout,
            dialect=TENSORFLOW_V2,
            published=Published(top1=paper, source="arXiv:2104.00298 table 7"),
        ),
    )


def variants() -> tuple[ModelSpec, ...]:
    """Every EfficientNet that has a name, smallest first within its family."""
    return (
        *(_v1_torch(key, scale) for key, scale in V1_SCALES.items()),
        *(_v1_tensorflow(key, scale) for key, scale in V1_SCALES.items()),
        lite("efficientnet_lite0", 1.0, 1.0, 224, dropout=0.2, top1=75.1),
        lite("efficientnet_lite1", 1.0, 1.1, 240, dropout=0.2, top1=76.7),
        lite("efficientnet_lite2", 1.1, 1.2, 260, dropout=0.3, top1=77.6),
        lite("efficientnet_lite3", 1.2, 1.4, 280, dropout=0.3, top1=79.8),
        lite("efficientnet_lite4", 1.4, 1.8, 300, dropout=0.3, top1=81.5),
        _v2_base("b0", 1.0, 1.0, 224, 0.2, 78.7),
        _v2_base("b1", 1.0, 1.1, 240, 0.2, 79.8),
        _v2_base("b2", 1.1, 1.2, 260, 0.3, 80.5),
        _v2_base("b3", 1.2, 1.4, 300, 0.3, 82.1),
        *_v2_large("s", V2_S_ROWS, 384, 0.2, 84.228, 83.9),
        *_v2_large("m", V2_M_ROWS, 480, 0.3, 85.112, 85.1),
        *_v2_large("l", V2_L_ROWS, 480, 0.4, 85.808, 85.7),
    )

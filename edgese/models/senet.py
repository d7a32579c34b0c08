"""The SE-ResNet families and their plain twins.

Sources: Hu et al., "Squeeze-and-Excitation Networks", arXiv:1709.01507 (table 1 and appendix);
He et al., "Deep Residual Learning", arXiv:1512.03385; Xie et al., "ResNeXt", arXiv:1611.05431.
"""

from collections.abc import Iterator
from typing import Final

from edgese.records.model import (
    Head,
    ModelSpec,
    Preprocessing,
    Published,
    SqueezeExcite,
    Stage,
    Stem,
    StemPool,
)

GATE: Final = SqueezeExcite(reduction=16)
# timm rounds hidden widths to multiples of 8, which only the narrowest stage of 18 and 34 notices.
GATE_ROUNDED: Final = SqueezeExcite(reduction=16, divisor=8)

PLANES: Final = (64, 128, 256, 512)
DEPTHS: Final = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}
# Single-crop 224 px top-1: SE from table 2 of arXiv:1709.01507 (100 - error), where it has them;
# plain from torchvision's IMAGENET1K_V1 weights.
PAPER: Final = "arXiv:1709.01507 table 2"
TORCHVISION: Final = "torchvision IMAGENET1K_V1"
SE_TOP1: Final = {50: 76.71, 101: 77.62, 152: 78.43}
PLAIN_TOP1: Final = {18: 69.758, 34: 73.314, 50: 76.13, 101: 77.374, 152: 78.312}

BILINEAR: Final = Preprocessing(interpolation="bilinear")
# Mean and standard deviation of the CIFAR-10 training set, per channel.
SMALL: Final = Preprocessing(
    height=32,
    width=32,
    crop=1.0,
    interpolation="bilinear",
    mean=(0.4914, 0.4822, 0.4465),
    std=(0.2470, 0.2435, 0.2616),
)


def residual_stages(
    depths: tuple[int, ...],
    gate: SqueezeExcite | None,
    *,
    bottleneck: bool,
    stride_in_1x1: bool = False,
    active_end: bool = False,
    groups: int = 1,
    base_width: int = 64,
) -> tuple[Stage, ...]:
    """The four stages of an ImageNet ResNet.

    Args:
        base_width: width of one group's 3x3 convolution in a stage of 64 planes (ResNeXt's "4d").
    """
    stages = []
    for index, (planes, depth) in enumerate(zip(PLANES, depths, strict=True)):
        width = planes * base_width // 64 * groups
        stages.append(
            Stage(
                block="bottleneck" if bottleneck else "basic",
                channels=4 * planes if bottleneck else planes,
                depth=depth,
                stride=1 if index == 0 else 2,
                inner=(width, width) if bottleneck else None,
                groups=groups,
                stride_in="1x1" if stride_in_1x1 else "3x3",
                active_end=active_end,
                se=gate,
            )
        )
    return tuple(stages)


def resnet(
    name: str,
    family: str,
    stages: tuple[Stage, ...],
    *,
    published: Published | None,
    pool: StemPool = "max",
) -> ModelSpec:
    """An ImageNet ResNet: 7x7 stem, max pool, four stages, linear classifier."""
    return ModelSpec(
        name=name,
        family=family,
        stem=Stem(channels=(64,), kernel=7, pool=pool),
        stages=stages,
        preprocessing=BILINEAR,
        labels="imagenet-1k",
        published=published,
    )


def senet154(
    name: str, gate: SqueezeExcite | None, pool: StemPool, published: Published | None
) -> ModelSpec:
    """The ILSVRC 2017 winner: 64 groups, half-width 1x1, three-convolution stem, 3x3 shortcuts."""
    stages = tuple(
        Stage(
            block="bottleneck",
            channels=4 * planes,
            depth=depth,
            stride=1 if index == 0 else 2,
            inner=(2 * planes, 4 * planes),
            groups=64,
            shortcut="conv1x1" if index == 0 else "conv3x3",
            se=gate,
        )
        for index, (planes, depth) in enumerate(zip(PLANES, DEPTHS[152], strict=True))
    )
    return ModelSpec(
        name=name,
        family="se_resnet" if gate else "resnet",
        stem=Stem(channels=(64, 64, 128), pool=pool),
        stages=stages,
        head=Head(dropout=0.2),
        preprocessing=BILINEAR,
        labels="imagenet-1k",
        published=published,
    )


def small(layers: int, gate: SqueezeExcite | None) -> ModelSpec:
    """A ResNet for 32 px pictures: 6n + 2 layers of width 16, 32, 64 (arXiv:1512.03385, 4.2).

    Shortcuts that change shape are 1x1 convolutions (option B). The papers' networks do without, so
    their published accuracies are not those of these. The gate's hidden width is at least 4, or the
    first stage's gate would have a single hidden unit.
    """
    depth = (layers - 2) // 6
    return ModelSpec(
        name=f"{'se_' if gate else ''}resnet{layers}_small",
        family="se_resnet_small" if gate else "resnet_small",
        stem=Stem(channels=(16,), stride=1),
        stages=tuple(
            Stage(block="basic", channels=width, depth=depth, stride=stride, se=gate)
            for width, stride in ((16, 1), (32, 2), (64, 2))
        ),
        classes=10,
        preprocessing=SMALL,
        labels=(
            "airplane",
            "automobile",
            "bird",
            "cat",
            "deer",
            "dog",
            "frog",
            "horse",
            "ship",
            "truck",
        ),
    )


def _imagenet(layers: int) -> Iterator[ModelSpec]:
    bottleneck = layers >= 50
    plain = Published(top1=PLAIN_TOP1[layers], source=TORCHVISION)
    paper = Published(top1=SE_TOP1[layers], source=PAPER) if layers in SE_TOP1 else None
    depths = DEPTHS[layers]
    yield resnet(
        f"se_resnet{layers}",
        "se_resnet",
        residual_stages(depths, GATE_ROUNDED, bottleneck=bottleneck),
        published=None,
    )
    yield resnet(
        f"se_resnet{layers}_v1",
        "se_resnet",
        # timm's legacy basic block, and its published weights, have an activation before the gate.
        residual_stages(
            depths,
            GATE,
            bottleneck=bottleneck,
            stride_in_1x1=bottleneck,
            active_end=not bottleneck,
        ),
        pool="max_ceil",
        published=paper,
    )
    yield resnet(
        f"resnet{layers}",
        "resnet",
        residual_stages(depths, None, bottleneck=bottleneck),
        published=plain,
    )
    yield resnet(
        f"resnet{layers}_v1",
        "resnet",
        residual_stages(depths, None, bottleneck=bottleneck, stride_in_1x1=bottleneck),
        pool="max_ceil",
        published=None,
    )


def _resnext(
    layers: int, groups: int, base_width: int, *, se_top1: float | None, plain_top1: float | None
) -> Iterator[ModelSpec]:
    def stages(gate: SqueezeExcite | None) -> tuple[Stage, ...]:
        return residual_stages(
            DEPTHS[layers], gate, bottleneck=True, groups=groups, base_width=base_width
        )

    name = f"resnext{layers}_{groups}x{base_width}d"
    paper = Published(top1=se_top1, source=PAPER) if se_top1 else None
    plain = Published(top1=plain_top1, source=TORCHVISION) if plain_top1 else None
    yield resnet(f"se_{name}", "se_resnet", stages(GATE_ROUNDED), published=None)
    yield resnet(f"se_{name}_v1", "se_resnet", stages(GATE), pool="max_ceil", published=paper)
    yield resnet(name, "resnet", stages(None), published=plain)


def variants() -> tuple[ModelSpec, ...]:
    """Every SE-ResNet that has a name, and its twin without gates.

    A name with ``_v1`` is the form of the paper's own (Caffe) implementation: a max pool that
    rounds up and, in a ResNet's bottleneck but not in a ResNeXt's or SENet-154's, the stride in the
    1x1 convolution; without it, the form of torchvision and of today's timm.
    """
    return (
        *(spec for layers in DEPTHS for spec in _imagenet(layers)),
        *_resnext(50, 32, 4, se_top1=78.90, plain_top1=77.618),
        *_resnext(101, 32, 4, se_top1=79.30, plain_top1=None),
        # torchvision has an accuracy of the plain twin, with pictures resized to 232 px.
        *_resnext(101, 64, 4, se_top1=None, plain_top1=None),
        senet154("senet154", GATE, "max", None),
        senet154(
            "senet154_v1",
            GATE,
            "max_ceil",
            Published(top1=81.32, source="arXiv:1709.01507 (SENet-154 at 224 px)"),
        ),
        senet154("senet154_plain", None, "max", None),
        *(small(layers, gate) for layers in (20, 32, 56, 110) for gate in (_SMALL_GATE, None)),
    )


_SMALL_GATE: Final = SqueezeExcite(reduction=16, divisor=4)

"""What a spec's rows expand to, convolution by convolution; torch-free.

The builder makes modules of these shapes and the cost counts them, so neither can say something
that the other does not.
"""

from collections.abc import Iterator

from edgese.records.base import Record
from edgese.records.model import ModelSpec, SqueezeExcite, Stage


class ConvShape(Record, frozen=True):
    """A convolution with its BatchNorm; ``active`` says whether the activation follows."""

    name: str
    channels_in: int
    channels_out: int
    kernel: int = 1
    stride: int = 1
    groups: int = 1
    active: bool = True


class GateShape(Record, frozen=True):
    """A squeeze-and-excitation gate over ``channels``."""

    channels: int
    hidden: int
    config: SqueezeExcite


class BlockShape(Record, frozen=True):
    """One block of a stage, with the numbers that its position decides.

    Attributes:
        name: position, as in the module names: "stages.2.1".
        branch: the residual branch in order; its gate where the placement puts it.
        residual: whether a shortcut is added to the branch.
        shortcut: the convolution of a shortcut that changes shape.
        shortcut_gate: the gate of the "identity" placement.
        active: whether the activation follows the addition, as in a ResNet.
        gate_after: the gate of the "post" placement, last of all.
        stochastic_depth: rate at which the branch is dropped in training.
    """

    name: str
    branch: tuple[ConvShape | GateShape, ...]
    residual: bool
    shortcut: ConvShape | None
    shortcut_gate: GateShape | None
    active: bool
    gate_after: GateShape | None
    stochastic_depth: float


def stem(spec: ModelSpec) -> Iterator[ConvShape]:
    """The stem's convolutions; the pool that may follow is not among them."""
    channels = 3
    for index, width in enumerate(spec.stem.channels):
        yield ConvShape(
            name=f"stem.conv{index}",
            channels_in=channels,
            channels_out=width,
            kernel=spec.stem.kernel,
            stride=spec.stem.stride if index == 0 else 1,
        )
        channels = width


def blocks(spec: ModelSpec) -> Iterator[tuple[BlockShape, ...]]:
    """The blocks of each stage, first to last."""
    total = sum(stage.depth for stage in spec.stages)
    channels = spec.stem.channels[-1]
    position = 0
    for index, stage in enumerate(spec.stages):
        row = []
        for repeat in range(stage.depth):
            name = f"stages.{index}.{repeat}"
            stride = stage.stride if repeat == 0 else 1
            rate = spec.stochastic_depth * position / total
            row.append(_block(name, stage, channels, stride, rate))
            channels = stage.channels
            position += 1
        yield tuple(row)


def head(spec: ModelSpec) -> ConvShape | None:
    """The 1x1 convolution before the pool, where there is one."""
    if spec.head.channels == 0:
        return None
    channels = spec.stages[-1].channels
    return ConvShape(name="head.conv", channels_in=channels, channels_out=spec.head.channels)


def features(spec: ModelSpec) -> int:
    """Width that enters the classifier."""
    return spec.head.channels or spec.stages[-1].channels


def round_channels(channels: float, *, lowest: float = 0.9) -> int:
    """The nearest multiple of 8 that is at least ``lowest`` of ``channels``."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < lowest * channels else rounded


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Pixels before and after, as TensorFlow's "same" places them."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def _block(name: str, stage: Stage, channels: int, stride: int, rate: float) -> BlockShape:
    resnet = stage.block in ("basic", "bottleneck")
    same_shape = stride == 1 and channels == stage.channels
    residual = resnet or same_shape
    branch = tuple(_branch(stage, channels, stride))
    placement = stage.se.placement if stage.se else None
    return BlockShape(
        name=name,
        branch=tuple(_with_gate(stage, channels, branch)),
        residual=residual,
        shortcut=_shortcut(stage, channels, stride) if resnet and not same_shape else None,
        shortcut_gate=_gate(stage, channels, stage.channels)
        if placement == "identity" and residual
        else None,
        active=resnet,
        gate_after=_gate(stage, channels, stage.channels) if placement == "post" else None,
        stochastic_depth=rate if residual else 0.0,
    )


def _branch(stage: Stage, channels: int, stride: int) -> Iterator[ConvShape]:
    """The convolutions of a block, in order; the one named "spatial" sees the neighbourhood."""
    out, kernel = stage.channels, stage.kernel
    expanded = round_channels(channels * stage.expansion)
    match stage.block:
        case "mbconv":
            if stage.expansion > 1:
                yield ConvShape(name="expand", channels_in=channels, channels_out=expanded)
            else:
                expanded = channels
            yield ConvShape(
                name="spatial",
                channels_in=expanded,
                channels_out=expanded,
                kernel=kernel,
                stride=stride,
                groups=expanded,
            )
            yield ConvShape(name="project", channels_in=expanded, channels_out=out, active=False)
        case "fused_mbconv":
            single = stage.expansion == 1
            yield ConvShape(
                name="spatial",
                channels_in=channels,
                channels_out=out if single else expanded,
                kernel=kernel,
                stride=stride,
            )
            if not single:
                yield ConvShape(
                    name="project", channels_in=expanded, channels_out=out, active=False
                )
        case "basic":
            yield ConvShape(
                name="spatial",
                channels_in=channels,
                channels_out=out,
                kernel=kernel,
                stride=stride,
            )
            yield ConvShape(
                name="second",
                channels_in=out,
                channels_out=out,
                kernel=kernel,
                active=stage.active_end,
            )
        case "bottleneck":
            assert stage.inner is not None  # noqa: S101  # a bottleneck stage has them
            first, second = stage.inner
            early = stage.stride_in == "1x1"
            yield ConvShape(
                name="reduce",
                channels_in=channels,
                channels_out=first,
                stride=stride if early else 1,
            )
            yield ConvShape(
                name="spatial",
                channels_in=first,
                channels_out=second,
                kernel=kernel,
                stride=1 if early else stride,
                groups=stage.groups,
            )
            yield ConvShape(
                name="expand", channels_in=second, channels_out=out, active=stage.active_end
            )


def _with_gate(
    stage: Stage, channels: int, branch: tuple[ConvShape, ...]
) -> Iterator[ConvShape | GateShape]:
    placement = stage.se.placement if stage.se else None
    if placement == "pre":
        yield from _present(_gate(stage, channels, channels))
    for conv in branch:
        yield conv
        if placement == "spatial" and conv.name == "spatial":
            yield from _present(_gate(stage, channels, conv.channels_out))
    if placement == "standard":
        yield from _present(_gate(stage, channels, stage.channels))


def _present(gate: GateShape | None) -> Iterator[GateShape]:
    if gate is not None:
        yield gate


def _gate(stage: Stage, channels: int, gated: int) -> GateShape | None:
    if stage.se is None:
        return None
    reference = channels if stage.se.reference == "block" else gated
    width = reference / stage.se.reduction
    divisor = stage.se.divisor
    if divisor == 1:
        hidden = max(1, int(width))
    else:
        hidden = max(divisor, int(width + divisor / 2) // divisor * divisor)
    return GateShape(channels=gated, hidden=hidden, config=stage.se)


def _shortcut(stage: Stage, channels: int, stride: int) -> ConvShape:
    return ConvShape(
        name="shortcut",
        channels_in=channels,
        channels_out=stage.channels,
        kernel=3 if stage.shortcut == "conv3x3" else 1,
        stride=stride,
        active=False,
    )

"""A network as a flat list of operators on named tensors; torch-free.

The list stands in the order in which the built network computes, with BatchNorm folded into the
convolution before it, so liveness and cost can be read off it.
"""

from collections.abc import Sequence
from typing import Final, Literal

from edgese.errors import ConfigError
from edgese.models import blocks
from edgese.models.blocks import BlockShape, ConvShape, GateShape
from edgese.records.base import Record
from edgese.records.model import Activation, Gate, ModelSpec

Kind = Literal[
    "pad",
    "conv",
    "linear",
    "max_pool",
    "global_avg_pool",
    "global_max_pool",
    "add",
    "mul",
    "sigmoid",
    "hard_sigmoid",
    "tanh",
    "relu",
    "relu6",
    "hard_swish",
]

# SiLU is no operator of its own: it is built, exported and counted as a sigmoid and a product.
_ACTIVATION_KINDS: Final[dict[Activation, Kind]] = {
    "hard_swish": "hard_swish",
    "relu": "relu",
    "relu6": "relu6",
}
_GATE_KINDS: Final[dict[Gate, Kind]] = {
    "sigmoid": "sigmoid",
    "hard_sigmoid": "hard_sigmoid",
    "relu": "relu",
    "tanh": "tanh",
}


class Feature(Record, frozen=True):
    """A tensor of one picture: channels, height, width."""

    name: str
    channels: int
    height: int = 1
    width: int = 1

    @property
    def elements(self) -> int:
        """How many numbers it holds."""
        return self.channels * self.height * self.width


class Operator(Record, frozen=True):
    """One step of the computation.

    Attributes:
        name: of the module that it comes from, with what it does there where that is several steps.
        stage: "stem", "stages.0" ... or "head".
        weights: elements of its weight, without the bias.
        parameters: of the module, bias and BatchNorm's scale and shift included.
        in_gate: whether it belongs to a squeeze-and-excitation gate, scaling included.
        scales: whether it is the product that a gate ends in; there is one for each gate.
    """

    name: str
    kind: Kind
    stage: str
    inputs: tuple[Feature, ...]
    output: Feature
    kernel: int = 1
    stride: int = 1
    groups: int = 1
    weights: int = 0
    parameters: int = 0
    in_gate: bool = False
    scales: bool = False

    @property
    def macs(self) -> int:
        """Multiply-adds: every weight is used once for each position of the output."""
        return self.weights * self.output.height * self.output.width

    @property
    def paper_flops(self) -> int:
        """The count of arXiv:1709.01507; `edgese.records.model.ModelCost` defines it."""
        if self.kind in ("global_avg_pool", "global_max_pool"):
            return self.inputs[0].elements
        return self.output.elements if self.scales else self.macs


def operators(spec: ModelSpec, height: int, width: int) -> tuple[Operator, ...]:
    """Everything that one picture of ``height`` x ``width`` runs through, in order.

    Raises:
        ConfigError: a resolution below 1, or one that leaves nothing after the stem's pool.
    """
    if height < 1 or width < 1:
        raise ConfigError(
            f"A resolution of {height}x{width} px was asked for.",
            hint="Give a height and a width of at least 1 px.",
        )
    tape = _Tape(spec)
    x = _stem(tape, Feature(name="input", channels=3, height=height, width=width))
    for index, row in enumerate(blocks.blocks(spec)):
        tape.stage = f"stages.{index}"
        for shape in row:
            x = _block(tape, shape, x)
    _head(tape, x)
    return tuple(tape.operators)


def live_bytes(steps: Sequence[Operator], bytes_per_element: int = 4) -> tuple[int, ...]:
    """Bytes that are alive while each operator runs: its inputs, its output, and what waits.

    A tensor is alive from the operator that makes it (the network's input: from the start) to the
    last one that reads it.
    """
    last_use = {feature.name: at for at, step in enumerate(steps) for feature in step.inputs}
    alive = {steps[0].inputs[0].name: steps[0].inputs[0].elements}
    peaks = []
    for at, step in enumerate(steps):
        alive[step.output.name] = step.output.elements
        peaks.append(sum(alive.values()) * bytes_per_element)
        for feature in step.inputs:
            if last_use[feature.name] == at:
                alive.pop(feature.name, None)
    return tuple(peaks)


class _Tape:
    """The operators so far; each push makes the tensor that the next one reads."""

    def __init__(self, spec: ModelSpec) -> None:
        self.spec = spec
        self.stage = "stem"
        self.operators: list[Operator] = []

    def push(
        self,
        kind: Kind,
        name: str,
        inputs: tuple[Feature, ...],
        *,
        channels: int | None = None,
        size: tuple[int, int] | None = None,
        kernel: int = 1,
        stride: int = 1,
        groups: int = 1,
        weights: int = 0,
        parameters: int = 0,
        in_gate: bool = False,
        scales: bool = False,
    ) -> Feature:
        """Appends an operator; its output has the first input's shape unless told otherwise."""
        first = inputs[0]
        rows, columns = size or (first.height, first.width)
        output = Feature(name=name, channels=channels or first.channels, height=rows, width=columns)
        self.operators.append(
            Operator(
                name=name,
                kind=kind,
                stage=self.stage,
                inputs=inputs,
                output=output,
                kernel=kernel,
                stride=stride,
                groups=groups,
                weights=weights,
                parameters=parameters,
                in_gate=in_gate,
                scales=scales,
            )
        )
        return output


def _stem(tape: _Tape, x: Feature) -> Feature:
    for conv in blocks.stem(tape.spec):
        x = _conv_norm(tape, conv, conv.name, x)
    pool = tape.spec.stem.pool
    if pool == "none":
        return x
    size = _pooled(x.height, ceil=pool == "max_ceil"), _pooled(x.width, ceil=pool == "max_ceil")
    if min(size) < 1:
        raise ConfigError(
            f"The stem of {tape.spec.name} leaves {x.height}x{x.width} px before its pool, which "
            "needs at least 2x2.",
            hint="Give a larger resolution.",
        )
    return tape.push("max_pool", "stem.pool", (x,), size=size, kernel=3, stride=2)


def _pooled(size: int, *, ceil: bool) -> int:
    """Size after the 3x3 pool of stride 2: unpadded and rounded up, or padded and rounded down."""
    return -(-(size - 3) // 2) + 1 if ceil else (size - 1) // 2 + 1


def _block(tape: _Tape, shape: BlockShape, x: Feature) -> Feature:
    y = x
    for part in shape.branch:
        if isinstance(part, ConvShape):
            y = _conv_norm(tape, part, f"{shape.name}.branch.{part.name}", y)
        else:
            y = _gate(tape, part, f"{shape.name}.branch.se", y)
    if shape.residual:
        shortcut = x
        if shape.shortcut:
            shortcut = _conv_norm(tape, shape.shortcut, f"{shape.name}.shortcut", x)
        if shape.shortcut_gate:
            shortcut = _gate(tape, shape.shortcut_gate, f"{shape.name}.shortcut_se", shortcut)
        y = tape.push("add", f"{shape.name}.add", (y, shortcut))
    if shape.active:
        y = _activation(tape, tape.spec.activation, f"{shape.name}.act", y)
    if shape.gate_after:
        y = _gate(tape, shape.gate_after, f"{shape.name}.se_after", y)
    return y


def _head(tape: _Tape, x: Feature) -> None:
    tape.stage = "head"
    spec = tape.spec
    if (conv := blocks.head(spec)) is not None:
        x = _conv_norm(tape, conv, conv.name, x)
    x = tape.push("global_avg_pool", "pool", (x,), size=(1, 1))
    if spec.classes:
        weights = x.channels * spec.classes
        tape.push(
            "linear",
            "classifier",
            (x,),
            channels=spec.classes,
            weights=weights,
            parameters=weights + spec.classes,
        )


def _conv_norm(tape: _Tape, conv: ConvShape, name: str, x: Feature) -> Feature:
    size = -(-x.height // conv.stride), -(-x.width // conv.stride)
    if tape.spec.padding == "same" and conv.stride > 1:
        padded = tuple(
            before + sum(blocks.same_padding(before, conv.kernel, conv.stride))
            for before in (x.height, x.width)
        )
        if padded != (x.height, x.width):
            x = tape.push("pad", f"{name}.pad", (x,), size=(padded[0], padded[1]))
    else:
        size = (
            _convolved(x.height, conv.kernel, conv.stride),
            _convolved(x.width, conv.kernel, conv.stride),
        )
    weights = conv.channels_out * (conv.channels_in // conv.groups) * conv.kernel**2
    y = tape.push(
        "conv",
        f"{name}.conv",
        (x,),
        channels=conv.channels_out,
        size=size,
        kernel=conv.kernel,
        stride=conv.stride,
        groups=conv.groups,
        weights=weights,
        parameters=weights + 2 * conv.channels_out,
    )
    return _activation(tape, tape.spec.activation, f"{name}.act", y) if conv.active else y


def _convolved(size: int, kernel: int, stride: int) -> int:
    """Size after a convolution with ``kernel // 2`` pixels of padding on both sides."""
    return (size + 2 * (kernel // 2) - kernel) // stride + 1


def _gate(tape: _Tape, gate: GateShape, name: str, x: Feature) -> Feature:
    y = x
    if gate.config.squeeze != "none":
        pool: Kind = "global_avg_pool" if gate.config.squeeze == "avg" else "global_max_pool"
        y = tape.push(pool, f"{name}.squeeze", (x,), size=(1, 1), in_gate=True)
    y = _pointwise(tape, gate, f"{name}.reduce", y, gate.hidden)
    y = _activation(tape, gate.config.activation, f"{name}.act", y, in_gate=True)
    y = _pointwise(tape, gate, f"{name}.expand", y, gate.channels)
    y = tape.push(_GATE_KINDS[gate.config.gate], f"{name}.gate", (y,), in_gate=True)
    return tape.push("mul", f"{name}.scale", (x, y), in_gate=True, scales=True)


def _pointwise(tape: _Tape, gate: GateShape, name: str, x: Feature, channels: int) -> Feature:
    weights = x.channels * channels
    return tape.push(
        "conv",
        name,
        (x,),
        channels=channels,
        weights=weights,
        parameters=weights + (channels if gate.config.bias else 0),
        in_gate=True,
    )


def _activation(
    tape: _Tape, activation: Activation, name: str, x: Feature, *, in_gate: bool = False
) -> Feature:
    if activation == "silu":
        y = tape.push("sigmoid", f"{name}.sigmoid", (x,), in_gate=in_gate)
        return tape.push("mul", f"{name}.mul", (x, y), in_gate=in_gate)
    return tape.push(_ACTIVATION_KINDS[activation], name, (x,), in_gate=in_gate)

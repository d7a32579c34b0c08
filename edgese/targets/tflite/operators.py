"""How each operator of a quantized program is written as operators of TFLite's.

Each writer takes the lowering so far, the program's node, and the grid of its output where it is an
integer operator. It returns the value that it made, which lies on that grid, or on another where
TFLite has no choice, or is one of floats.

Source: https://ai.google.dev/edge/litert/models/quantization_spec for what TFLite demands of int8,
and tensorflow/lite/delegates/xnnpack/README.md for what XNNPACK takes.
"""

from collections.abc import Callable
from functools import partial
from math import prod
from typing import TYPE_CHECKING, Final

from edgese.program.nodes import arguments, shape_of, two
from edgese.records.artifact import Grid
from edgese.targets.tflite.graph import TO_CHANNELS_LAST, Value
from edgese.targets.tflite.lowering import Lowering, refused
from edgese.targets.tflite.windows import average_pool, convolution, linear, max_pool

if TYPE_CHECKING:
    from torch import fx

# TFLite's sigmoid in int8 gives these codes and no others.
_SIGMOID_GRID: Final = Grid(scale=1 / 256, zero_point=-128)
_HEIGHT_AND_WIDTH: Final = (1, 2)
_RELU6: Final = (0.0, 6.0)
_RELU_N1_TO_1: Final = (-1.0, 1.0)


def _pad(lowering: Lowering, node: "fx.Node", grid: Grid | None) -> Value:
    _, amounts, number = arguments(node)
    x = lowering.moved(node, grid)
    if number != 0:
        raise refused(node, f"it pads with {number}, and not with 0")
    if min(amounts) < 0:
        raise refused(node, "it cuts off")
    # From the last axis on, two by two.
    rest = [(0, 0)] * (len(x.shape) - len(amounts) // 2)
    last = list(zip(amounts[::2], amounts[1::2], strict=True))[::-1]
    return lowering.padded(x, [*rest, *last])


def _mean(lowering: Lowering, node: "fx.Node", grid: Grid | None) -> Value:
    source, axes, *rest = arguments(node)
    if str(node.target) == "aten.adaptive_avg_pool2d.default":
        if two(axes) != (1, 1):
            raise refused(node, f"it averages to {two(axes)}, and not to one value a channel")
    elif len(shape_of(source)) != 4 or sorted(axis % 4 for axis in axes or ()) != [2, 3] or rest[1]:
        raise refused(node, "it does not average over the height and width of pictures")
    x = lowering.read(source, codes=grid is not None, channels_last=True)
    graph = lowering.graph
    result = graph.value((*x.shape[:2], 1, 1), grid, channels_last=True)
    inputs = [x.number, graph.integers(_HEIGHT_AND_WIDTH)]
    graph.operator("MEAN", inputs, result.number, keepDims=True)
    return _reshaped(lowering, result, shape_of(node))


def _reshape(lowering: Lowering, node: "fx.Node", grid: Grid | None) -> Value:
    return _reshaped(lowering, lowering.moved(node, grid), shape_of(node))


def _reshaped(lowering: Lowering, x: Value, shape: tuple[int, ...]) -> Value:
    if shape == x.shape:
        return x
    if x.channels_last and prod(x.shape[2:]) > 1 and x.shape[1] > 1:
        x = lowering.graph.stored_as(x, channels_last=False)
    result = lowering.graph.value(shape, x.grid)
    inputs = [x.number, lowering.graph.integers(shape)]
    lowering.graph.operator("RESHAPE", inputs, result.number, newShape=list(shape))
    return result


def _permute(lowering: Lowering, node: "fx.Node", grid: Grid | None) -> Value:
    x = lowering.graph.stored_as(lowering.moved(node, grid), channels_last=False)
    result = lowering.graph.value(shape_of(node), x.grid)
    axes = [axis % len(x.shape) for axis in arguments(node)[1]]
    lowering.graph.operator("TRANSPOSE", [x.number, lowering.graph.integers(axes)], result.number)
    return result


def _join(lowering: Lowering, node: "fx.Node", grid: Grid | None) -> Value:
    sources, axis = arguments(node)
    graph = lowering.graph
    last = all(lowering.is_channels_last(source) for source in sources)
    parts = [lowering.read(s, codes=grid is not None, channels_last=last) for s in sources]
    # TFLite joins codes of one grid alone.
    numbers = [graph.on_grid(part, grid).number for part in parts]
    result = graph.value(shape_of(node), grid, channels_last=last)
    axis %= len(result.shape)
    stored_axis = TO_CHANNELS_LAST.index(axis) if last else axis
    graph.operator("CONCATENATION", numbers, result.number, axis=stored_axis)
    return result


def _both(lowering: Lowering, node: "fx.Node", grid: Grid | None, *, kind: str) -> Value:
    """An operator of two tensors, or of one and a number."""
    *sources, factor = (*arguments(node), 1)[:3]
    if factor != 1:
        raise refused(node, f"it multiplies what it adds by {factor}")
    if any(isinstance(source, int | float) for source in sources):
        grid = None
    computed = [lowering.values[source] for source in sources if source in lowering.values]
    last = any(x.channels_last for x in computed) and all(len(x.shape) == 4 for x in computed)
    left, right = (lowering.read(s, codes=grid is not None, channels_last=last) for s in sources)
    result = lowering.graph.value(shape_of(node), grid, channels_last=last)
    lowering.graph.operator(kind, [left.number, right.number], result.number)
    return result


def _sigmoid(lowering: Lowering, node: "fx.Node", grid: Grid | None) -> Value:
    x = lowering.moved(node, grid)
    return _each(lowering, x, "LOGISTIC", None if grid is None else _SIGMOID_GRID)


def _in_floats(lowering: Lowering, node: "fx.Node", _: Grid | None, *, kind: str) -> Value:
    return _each(lowering, lowering.moved(node, None), kind, None)


def _clamp(lowering: Lowering, node: "fx.Node", _: Grid | None) -> Value:
    import numpy as np

    low, high = arguments(node)[1:]
    x = lowering.moved(node, None)
    if (low, high) == _RELU6:
        return _each(lowering, x, "RELU6", None)
    if (low, high) == _RELU_N1_TO_1:
        return _each(lowering, x, "RELU_N1_TO_1", None)
    for kind, bound in (("MAXIMUM", low), ("MINIMUM", high)):
        if bound is not None:
            limit = lowering.graph.constant(np.array(bound, np.float32))
            x = _each(lowering, x, kind, None, limit.number)
    return x


def _each(lowering: Lowering, x: Value, kind: str, grid: Grid | None, *number: int) -> Value:
    """Writes an operator that makes one number from one, and perhaps from a constant."""
    result = lowering.graph.value(x.shape, grid, channels_last=x.channels_last)
    lowering.graph.operator(kind, [x.number, *number], result.number)
    return result


Writer = Callable[[Lowering, "fx.Node", Grid | None], Value]
OPERATORS: Final[dict[str, Writer]] = {
    "aten.conv2d.default": convolution,
    "aten.linear.default": linear,
    "aten.add.Tensor": partial(_both, kind="ADD"),
    "aten.mul.Tensor": partial(_both, kind="MUL"),
    "aten.sigmoid.default": _sigmoid,
    "aten.max_pool2d.default": max_pool,
    "aten.avg_pool2d.default": average_pool,
    "aten.adaptive_avg_pool2d.default": _mean,
    "aten.mean.dim": _mean,
    "aten.constant_pad_nd.default": _pad,
    "aten.cat.default": _join,
    "aten.permute.default": _permute,
    **dict.fromkeys(
        (
            "aten.flatten.using_ints",
            "aten.view.default",
            "aten.reshape.default",
            "aten.squeeze.dim",
            "aten.squeeze.dims",
            "aten.unsqueeze.default",
        ),
        _reshape,
    ),
    # Only where a recipe keeps something in floats.
    "aten.relu.default": partial(_in_floats, kind="RELU"),
    "aten.relu6.default": partial(_in_floats, kind="RELU6"),
    "aten.hardtanh.default": _clamp,
    "aten.clamp.default": _clamp,
    "aten.hardswish.default": partial(_in_floats, kind="HARD_SWISH"),
    "aten.tanh.default": partial(_in_floats, kind="TANH"),
}

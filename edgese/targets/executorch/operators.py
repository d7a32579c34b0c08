"""How each operator of a program is written as nodes of XNNPACK's.

Each writer takes the lowering so far, the program's node, and the grid of its output where it is an
integer operator. It returns the value that it made, which lies on that grid, or on another where
XNNPACK has no choice, or is one of floats.

Source: executorch 1.4.1, backends/xnnpack/operators.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import prod
from typing import TYPE_CHECKING, Final

from edgese.errors import ConversionError
from edgese.program.forms import pair_grid
from edgese.program.nodes import Constants, arguments, shape_of, two
from edgese.records.artifact import Grid
from edgese.targets.executorch.graph import NO_VALUE, TO_CHANNELS_LAST, Graph, Value

if TYPE_CHECKING:
    from torch import fx

# XNNPACK's sigmoid in int8 gives these codes and no others.
_SIGMOID_GRID: Final = Grid(scale=1 / 256, zero_point=-128)
# XNNPACK's nodes concatenate no more at once.
_MOST_JOINED: Final = 5
# XNNPACK's kernels scale their sums by less.
_MOST_STEPS: Final = 256
_KEEP_DIMS: Final = 0x40
_INT32: Final = 2**31


@dataclass
class Lowering:
    """A graph that grows, and what stands in it for the program's nodes.

    Attributes:
        constants: what the nodes give that do not depend on the input.
        values: of the others; of one that dequantizes, the codes.
    """

    constants: Constants
    graph: Graph = field(default_factory=Graph)
    values: "dict[fx.Node, Value]" = field(default_factory=dict)

    def read(self, source: "fx.Node | float", *, codes: bool, channels_last: bool) -> Value:
        """What an operator reads, as codes or as floats, stored in the order that it needs."""
        import torch

        if not isinstance(source, torch.fx.Node):
            return self.graph.constant(torch.tensor([float(source)]), None)
        if source in self.values:
            value = self.values[source]
            value = value if codes else self.graph.on_grid(value, None)
            return self.graph.stored_as(value, channels_last=channels_last)
        tensor = self.constants[source.all_input_nodes[0] if codes else source]
        tensor = tensor.reshape(tensor.shape or (1,))
        if channels_last:
            tensor = tensor.reshape(*[1] * (4 - tensor.ndim), *tensor.shape)
            tensor = tensor.permute(TO_CHANNELS_LAST)
        return self.graph.constant(tensor, pair_grid(source) if codes else None)


def refused(node: "fx.Node", reason: str) -> ConversionError:
    """The error for an operator that cannot be written."""
    return ConversionError(
        f"ExecuTorch cannot take {node.target} as {node.name} has it: {reason}.",
        hint="Write it as other operators that mean the same.",
    )


def _convolution(lowering: Lowering, node: "fx.Node", grid: Grid | None) -> Value:
    source, weight, _, stride, padding, dilation, groups = arguments(node)
    x = lowering.read(source, codes=grid is not None, channels_last=True)
    channels_out, channels_in, *kernel = shape_of(weight)
    depthwise = channels_in == 1 and groups > 1
    order, axis = ((1, 2, 3, 0), 3) if depthwise else (TO_CHANNELS_LAST, 0)
    filter_id, bias_id = _weights(lowering, node, x, grid, order, axis)
    return _windowed(
        lowering,
        node,
        "DepthwiseConv2d" if depthwise else "Conv2d",
        grid,
        **_padded(two(padding)),
        **_sides("kernel", kernel),
        **_sides("subsampling", two(stride)),
        **_sides("dilation", two(dilation)),
        **_sides("adjustment", (0, 0)),
        group_input_channels=channels_in,
        group_output_channels=channels_out // groups,
        groups=groups,
        input1_id=x.number,
        filter_id=filter_id,
        bias_id=bias_id,
    )


def _linear(lowering: Lowering, node: "fx.Node", grid: Grid | None) -> Value:
    source = arguments(node)[0]
    x = lowering.read(source, codes=grid is not None, channels_last=False)
    filter_id, bias_id = _weights(lowering, node, x, grid, (0, 1), 0)
    result = lowering.graph.value(shape_of(node), grid)
    lowering.graph.node(
        "FullyConnected",
        input1_id=x.number,
        filter_id=filter_id,
        bias_id=bias_id,
        output_id=result.number,
    )
    return result


def _weights(
    lowering: Lowering,
    node: "fx.Node",
    x: Value,
    grid: Grid | None,
    order: Sequence[int],
    axis: int,
) -> tuple[int, int]:
    """Writes the weight and the bias of a convolution or linear layer.

    Args:
        order: in which the weight's axes are stored.
        axis: of the output channels, as stored.

    Returns:
        The numbers of both.
    """
    import torch

    _, weight, bias, *_ = arguments(node)
    graph = lowering.graph
    if grid is None or x.grid is None:
        floats = [lowering.constants[weight].permute(*order)]
        floats += [] if bias is None else [lowering.constants[bias]]
        numbers = [graph.constant(tensor, None).number for tensor in floats]
        return numbers[0], numbers[1] if bias is not None else NO_VALUE
    codes, scales = (lowering.constants[held] for held in weight.args[:2])
    if float(scales.max()) * x.grid.scale / grid.scale >= _MOST_STEPS:
        raise refused(node, f"its sums are coarser than {_MOST_STEPS} steps of its output")
    number = graph.channel_codes(codes.permute(*order), scales, axis)
    if bias is None:
        return number, NO_VALUE
    steps = scales.double() * x.grid.scale
    whole = (lowering.constants[bias].double() / steps).round().clamp(-_INT32, _INT32 - 1)
    return number, graph.channel_codes(whole.to(torch.int32), steps.float(), 0)


def _average_pool(lowering: Lowering, node: "fx.Node", grid: Grid | None) -> Value:
    """A depthwise convolution with equal weights: XNNPACK has no average pool in int8."""
    import torch

    source, kernel, stride, padding, ceil, counts_padding, divisor = arguments(node)
    if ceil or (any(two(padding)) and not counts_padding):
        raise refused(node, "windows at the rim are averaged over fewer values than the others")
    x = lowering.read(source, codes=grid is not None, channels_last=True)
    channels, sides = x.shape[1], two(kernel)
    ones = torch.ones(1, *sides, channels, dtype=torch.int8)
    share = torch.full((channels,), 1 / (divisor or prod(sides)))
    graph = lowering.graph
    if grid is None:
        filter_id = graph.constant(ones * share, None).number
    else:
        filter_id = graph.channel_codes(ones, share, 3)
    return _windowed(
        lowering,
        node,
        "DepthwiseConv2d",
        grid,
        **_padded(two(padding)),
        **_sides("kernel", sides),
        **_sides("subsampling", two(stride or kernel)),
        **_sides("dilation", (1, 1)),
        **_sides("adjustment", (0, 0)),
        group_input_channels=1,
        group_output_channels=1,
        groups=channels,
        input1_id=x.number,
        filter_id=filter_id,
        bias_id=NO_VALUE,
    )


def _max_pool(lowering: Lowering, node: "fx.Node", grid: Grid | None) -> Value:
    source, kernel, stride, padding, dilation, ceil = arguments(node)
    x = lowering.read(source, codes=grid is not None, channels_last=True)
    size, step, rim, spread = (two(v) for v in (kernel, stride or kernel, padding, dilation))
    if size == step == (1, 1):
        return x
    if step[0] > size[0] or step[1] > size[1]:
        raise refused(node, f"its stride {step} is more than its window {size}")
    sides = _padded(rim)
    if ceil:
        # As far as the last window reaches; what is added is never the largest.
        sides["padding_bottom"], sides["padding_right"] = (
            max(
                rim[i],
                (shape_of(node)[2 + i] - 1) * step[i]
                + spread[i] * (size[i] - 1)
                + 1
                - rim[i]
                - x.shape[2 + i],
            )
            for i in range(2)
        )
    return _windowed(
        lowering,
        node,
        "MaxPooling2d",
        x.grid,
        **sides,
        **_sides("pooling", size),
        **_sides("stride", step),
        **_sides("dilation", spread),
        flags=_KEEP_DIMS,
        input_id=x.number,
    )


def _windowed(
    lowering: Lowering, node: "fx.Node", kind: str, grid: Grid | None, **fields: object
) -> Value:
    """Writes a node that makes pictures from pictures."""
    result = lowering.graph.value(shape_of(node), grid, channels_last=True)
    lowering.graph.node(kind, output_id=result.number, **fields)
    return result


def _mean(lowering: Lowering, node: "fx.Node", grid: Grid | None) -> Value:
    source, axes, *rest = arguments(node)
    if str(node.target) == "aten.adaptive_avg_pool2d.default":
        if two(axes) != (1, 1):
            raise refused(node, f"it averages to {two(axes)}, and not to one value a channel")
    elif len(shape_of(source)) != 4 or sorted(axis % 4 for axis in axes or ()) != [2, 3] or rest[1]:
        raise refused(node, "it does not average over the height and width of pictures")
    x = lowering.read(source, codes=grid is not None, channels_last=True)
    result = lowering.graph.value((*x.shape[:2], 1, 1), grid, channels_last=True)
    lowering.graph.node(
        "GlobalAvgPooling2d", input_id=x.number, output_id=result.number, flags=_KEEP_DIMS
    )
    return _reshaped(lowering, result, shape_of(node))


def _reshape(lowering: Lowering, node: "fx.Node", grid: Grid | None) -> Value:
    return _reshaped(lowering, _moved(lowering, node, grid), shape_of(node))


def _reshaped(lowering: Lowering, x: Value, shape: tuple[int, ...]) -> Value:
    if shape == x.shape:
        return x
    if x.channels_last and prod(x.shape[2:]) > 1 and x.shape[1] > 1:
        x = lowering.graph.stored_as(x, channels_last=False)
    return lowering.graph.reshaped(x, shape)


def _permute(lowering: Lowering, node: "fx.Node", grid: Grid | None) -> Value:
    x = lowering.graph.stored_as(_moved(lowering, node, grid), channels_last=False)
    result = lowering.graph.value(shape_of(node), x.grid)
    axes = [axis % len(x.shape) for axis in arguments(node)[1]]
    lowering.graph.node(
        "StaticTranspose",
        num_dims=len(axes),
        perm=axes,
        input_id=x.number,
        output_id=result.number,
    )
    return result


def _pad(lowering: Lowering, node: "fx.Node", grid: Grid | None) -> Value:
    _, amounts, number = arguments(node)
    x = _moved(lowering, node, grid)
    if min(amounts) < 0:
        raise refused(node, "it cuts off")
    # From the last axis on, two by two.
    rest = [(0, 0)] * (len(x.shape) - len(amounts) // 2)
    pairs = [*rest, *list(zip(amounts[::2], amounts[1::2], strict=True))[::-1]]
    if x.channels_last:
        pairs = [pairs[axis] for axis in TO_CHANNELS_LAST]
    result = lowering.graph.value(shape_of(node), x.grid, channels_last=x.channels_last)
    lowering.graph.node(
        "StaticConstantPad",
        pre_paddings=[before for before, _ in pairs],
        post_paddings=[after for _, after in pairs],
        padding_value=float(number),
        input_id=x.number,
        output_id=result.number,
    )
    return result


def _join(lowering: Lowering, node: "fx.Node", grid: Grid | None) -> Value:
    sources, axis = arguments(node)
    graph = lowering.graph
    last = all(_is_channels_last(lowering, source) for source in sources)
    parts = [lowering.read(s, codes=grid is not None, channels_last=last) for s in sources]
    parts = [graph.on_grid(part, grid) for part in parts]
    axis %= len(shape_of(node))
    stored_axis = TO_CHANNELS_LAST.index(axis) if last else axis
    joined, waiting = parts[0], parts[1:]
    while waiting:
        now, waiting = [joined, *waiting[: _MOST_JOINED - 1]], waiting[_MOST_JOINED - 1 :]
        length = sum(part.shape[axis] for part in now)
        shape = (*joined.shape[:axis], length, *joined.shape[axis + 1 :])
        joined = graph.value(shape, grid, channels_last=last)
        numbers = [part.number for part in now] + [NO_VALUE] * (_MOST_JOINED - len(now))
        graph.node(
            f"Concatenate{len(now)}",
            axis=stored_axis,
            output_id=joined.number,
            **{f"input{place}_id": number for place, number in enumerate(numbers, start=1)},
        )
    return joined


def _both(lowering: Lowering, node: "fx.Node", grid: Grid | None, *, kind: str) -> Value:
    """An operator of two tensors, or of one and a number."""
    *sources, factor = (*arguments(node), 1)[:3]
    if factor != 1:
        raise refused(node, f"it multiplies what it adds by {factor}")
    if any(isinstance(source, int | float) for source in sources):
        grid = None
    computed = [lowering.values[source] for source in sources if source in lowering.values]
    last = any(x.channels_last for x in computed) and all(len(x.shape) == 4 for x in computed)
    read = [lowering.read(s, codes=grid is not None, channels_last=last) for s in sources]
    return lowering.graph.each(
        kind, read, lowering.graph.value(shape_of(node), grid, channels_last=last)
    )


def _sigmoid(lowering: Lowering, node: "fx.Node", grid: Grid | None) -> Value:
    x = _moved(lowering, node, grid)
    return _each(lowering, x, "Sigmoid", None if grid is None else _SIGMOID_GRID)


def _in_floats(lowering: Lowering, node: "fx.Node", _: Grid | None, *, kind: str) -> Value:
    return _each(lowering, _moved(lowering, node, None), kind, None)


def _clamp(
    lowering: Lowering,
    node: "fx.Node",
    _: Grid | None,
    *,
    bounds: tuple[float | str, float | str] | None = None,
) -> Value:
    if bounds is None:
        low, high = arguments(node)[1:]
        bounds = "-inf" if low is None else float(low), "+inf" if high is None else float(high)
    return _each(lowering, _moved(lowering, node, None), "Clamp", None, bounds)


def _each(
    lowering: Lowering,
    x: Value,
    kind: str,
    grid: Grid | None,
    bounds: tuple[float | str, float | str] | None = None,
) -> Value:
    result = lowering.graph.value(x.shape, grid, channels_last=x.channels_last)
    return lowering.graph.each(kind, [x], result, bounds)


def _moved(lowering: Lowering, node: "fx.Node", grid: Grid | None) -> Value:
    """What a node reads, for an operator that does not care how it is stored."""
    source = node.all_input_nodes[0]
    last = _is_channels_last(lowering, source)
    return lowering.read(source, codes=grid is not None, channels_last=last)


def _is_channels_last(lowering: Lowering, source: object) -> bool:
    return source in lowering.values and lowering.values[source].channels_last


def _sides(name: str, sizes: Sequence[int]) -> dict[str, int]:
    return {f"{name}_height": sizes[0], f"{name}_width": sizes[1]}


def _padded(sizes: Sequence[int]) -> dict[str, int]:
    height, width = sizes
    return {
        "padding_top": height,
        "padding_right": width,
        "padding_bottom": height,
        "padding_left": width,
    }


Writer = Callable[[Lowering, "fx.Node", Grid | None], Value]
OPERATORS: Final[dict[str, Writer]] = {
    "aten.conv2d.default": _convolution,
    "aten.linear.default": _linear,
    "aten.add.Tensor": partial(_both, kind="Add"),
    "aten.mul.Tensor": partial(_both, kind="Multiply"),
    "aten.sigmoid.default": _sigmoid,
    "aten.max_pool2d.default": _max_pool,
    "aten.avg_pool2d.default": _average_pool,
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
    "aten.relu.default": partial(_clamp, bounds=(0.0, "+inf")),
    "aten.relu6.default": partial(_clamp, bounds=(0.0, 6.0)),
    "aten.hardtanh.default": _clamp,
    "aten.clamp.default": _clamp,
    "aten.hardswish.default": partial(_in_floats, kind="Hardswish"),
    "aten.tanh.default": partial(_in_floats, kind="Tanh"),
}

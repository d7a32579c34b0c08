"""How convolutions, linear layers and pools are written as operators of TFLite's.

`edgese.targets.tflite.operators` tells what a writer takes and returns.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Final

from edgese.program.nodes import DEQUANTIZE_CHANNELS, arguments, is_never_negative, shape_of, two
from edgese.records.artifact import Grid
from edgese.targets.tflite.graph import Value
from edgese.targets.tflite.lowering import Lowering, array, refused

if TYPE_CHECKING:
    from torch import fx

_LOWEST: Final = -128
_INT32: Final = 2**31
# The schema's numbers for the two kinds of padding.
_SAME, _VALID = 0, 1


def convolution(lowering: Lowering, node: "fx.Node", grid: Grid | None) -> Value:
    """CONV_2D, in groups too, or DEPTHWISE_CONV_2D."""
    source, weight, _, stride, padding, dilation, groups = arguments(node)
    x = lowering.read(source, codes=grid is not None, channels_last=True)
    channels_out, channels_in, *kernel = shape_of(weight)
    depthwise = channels_in == 1 and groups > 1
    order, axis = ((1, 2, 3, 0), 3) if depthwise else ((0, 2, 3, 1), 0)
    numbers = _weights(lowering, node, x, grid, order, axis)
    options = {"depthMultiplier": channels_out // groups} if depthwise else {}
    return _windowed(
        lowering,
        node,
        "DEPTHWISE_CONV_2D" if depthwise else "CONV_2D",
        (x, grid),
        _Window(kernel, two(stride), two(padding), two(dilation)),
        numbers,
        **_dilations(two(dilation)),
        **options,
    )


def linear(lowering: Lowering, node: "fx.Node", grid: Grid | None) -> Value:
    """FULLY_CONNECTED."""
    source = arguments(node)[0]
    if len(shape_of(source)) != 2:
        raise refused(node, f"its input has {len(shape_of(source))} dimensions, not 2")
    x = lowering.read(source, codes=grid is not None, channels_last=False)
    numbers = _weights(lowering, node, x, grid, (0, 1), 0)
    result = lowering.graph.value(shape_of(node), grid)
    lowering.graph.operator("FULLY_CONNECTED", [x.number, *numbers], result.number)
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
    graph, constants = lowering.graph, lowering.constants
    offsets = torch.zeros(shape_of(weight)[0]) if bias is None else constants[bias]
    if str(weight.target) != DEQUANTIZE_CHANNELS:
        floats = graph.constant(array(constants[weight].permute(*order)))
        return floats.number, graph.constant(array(offsets)).number
    codes, scales = (constants[held] for held in weight.args[:2])
    number = graph.channel_codes(array(codes.permute(*order)), array(scales), axis)
    if grid is None or x.grid is None:
        floats = graph.value([codes.shape[place] for place in order], None)
        graph.operator("DEQUANTIZE", [number], floats.number)
        return floats.number, graph.constant(array(offsets)).number
    steps = scales.double() * x.grid.scale
    whole = (offsets.double() / steps).round().clamp(-_INT32, _INT32 - 1)
    return number, graph.channel_codes(array(whole.int()), array(steps.float()), 0)


def average_pool(lowering: Lowering, node: "fx.Node", grid: Grid | None) -> Value:
    """A depthwise convolution with equal weights: XNNPACK has no average pool in int8."""
    import torch

    source, kernel, stride, padding, _, counts_padding, divisor = arguments(node)
    x = lowering.read(source, codes=grid is not None, channels_last=True)
    channels, sides = x.shape[1], two(kernel)
    window = _Window(sides, two(stride or kernel), two(padding))
    rims = window.rims(x.shape[2:], shape_of(node)[2:])
    beyond = any(after > pad for (_, after), pad in zip(rims, window.padding, strict=True))
    if beyond or (any(window.padding) and not counts_padding):
        raise refused(node, "windows at the rim are averaged over fewer values than the others")
    ones = torch.ones(1, *sides, channels, dtype=torch.int8)
    share = torch.full((channels,), 1 / (divisor or prod(sides)))
    graph = lowering.graph
    if x.grid is None:
        weight = graph.constant(array(ones * share)).number
        bias = graph.constant(array(torch.zeros(channels))).number
    else:
        weight = graph.channel_codes(array(ones), array(share), 3)
        nothing = torch.zeros(channels, dtype=torch.int32)
        bias = graph.channel_codes(array(nothing), array(share * x.grid.scale), 0)
    return _windowed(
        lowering,
        node,
        "DEPTHWISE_CONV_2D",
        (x, grid),
        window,
        (weight, bias),
        **_dilations((1, 1)),
        depthMultiplier=1,
    )


def max_pool(lowering: Lowering, node: "fx.Node", grid: Grid | None) -> Value:
    """MAX_POOL_2D; a window of one value is none."""
    source, kernel, stride, padding, dilation, _ = arguments(node)
    if two(dilation) != (1, 1):
        raise refused(node, f"its window is spread by {two(dilation)}")
    x = lowering.read(source, codes=grid is not None, channels_last=True)
    window = _Window(two(kernel), two(stride or kernel), two(padding))
    if window.size == window.stride == (1, 1):
        return x
    height, width = window.size
    return _windowed(
        lowering,
        node,
        "MAX_POOL_2D",
        (x, x.grid),
        window,
        filterHeight=height,
        filterWidth=width,
    )


@dataclass(frozen=True)
class _Window:
    """What slides over a picture; each pair is of height and width."""

    size: Sequence[int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int] = (1, 1)

    def rims(self, given: Sequence[int], made: Sequence[int]) -> list[tuple[int, int]]:
        """What must be added before and after, so that the last window ends with the picture.

        Args:
            given, made: sizes of the input and the output.
        """
        return [
            (before, max((n - 1) * stride + dilation * (size - 1) + 1 - before - length, 0))
            for size, stride, before, dilation, length, n in zip(
                self.size, self.stride, self.padding, self.dilation, given, made, strict=True
            )
        ]

    def is_same(
        self, rims: Sequence[tuple[int, int]], given: Sequence[int], made: Sequence[int]
    ) -> bool:
        """Whether TFLite's "same" padding means these rims: even, or one more after."""
        return all(
            n == -(-length // stride) and after - before in (0, 1)
            for (before, after), stride, length, n in zip(
                rims, self.stride, given, made, strict=True
            )
        )


def _windowed(
    lowering: Lowering,
    node: "fx.Node",
    kind: str,
    ends: tuple[Value, Grid | None],
    window: _Window,
    weights: Sequence[int] = (),
    **options: object,
) -> Value:
    """Writes an operator that makes pictures from pictures, with its padding.

    Args:
        ends: what it reads, and the grid of what it gives.
    """
    x, grid = ends
    result = lowering.graph.value(shape_of(node), grid, channels_last=True)
    given, made = x.shape[2:], result.shape[2:]
    rims = window.rims(given, made)
    padding = _VALID
    if any(any(rim) for rim in rims):
        if window.is_same(rims, given, made):
            padding = _SAME
        elif kind == "MAX_POOL_2D":
            x = _padded_below(lowering, node.all_input_nodes[0], x, rims)
        else:
            x = lowering.padded(x, [(0, 0), (0, 0), *rims])
    lowering.graph.operator(
        kind,
        [x.number, *weights],
        result.number,
        padding=padding,
        strideH=window.stride[0],
        strideW=window.stride[1],
        **options,
    )
    return result


def _padded_below(
    lowering: Lowering, source: "fx.Node", x: Value, rims: Sequence[tuple[int, int]]
) -> Value:
    """Pads so that no maximum is changed.

    XNNPACK pads with 0 alone, which does where nothing lies below it, as behind a ReLU; for other
    values the operator is there, but stays outside the delegate.
    """
    import numpy as np

    pairs = [(0, 0), (0, 0), *rims]
    if x.grid is not None and x.grid.zero_point == _LOWEST:
        return lowering.padded(x, pairs)
    if x.grid is None and is_never_negative(source):
        return lowering.padded(x, pairs)
    least = (
        lowering.graph.constant(np.array(np.finfo(np.float32).min, np.float32))
        if x.grid is None
        else lowering.graph.constant(np.array(_LOWEST, np.int8), x.grid)
    )
    return lowering.padded(x, pairs, "PADV2", least.number)


def _dilations(sizes: tuple[int, int]) -> dict[str, int]:
    return {"dilationHFactor": sizes[0], "dilationWFactor": sizes[1]}

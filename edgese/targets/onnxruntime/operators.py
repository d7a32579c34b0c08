"""How each operator of a program is written as nodes of ONNX.

Each writer takes the lowering so far and the program's node, and returns the tensor that it made:
codes where it only moves codes, else floats, which the program's next node may put on a grid.

Source: https://onnx.ai/onnx/operators/. What makes ONNX Runtime fast is from its 1.31,
onnxruntime/core/mlas/lib/convsym.cpp and onnxruntime/core/providers/cpu/math/element_wise_ops.h.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import prod
from typing import TYPE_CHECKING, Any, Final

from edgese.errors import ConversionError
from edgese.program.forms import INPUT, held_tensors, input_grid, pair_grid
from edgese.program.nodes import (
    DEQUANTIZE,
    DEQUANTIZE_CHANNELS,
    QUANTIZE,
    Constants,
    arguments,
    is_random,
    shape_of,
    two,
)
from edgese.targets.onnxruntime.graph import Graph, Value

if TYPE_CHECKING:
    from torch import fx
    from torch.export import ExportedProgram

# The direct integer convolution takes input channels in fours.
_TOGETHER: Final = 4
# From this many pixels on, repeating a gate along a row costs less than starting anew at each one.
_MANY_PIXELS: Final = 512
_INT32: Final = 2**31
_CODES: Final = 2**8


@dataclass
class Lowering:
    """A graph that grows, and what stands in it for the program's nodes.

    Attributes:
        constants: what the nodes give that do not depend on the input.
        values: of the nodes that do; of one that dequantizes, the codes.
        padded: of tensors that were padded with zeros at the rims of their pictures, by name: what
            they were before, and the amounts (top, left, bottom, right).
    """

    constants: Constants
    graph: Graph
    values: "dict[fx.Node, Value]" = field(default_factory=dict)
    padded: dict[str, tuple[Value, list[int]]] = field(default_factory=dict)

    def read(self, source: "fx.Node") -> Value:
        """What an operator reads, in the shape that the program has it."""
        if source not in self.values:
            return self._read_constant(source)
        value, shape = self.values[source], shape_of(source)
        if value.shape != shape:
            value = _reshaped(self.graph, value, shape, source.name)
            self.values[source] = value
        return value

    def floats(self, source: "fx.Node | float") -> str:
        """The name of what an operator reads as floats; a number becomes a tensor."""
        import numpy as np

        if isinstance(source, int | float):
            return self.graph.constant(np.array(source, np.float32), "number")
        return self.graph.floats(self.read(source))

    def _read_constant(self, source: "fx.Node") -> Value:
        grid = pair_grid(source)
        if grid is not None and str(source.target) == DEQUANTIZE:
            quantize = source.all_input_nodes[0]
            return self.graph.codes(self.constants[quantize].numpy(), grid, quantize.name)
        tensor = self.constants[source]
        stored = self.graph.constant(tensor.float().contiguous().numpy(), source.name)
        return Value(stored, tuple(tensor.shape))


def lowered(program: "ExportedProgram", *, unsigned: bool, io_codes: bool, result: str) -> Graph:
    """The graph of a program.

    An operator is written between floats, its input's codes turned into them in front of it and
    its output turned into codes behind it; what only moves codes is written on the codes.

    Args:
        unsigned: codes of activations are uint8, else int8.
        io_codes: the caller gives and gets codes; else floats, converted at either end.
        result: what the output is called.

    Raises:
        ConversionError: an operator that has no form in ONNX here, or codes were asked for and
            the first or the last operator computes in floats.
    """
    graph = Graph(unsigned, names={INPUT, result})
    lowering = Lowering(Constants(held_tensors(program)), graph)
    values = lowering.values
    (given,) = program.graph_signature.user_inputs
    for node in program.graph.nodes:
        if node.name == given:
            values[node] = Value(INPUT, shape_of(node), input_grid(program) if io_codes else None)
            graph.input(values[node])
            _check_codes(values[node], "input", io_codes=io_codes)
        elif node.op == "output":
            ((last,),) = node.args
            value = lowering.read(last)
            if not io_codes:
                value = Value(graph.floats(value), value.shape)
            _check_codes(value, "output", io_codes=io_codes)
            graph.output(value, result)
        elif any(source in values for source in node.all_input_nodes):
            if str(node.target) not in OPERATORS:
                raise refused(node, "it is not known here")
            values[node] = OPERATORS[str(node.target)](lowering, node)
    return graph


def _check_codes(value: Value, which: str, *, io_codes: bool) -> None:
    if io_codes and value.grid is None:
        raise ConversionError(
            f"The program's {which} is on no grid: the recipe keeps what is next to it in float.",
            hint="Convert with --io float, or keep other modules in float.",
        )


def refused(node: "fx.Node", reason: str) -> ConversionError:
    """The error for an operator that cannot be written; names the module that it came from."""
    stack = node.meta.get("nn_module_stack") or {}
    path = str(next(reversed(stack.values()))[0]) if stack else ""
    where = f" of {path}" if path else f", {node.name},"
    return ConversionError(
        f"The operator {node.target}{where} cannot be written as ONNX: {reason}.",
        hint="Write it as other operators that mean the same.",
    )


def _convolution(lowering: Lowering, node: "fx.Node") -> Value:
    source, weight, bias, stride, padding, dilation, groups = arguments(node)
    x, shape = lowering.read(source), list(shape_of(weight))
    height, width = two(padding)
    pads = [height, width, height, width]
    if x.name in lowering.padded:
        x, more = lowering.padded[x.name]
        pads = [own + added for own, added in zip(pads, more, strict=True)]
    if _is_integer(x, weight) and groups == 1 and prod(shape[2:]) > 1 and shape[1] < _TOGETHER:
        # The colours of a picture, which would be copied into the rows of a matrix product.
        missing = _TOGETHER - shape[1]
        x = _with_channels(lowering.graph, x, missing, f"{node.name}_channels")
        shape[1] += missing
    return lowering.graph.node(
        "Conv",
        [lowering.graph.floats(x), *_weights(lowering, node, x, weight, bias, shape)],
        shape_of(node),
        node.name,
        kernel_shape=shape[2:],
        strides=two(stride),
        pads=pads,
        dilations=two(dilation),
        group=groups,
    )


def _linear(lowering: Lowering, node: "fx.Node") -> Value:
    source, weight, bias = arguments(node)
    if len(shape_of(source)) != 2:
        raise refused(node, f"its input has {len(shape_of(source))} dimensions, and not 2")
    batch, features = shape_of(source)
    x = lowering.values[source]
    if batch == 1 and _is_integer(x, weight) and x.shape == (1, features, 1, 1):
        # A convolution over one pixel leaves the features where the one before has put them.
        outputs = shape_of(weight)[0]
        parameters = _weights(lowering, node, x, weight, bias, [outputs, features, 1, 1])
        return lowering.graph.node(
            "Conv",
            [lowering.graph.floats(x), *parameters],
            (1, outputs, 1, 1),
            node.name,
            kernel_shape=[1, 1],
        )
    x = lowering.read(source)
    return lowering.graph.node(
        "Gemm",
        [
            lowering.graph.floats(x),
            *_weights(lowering, node, x, weight, bias, list(shape_of(weight))),
        ],
        shape_of(node),
        node.name,
        transB=1,
    )


def _is_integer(x: Value, weight: "fx.Node") -> bool:
    """Whether a layer computes in integers; one that is kept in float may read codes as well."""
    return x.grid is not None and str(weight.target) == DEQUANTIZE_CHANNELS


def _weights(
    lowering: Lowering,
    node: "fx.Node",
    x: Value,
    weight: "fx.Node",
    bias: "fx.Node | None",
    shape: Sequence[int],
) -> list[str]:
    """Writes the weight and the bias of a convolution or linear layer.

    Args:
        shape: of the weight; input channels beyond the program's have weights of zero.

    Returns:
        The names of the floats of both, or of the weight alone where there is no bias.
    """
    import numpy as np

    graph, name = lowering.graph, f"{node.name}_weight"
    if str(weight.target) != DEQUANTIZE_CHANNELS:
        return [lowering.floats(source) for source in (weight, bias) if source is not None]
    codes = lowering.constants[weight.all_input_nodes[0]].numpy()
    codes = codes.reshape(*codes.shape[:2], *shape[2:])
    missing = shape[1] - codes.shape[1]
    codes = np.pad(codes, ((0, 0), (0, missing), *((0, 0),) * (codes.ndim - 2)))
    scales = lowering.constants[weight.all_input_nodes[1]].float().numpy()
    codes = np.ascontiguousarray(codes)
    if x.grid is None:
        names = [graph.widened(codes, scales, name)]
        return names if bias is None else [*names, lowering.floats(bias)]
    names = [graph.channel_codes(codes, scales, name)]
    if bias is None:
        return names
    # As the kernels have it: the accumulator's step is a product of 32-bit floats.
    steps = np.float32(x.grid.scale) * scales
    whole = np.rint(lowering.constants[bias].double().numpy() / steps.astype(np.float64))
    # The accumulator starts with it, and wraps around.
    products = _CODES * np.abs(codes.astype(np.int64)).reshape(len(codes), -1).sum(axis=1)
    room = _INT32 - 1 - products
    limited = np.clip(whole, -room, room).astype(np.int32)
    return [*names, graph.channel_codes(limited, steps, f"{node.name}_bias")]


def check_float(program: "ExportedProgram") -> None:
    """Raise where torch's exporter would write something else than a program computes.

    Raises:
        ConversionError: it has an operator with an argument that the exporter leaves out.
    """
    for node in program.graph.nodes:
        if str(node.target) == "aten.avg_pool2d.default":
            _check_divisor(node)


def _check_divisor(node: "fx.Node") -> None:
    if (divisor := arguments(node)[-1]) is not None:
        raise refused(node, f"it divides by {divisor}, whatever the window holds")


def _average_pool(lowering: Lowering, node: "fx.Node") -> Value:
    source, kernel, stride, padding, ceil, counts_padding, _ = arguments(node)
    _check_divisor(node)
    x, rim = lowering.read(source), two(padding)
    size, step = two(kernel), two(stride or kernel)
    pads = _window_pads(x, node, size, step, rim, (1, 1)) if ceil else [*rim, *rim]
    if any(rim) and counts_padding and pads != [*rim, *rim]:
        # The zeros at the rims count, and what the last windows hold beyond them does not.
        x = _padded(lowering.graph, x, [0, 0, *rim, 0, 0, *rim], f"{node.name}_padded")
        pads = [after - before for after, before in zip(pads, [*rim, *rim], strict=True)]
        counts_padding = False
    return lowering.graph.node(
        "AveragePool",
        [lowering.graph.floats(x)],
        shape_of(node),
        node.name,
        kernel_shape=size,
        strides=step,
        pads=pads,
        count_include_pad=int(counts_padding and pads == [*rim, *rim]),
    )


def _max_pool(lowering: Lowering, node: "fx.Node") -> Value:
    source, kernel, stride, padding, dilation, _ = arguments(node)
    x, rim, spread = lowering.read(source), two(padding), two(dilation)
    size, step = two(kernel), two(stride or kernel)
    if size == step == (1, 1):
        return x
    return lowering.graph.moved(
        "MaxPool",
        x,
        [],
        shape_of(node),
        node.name,
        kernel_shape=size,
        strides=step,
        dilations=spread,
        pads=_window_pads(x, node, size, step, rim, spread),
    )


def _window_pads(
    x: Value,
    node: "fx.Node",
    size: Sequence[int],
    step: Sequence[int],
    rim: Sequence[int],
    spread: Sequence[int],
) -> list[int]:
    """Pads that reach exactly as far as the last windows do.

    Runtimes differ in which windows ``ceil_mode`` adds; with these pads it is not needed.

    Returns:
        (top, left, bottom, right).
    """
    reach = [
        (count - 1) * s + d * (k - 1) + 1
        for count, s, d, k in zip(shape_of(node)[2:], step, spread, size, strict=True)
    ]
    ends = [max(r - p - length, 0) for r, p, length in zip(reach, rim, x.shape[2:], strict=True)]
    return [*rim, *ends]


def _mean(lowering: Lowering, node: "fx.Node") -> Value:
    source, axes, keep, dtype = arguments(node)
    x = lowering.read(source)
    if dtype is not None:
        raise refused(node, f"it changes the type to {dtype}")
    everywhere = axes or range(len(x.shape))
    dims = sorted(axis % len(x.shape) for axis in everywhere)
    if len(x.shape) == 4 and dims == [2, 3]:
        return _global_average(lowering, node, x)
    return lowering.graph.node(
        "ReduceMean",
        [lowering.graph.floats(x)],
        shape_of(node),
        node.name,
        axes=dims,
        keepdims=int(keep),
    )


def _adaptive_average(lowering: Lowering, node: "fx.Node") -> Value:
    source, _ = arguments(node)
    x, sides = lowering.read(source), shape_of(node)[2:]
    if sides == (1, 1):
        return _global_average(lowering, node, x)
    window = [whole // part for whole, part in zip(x.shape[2:], sides, strict=True)]
    if any(whole % part for whole, part in zip(x.shape[2:], sides, strict=True)):
        raise refused(node, f"windows of {x.shape[2:]} for {sides} are not all of one size")
    return lowering.graph.node(
        "AveragePool",
        [lowering.graph.floats(x)],
        shape_of(node),
        node.name,
        kernel_shape=window,
        strides=window,
    )


def _global_average(lowering: Lowering, node: "fx.Node", x: Value) -> Value:
    shape = (*x.shape[:2], 1, 1)
    return lowering.graph.node("GlobalAveragePool", [lowering.graph.floats(x)], shape, node.name)


def _reshape(lowering: Lowering, node: "fx.Node") -> Value:
    """Nothing: whoever reads it in another shape than it lies there in has it reshaped."""
    return lowering.values[node.all_input_nodes[0]]


def _reshaped(graph: Graph, x: Value, shape: tuple[int, ...], name: str) -> Value:
    import numpy as np

    wanted = graph.constant(np.array(shape, np.int64), "shape")
    return graph.moved("Reshape", x, [wanted], shape, f"{name}_reshaped")


def _permute(lowering: Lowering, node: "fx.Node") -> Value:
    source, axes = arguments(node)
    x = lowering.read(source)
    order = [axis % len(x.shape) for axis in axes]
    return lowering.graph.moved("Transpose", x, [], shape_of(node), node.name, perm=order)


def _pad(lowering: Lowering, node: "fx.Node") -> Value:
    source, amounts, *rest = arguments(node)
    mode, number = rest if len(rest) == 2 else ("constant", rest[0])
    if mode != "constant":
        raise refused(node, f"it pads with {mode} values")
    x = lowering.read(source)
    # From the last axis on, two by two.
    untouched = [0] * (len(x.shape) - len(amounts) // 2)
    before, after = ([*untouched, *amounts[side::2][::-1]] for side in (0, 1))
    result = _padded(lowering.graph, x, [*before, *after], node.name, number or 0.0)
    if not number and len(x.shape) == 4 and len(amounts) == 4 and min(amounts) >= 0:
        lowering.padded[result.name] = x, [*before[2:], *after[2:]]
    return result


def _padded(
    graph: Graph, x: Value, amounts: Sequence[int], name: str, number: float = 0.0
) -> Value:
    """Pads codes with the code of 0, or floats with a number.

    Args:
        amounts: before each axis, then behind each axis.
    """
    import numpy as np

    if number and x.grid:
        x = Value(graph.floats(x), x.shape)
    if x.grid:
        stored = graph.grid(x.grid)
        fill = graph.constant(np.array(stored.zero_point, stored.dtype), "zero_point")
    else:
        fill = graph.constant(np.array(number, np.float32), "number")
    rank = len(x.shape)
    shape = [x.shape[i] + amounts[i] + amounts[rank + i] for i in range(rank)]
    pads = graph.constant(np.array(amounts, np.int64), "pads")
    return graph.node("Pad", [x.name, pads, fill], shape, name, x.grid)


def _with_channels(graph: Graph, x: Value, count: int, name: str) -> Value:
    """Codes with more channels behind their own, all of them zero.

    A Pad would do, but it has no integer form between floats: see `Graph.moved`.
    """
    import numpy as np

    assert x.grid is not None  # noqa: S101  # held before
    batch, channels, *sides = x.shape
    zeros = np.full((batch, count, *sides), x.grid.zero_point, np.int8)
    more = graph.codes(zeros, x.grid, f"{name}_zeros")
    shape = (batch, channels + count, *sides)
    made = graph.node("Concat", [graph.floats(x), graph.floats(more)], shape, name, axis=1)
    return graph.on_grid(made, x.grid, f"{name}_codes")


def _join(lowering: Lowering, node: "fx.Node") -> Value:
    sources, axis = arguments(node)
    graph = lowering.graph
    parts = [lowering.read(_before_joining(source, node)) for source in sources]
    return graph.node(
        "Concat",
        [graph.floats(part) for part in parts],
        shape_of(node),
        node.name,
        axis=axis % len(shape_of(node)),
    )


def _before_joining(source: "fx.Node", node: "fx.Node") -> "fx.Node":
    """The tensor on the grid of its own, where it goes onto that of the whole just before.

    An integer concatenation does that itself.
    """
    grid = pair_grid(source)
    if grid is None or {pair_grid(reader) for reader in node.users} != {grid}:
        return source
    own = source.all_input_nodes[0].all_input_nodes[0]
    return own if str(own.target) == DEQUANTIZE else source


def _both(lowering: Lowering, node: "fx.Node", *, operator: str) -> Value:
    """An operator of two tensors, or of one and a number."""
    *sources, factor = (*arguments(node), 1)[:3]
    if factor != 1:
        raise refused(node, f"it multiplies what it adds by {factor}")
    names = [lowering.floats(source) for source in sources]
    if operator == "Mul":
        names = [
            _along_rows(lowering, node, source) or name
            for source, name in zip(sources, names, strict=True)
        ]
    return lowering.graph.node(operator, names, shape_of(node), node.name)


def _along_rows(lowering: Lowering, node: "fx.Node", source: "fx.Node | float") -> str:
    """A gate's factors repeated for each pixel of a row; "" for what is no gate of large pictures.

    ONNX Runtime has channels last and starts its loop over them anew at each pixel; with a whole
    row of factors it starts at each row. Codes of int8 are for phones, whose NNAPI takes no Tile:
    it would take the network in pieces.
    """
    import numpy as np

    shape = shape_of(node)
    if not lowering.graph.unsigned:
        return ""
    if source not in lowering.values or len(shape) != 4 or prod(shape[2:]) < _MANY_PIXELS:
        return ""
    gate = lowering.read(source)
    if gate.grid is None or gate.shape != (*shape[:2], 1, 1):
        return ""
    times = lowering.graph.constant(np.array([1, 1, 1, shape[3]], np.int64), "repeats")
    row = lowering.graph.moved("Tile", gate, [times], (*shape[:2], 1, shape[3]), f"{node.name}_row")
    return lowering.graph.floats(row)


def _each(
    lowering: Lowering,
    node: "fx.Node",
    *,
    operator: str,
    **attributes: Any,  # noqa: ANN401  # as ONNX has them
) -> Value:
    """An operator that makes one number from one."""
    name = lowering.floats(node.all_input_nodes[0])
    return lowering.graph.node(operator, [name], shape_of(node), node.name, **attributes)


def _gated(
    lowering: Lowering,
    node: "fx.Node",
    *,
    gate: str,
    **attributes: Any,  # noqa: ANN401  # as ONNX has them
) -> Value:
    """``x * gate(x)``."""
    name, shape = lowering.floats(node.all_input_nodes[0]), shape_of(node)
    factor = lowering.graph.node(gate, [name], shape, f"{node.name}_gate", **attributes)
    return lowering.graph.node("Mul", [name, factor.name], shape, node.name)


def _clamp(
    lowering: Lowering, node: "fx.Node", *, bounds: tuple[float, float] | None = None
) -> Value:
    low, high = bounds or arguments(node)[1:]
    name = lowering.floats(node.all_input_nodes[0])
    ends = ["" if end is None else lowering.floats(float(end)) for end in (low, high)]
    return lowering.graph.node("Clip", [name, *ends], shape_of(node), node.name)


def _same(lowering: Lowering, node: "fx.Node") -> Value:
    return lowering.values[node.all_input_nodes[0]]


def _dropout(lowering: Lowering, node: "fx.Node") -> Value:
    if is_random(node):
        raise refused(node, "it draws random numbers")
    return _same(lowering, node)


def _quantize(lowering: Lowering, node: "fx.Node") -> Value:
    source, grid = node.all_input_nodes[0], pair_grid(node)
    assert grid is not None, node  # noqa: S101  # its operator says so
    return lowering.graph.on_grid(lowering.values[source], grid, node.name)


_HARD: Final[dict[str, Any]] = {"alpha": 1 / 6, "beta": 0.5}

OPERATORS: Final[Mapping[str, Callable[[Lowering, "fx.Node"], Value]]] = {
    QUANTIZE: _quantize,
    DEQUANTIZE: _same,
    "aten.conv2d.default": _convolution,
    "aten.linear.default": _linear,
    "aten.add.Tensor": partial(_both, operator="Add"),
    "aten.mul.Tensor": partial(_both, operator="Mul"),
    "aten.sigmoid.default": partial(_each, operator="Sigmoid"),
    "aten.tanh.default": partial(_each, operator="Tanh"),
    "aten.relu.default": partial(_each, operator="Relu"),
    "aten.hardsigmoid.default": partial(_each, operator="HardSigmoid", **_HARD),
    "aten.hardswish.default": partial(_gated, gate="HardSigmoid", **_HARD),
    "aten.silu.default": partial(_gated, gate="Sigmoid"),
    "aten.relu6.default": partial(_clamp, bounds=(0.0, 6.0)),
    "aten.hardtanh.default": _clamp,
    "aten.clamp.default": _clamp,
    "aten.max_pool2d.default": _max_pool,
    "aten.avg_pool2d.default": _average_pool,
    "aten.adaptive_avg_pool2d.default": _adaptive_average,
    "aten.mean.dim": _mean,
    "aten.cat.default": _join,
    "aten.constant_pad_nd.default": _pad,
    "aten.pad.default": _pad,
    "aten.permute.default": _permute,
    "aten.flatten.using_ints": _reshape,
    "aten.view.default": _reshape,
    "aten.reshape.default": _reshape,
    "aten.squeeze.dim": _reshape,
    "aten.squeeze.dims": _reshape,
    "aten.unsqueeze.default": _reshape,
    "aten.clone.default": _same,
    "aten.contiguous.default": _same,
    "aten.dropout.default": _dropout,
}

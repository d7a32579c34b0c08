"""Carries a plan out: the canonical module with quantize and dequantize nodes, as a program.

The result is unfolded: weights are floats behind their quantize nodes, which is what litert-torch
takes; their values lie on the grid already, so that whoever folds them finds the same codes.
"""

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np
import torch
import torch.ao.quantization.fx._decomposed  # registers the operators
from torch import Tensor, fx

from edgese.program.canonical import set_tensor, tensor_of, tidy
from edgese.program.qparams import HIGH, LOW, WEIGHT_HIGH
from edgese.quantization.layout import ROLES, Role
from edgese.quantization.plan import Plan
from edgese.records.artifact import Grid

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch.export import ExportedProgram

_BIAS_HIGH: Final = 2**31 - 1


def simulated_module(module: fx.GraphModule, plan: Plan) -> fx.GraphModule:
    """What `quantized_module` computes, with one operator for each pair: faster to run."""
    quantized = quantized_module(module, plan)
    ops = torch.ops.quantized_decomposed
    pairs = quantized.graph.find_nodes(op="call_function", target=ops.dequantize_per_tensor.default)
    for pair in pairs:
        value, scale, zero_point, low, high, _ = argument(pair).args
        with quantized.graph.inserting_before(pair):
            fused = quantized.graph.call_function(
                torch.fake_quantize_per_tensor_affine, (value, scale, zero_point, low, high)
            )
        pair.replace_all_uses_with(fused)
    tidy(quantized)
    # The weights' codes do not change: made once, not with every picture.
    for node in quantized.graph.find_nodes(
        op="call_function", target=ops.dequantize_per_channel.default
    ):
        node.replace_all_uses_with(argument(argument(node)))
    tidy(quantized)
    return quantized


def quantized_module(module: fx.GraphModule, plan: Plan) -> fx.GraphModule:
    """A copy of a canonical module with a grid behind every operator."""
    return inserted(module, plan, _Pairs())


class Writer(Protocol):
    """What grids become in a graph."""

    def weights(
        self,
        module: fx.GraphModule,
        node: fx.Node,
        scales: "NDArray[np.float32]",
        source: Grid | None,
    ) -> None:
        """Puts the weight and the bias of an operator on their grids.

        Args:
            source: the grid of the operator's input.
        """

    def grid(self, module: fx.GraphModule, node: fx.Node, name: str, grid: Grid) -> fx.Node:
        """What gives ``node`` on a grid, at the graph's insert point.

        Args:
            name: of the point that the grid is of.
        """


def inserted(module: fx.GraphModule, plan: Plan, writer: Writer) -> fx.GraphModule:
    """A copy of a canonical module with a grid behind every operator, in the form of a writer."""
    module = copy.deepcopy(module)
    nodes = {node.name: node for node in module.graph.nodes}
    behind = plan.grid_behind()
    for name, scales in plan.weights.items():
        writer.weights(module, nodes[name], scales, behind.get(argument(nodes[name]).name))
    for name, grid in plan.constants.items():
        constant = nodes[name]
        codes = (tensor_of(module, constant) / grid.scale).round().clamp(-WEIGHT_HIGH, WEIGHT_HIGH)
        set_tensor(module, str(constant.target), codes * grid.scale)
        _put_behind(module, constant, list(constant.users), writer, (name, grid))
    point_of = plan.layout.point_of()
    _requantize_shared(module, plan, behind, writer)
    floats = set(plan.layout.floats)
    for name, grid in behind.items():
        node = nodes[name]
        readers = list(node.users)
        if name in floats:
            readers = [user for user in readers if user.name not in floats and user.op != "output"]
        _put_behind(module, node, readers, writer, (point_of[name].name, grid))
    for name in plan.layout.clamps:
        clamp = nodes[name]
        clamp.replace_all_uses_with(argument(clamp))
        module.graph.erase_node(clamp)
    tidy(module)
    return module


def quantized_program(
    module: fx.GraphModule, plan: Plan, shape: tuple[int, ...]
) -> "ExportedProgram":
    """The quantized program of a canonical module.

    Args:
        shape: (N, 3, H, W) of the input.
    """
    return torch.export.export(quantized_module(module, plan), (torch.zeros(shape),))


def weights_only(module: fx.GraphModule, plan: Plan, shape: tuple[int, ...]) -> "ExportedProgram":
    """A program whose weights alone are quantized."""
    module = copy.deepcopy(module)
    nodes = {node.name: node for node in module.graph.nodes}
    for name, scales in plan.weights.items():
        _quantize_weight(module, nodes[name], scales)
    tidy(module)
    return torch.export.export(module, (torch.zeros(shape),))


def weight_codes(weight: Tensor, scales: "NDArray[np.float32]") -> Tensor:
    """The codes of a weight: (out, ...) whole numbers from -127 to 127, as floats."""
    steps = torch.from_numpy(scales).double().view(-1, *[1] * (weight.ndim - 1))
    return (weight.double() / steps).round().clamp(-WEIGHT_HIGH, WEIGHT_HIGH)


def on_grid(weight: Tensor, scales: "NDArray[np.float32]") -> Tensor:
    """The values that the codes of a weight stand for."""
    steps = torch.from_numpy(scales).double().view(-1, *[1] * (weight.ndim - 1))
    return (weight_codes(weight, scales) * steps).float()


def argument(node: fx.Node) -> fx.Node:
    """What an operator reads first."""
    first = node.args[0]
    assert isinstance(first, fx.Node)  # noqa: S101  # these operators read a tensor first
    return first


def _quantize_weight(module: fx.GraphModule, node: fx.Node, scales: "NDArray[np.float32]") -> None:
    ops = torch.ops.quantized_decomposed
    weight = node.args[1]
    value = tensor_of(module, weight)
    steps = torch.from_numpy(scales)
    # Each operator has a weight of its own from here on, also where two shared one.
    attribute, scale_name = f"_weight_{node.name}", f"_scales_{node.name}"
    module.register_buffer(attribute, on_grid(value, scales))
    module.register_buffer(scale_name, steps)
    module.register_buffer(f"{scale_name}_zero", torch.zeros(len(scales), dtype=torch.int64))
    graph = module.graph
    with graph.inserting_before(node):
        own, scale = graph.get_attr(attribute), graph.get_attr(scale_name)
        zero = graph.get_attr(f"{scale_name}_zero")
        what = (scale, zero, 0, -WEIGHT_HIGH, WEIGHT_HIGH, torch.int8)
        quantized = graph.call_function(ops.quantize_per_channel.default, (own, *what))
        dequantized = graph.call_function(ops.dequantize_per_channel.default, (quantized, *what))
    node.args = (node.args[0], dequantized, *node.args[2:])


def _round_bias(
    module: fx.GraphModule, node: fx.Node, grid: Grid | None, scales: "NDArray[np.float32]"
) -> None:
    """Puts a bias on the grid of the integer kernels' accumulators, which add it as int32."""
    bias = node.args[2] if len(node.args) > 2 else None
    if bias is None or grid is None:
        return
    step = torch.from_numpy(np.float64(grid.scale) * scales.astype(np.float64))
    codes = (tensor_of(module, bias).double() / step).round().clamp(-_BIAS_HIGH, _BIAS_HIGH)
    attribute = f"_bias_of_{node.name}"
    module.register_buffer(attribute, (codes * step).float())
    with module.graph.inserting_before(node):
        own = module.graph.get_attr(attribute)
    node.args = (*node.args[:2], own, *node.args[3:])


def _requantize_shared(
    module: fx.GraphModule, plan: Plan, behind: dict[str, Grid], writer: Writer
) -> None:
    """Gives an operator that only moves codes the codes of its own grid."""
    floats = set(plan.layout.floats)
    point_of = plan.layout.point_of()
    for node in list(module.graph.nodes):
        grid = behind.get(node.name)
        if grid is None or ROLES.get(node.target) is not Role.SHARED or node.name in floats:
            continue
        for source in node.all_input_nodes:
            if behind.get(source.name, grid) != grid:
                with module.graph.inserting_before(node):
                    made = writer.grid(module, source, point_of[node.name].name, grid)
                node.replace_input_with(source, made)


def _put_behind(
    module: fx.GraphModule,
    node: fx.Node,
    readers: Sequence[fx.Node],
    writer: Writer,
    named: tuple[str, Grid],
) -> None:
    with module.graph.inserting_after(node):
        made = writer.grid(module, node, *named)
    for reader in readers:
        reader.replace_input_with(node, made)


class _Pairs:
    """Grids as pairs of quantize and dequantize, as a program has them."""

    def weights(
        self,
        module: fx.GraphModule,
        node: fx.Node,
        scales: "NDArray[np.float32]",
        source: Grid | None,
    ) -> None:
        _quantize_weight(module, node, scales)
        _round_bias(module, node, source, scales)

    def grid(self, module: fx.GraphModule, node: fx.Node, name: str, grid: Grid) -> fx.Node:
        del name  # two pairs of the same numbers are one grid
        ops = torch.ops.quantized_decomposed
        what = (grid.scale, grid.zero_point, LOW, HIGH, torch.int8)
        quantized = module.graph.call_function(ops.quantize_per_tensor.default, (node, *what))
        with module.graph.inserting_after(quantized):
            return module.graph.call_function(ops.dequantize_per_tensor.default, (quantized, *what))

"""What a quantized program computes in exact integers, as the kernels of the runtimes do.

PyTorch runs the program in floats. Each of its sums carries a rounding error, so that about one
value in a million falls on the other side of a tie; every such code changes those that depend on
it, and behind a hundred layers half of all codes differ by a step or more. Here each sum is exact,
and is put on its grid as XNNPACK and MLAS do: as a float32, times the float32 ratio of the scales,
rounded half to even.
"""

from collections.abc import Callable
from math import ldexp, log2
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from torch import Tensor, fx

from edgese.errors import ConversionError
from edgese.parallel import outputs
from edgese.program.forms import pair_grid
from edgese.program.memory import running_mb
from edgese.program.nodes import (
    DEQUANTIZE,
    QUANTIZE,
    WEIGHTED,
    arguments,
    computed_nodes,
    integer_grid,
    two,
)
from edgese.program.qparams import HIGH, LOW, SIGMOID
from edgese.records.artifact import Grid

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch.export import ExportedProgram

# Up to here a float32 holds every whole number, so that sums are exact in any order.
_EXACT: Final = 2.0**24
# Bits of XNNPACK's multipliers: 21 for the larger one of a sum, 8 for a change of the grid.
_SUM_BITS: Final = 20
_CHANGE_BITS: Final = 8


def integer_outputs(
    program: "ExportedProgram", pictures: "NDArray[np.float32]", batch: int
) -> "NDArray[np.float32]":
    """What a quantized program gives, computed in integers: (count, classes).

    Parts of the program that are kept in float are computed as PyTorch does.

    Args:
        pictures: (count, 3, H, W), for any count.
        batch: of the program.
    """
    module = program.module(check_guards=False)
    # The same for every batch: whoever computes it first leaves it to the others.
    weights: dict[fx.Node, Any] = {}

    def run(part: Tensor) -> Tensor:
        given: Tensor = _Integers(module, weights).run(part)
        return given

    # Integers are held as doubles while they are computed.
    memory_mb = 2 * running_mb(program.graph, batch)
    return outputs(run, pictures, batch, memory_mb=memory_mb)


class _Integers(fx.Interpreter):
    """Runs a program; an integer operator waits for the node that puts it on its grid."""

    def __init__(self, module: fx.GraphModule, weights: "dict[fx.Node, Any]") -> None:
        # What an operator reads is read when its result is put on a grid, after others' last use.
        super().__init__(module, garbage_collect_values=False)
        computed = computed_nodes(module.graph)
        self._waiting = {
            node
            for node in computed
            if str(node.target) in OPERATORS and integer_grid(node, computed) is not None
        }
        self._weights = weights

    def run_node(self, n: fx.Node) -> Any:  # noqa: ANN401  # as the base class has it
        if n in self._waiting or (
            str(n.target) == DEQUANTIZE and self._waiting.issuperset(n.users)
        ):
            return None
        if str(n.target) == QUANTIZE:
            source, grid = n.all_input_nodes[0], _grid(n)
            if source in self._waiting:
                codes = OPERATORS[str(source.target)](self, source, grid)
                return codes.to(torch.int8)
            if str(source.target) == DEQUANTIZE:
                return _changed(self.steps(source), _grid(source), grid).to(torch.int8)
        return super().run_node(n)

    def steps(self, source: fx.Node) -> Tensor:
        """What an operator reads, in whole steps from zero."""
        codes: Tensor = self.env[source.all_input_nodes[0]]
        return codes.double() - _grid(source).zero_point

    def weights(self, node: fx.Node) -> tuple[Tensor, Tensor, Tensor]:
        """Codes, scales and whole biases of a convolution or linear layer."""
        if node not in self._weights:
            source, weight, bias, *_ = arguments(node)
            codes, scales = (self.env[held] for held in weight.args[:2])
            scales = scales.double()
            steps = scales * _grid(source).scale
            offsets = torch.zeros_like(steps) if bias is None else self.env[bias].double() / steps
            self._weights[node] = codes.double(), scales.float(), offsets.round()
        found: tuple[Tensor, Tensor, Tensor] = self._weights[node]
        return found


def _grid(node: fx.Node) -> Grid:
    grid = pair_grid(node)
    assert grid is not None  # noqa: S101  # it is a pair's node
    return grid


def _weighted(run: _Integers, node: fx.Node, grid: Grid) -> Tensor:
    source, _, _, *how = arguments(node)
    x, (codes, scales, offsets) = run.steps(source), run.weights(node)
    reach = float(codes.abs().flatten(1).sum(1).max() * x.abs().max())
    dtype = torch.float32 if reach < _EXACT else torch.float64
    operator: Any = node.target
    sums = operator(x.to(dtype), codes.to(dtype), None, *how).double()
    # The channels of a convolution are the second dimension, and those of a linear layer the last.
    around = (-1, *[1] * (len(codes.shape) - 2))
    steps = scales * _float32(_grid(source).scale)
    return _on_grid(sums + offsets.view(around), (steps / _float32(grid.scale)).view(around), grid)


def _product(run: _Integers, node: fx.Node, grid: Grid) -> Tensor:
    left, right = node.all_input_nodes[0], node.all_input_nodes[-1]
    ratio = _float32(_grid(left).scale) * _float32(_grid(right).scale) / _float32(grid.scale)
    return _on_grid(run.steps(left) * run.steps(right), ratio, grid)


def _sum(run: _Integers, node: fx.Node, grid: Grid) -> Tensor:
    """XNNPACK adds in fixed point, and rounds half up: qs8-vadd's parameters."""
    if (factor := arguments(node)[2]) != 1:
        raise _refused(node, f"it multiplies what it adds by {factor}")
    sources = node.all_input_nodes[0], node.all_input_nodes[-1]
    ratios = [float(_float32(_grid(s).scale) / _float32(grid.scale)) for s in sources]
    shift = _SUM_BITS - int(np.floor(log2(max(ratios))))
    factors = [float(np.rint(ldexp(ratio, shift))) for ratio in ratios]
    left, right = (run.steps(s) * factor for s, factor in zip(sources, factors, strict=True))
    return _held(((left + right + 2.0 ** (shift - 1)) / 2.0**shift).floor(), grid)


def _mean(run: _Integers, node: fx.Node, grid: Grid) -> Tensor:
    source, axes, _, dtype = arguments(node)
    if dtype is not None:
        raise _refused(node, f"it changes the type to {dtype}")
    x = run.steps(source)
    sums = x.sum(axes)
    share = _float32(sums.numel() / x.numel())
    ratio = _float32(_grid(source).scale) / _float32(grid.scale) * share
    return _on_grid(sums, ratio, grid).reshape(node.meta["val"].shape)


def _adaptive_pool(run: _Integers, node: fx.Node, grid: Grid) -> Tensor:
    source, sizes = arguments(node)
    x = run.steps(source)
    # Windows overlap where the sizes are no divisors: each is from a floor to a ceiling.
    lengths = [
        torch.tensor([-(-(i + 1) * side // parts) - i * side // parts for i in range(parts)])
        for side, parts in zip(x.shape[2:], two(sizes), strict=True)
    ]
    counts = (lengths[0][:, None] * lengths[1]).double()
    operator: Any = node.target
    ratio = _float32(_grid(source).scale) / _float32(grid.scale) * (1 / counts).float()
    return _on_grid((operator(x, sizes) * counts).round(), ratio, grid)


def _average_pool(run: _Integers, node: fx.Node, grid: Grid) -> Tensor:
    source, *how, divisor = arguments(node)
    x = run.steps(source)
    operator: Any = node.target
    # What PyTorch divides the window of each place by: where all are 1, sum over mean.
    ones = torch.ones_like(x[:1, :1])
    counts = (operator(ones, *how, 1) / operator(ones, *how, divisor)).round()
    share = (1 / counts).float() * _float32(_grid(source).scale)
    return _on_grid(operator(x, *how, 1), share / _float32(grid.scale), grid)


def _sigmoid(run: _Integers, node: fx.Node, grid: Grid) -> Tensor:
    source = node.all_input_nodes[0]
    gates = torch.sigmoid(run.steps(source) * float(_float32(_grid(source).scale)))
    codes = _held((gates / SIGMOID.scale).round(), SIGMOID)
    return _changed(codes - SIGMOID.zero_point, SIGMOID, grid)


def _moved(run: _Integers, node: fx.Node, grid: Grid) -> Tensor:
    """An operator that moves codes: it does the same to steps, of which padding is 0."""
    operator: Any = node.target
    parts = {
        source: _changed(run.steps(source), _grid(source), grid) - grid.zero_point
        for source in node.all_input_nodes
    }
    moved: Tensor = operator(*fx.node.map_arg(node.args, parts.__getitem__), **node.kwargs)
    return _held(moved, grid)


def _pad(run: _Integers, node: fx.Node, grid: Grid) -> Tensor:
    source, amounts, number = arguments(node)
    x = _changed(run.steps(source), _grid(source), grid) - grid.zero_point
    operator: Any = node.target
    padded: Tensor = operator(x, amounts, round(number / grid.scale))
    return _held(padded, grid)


def _changed(steps: Tensor, before: Grid, grid: Grid) -> Tensor:
    """Puts whole steps of one grid on another, as XNNPACK's qs8-vcvt does."""
    if before == grid:
        return _held(steps, grid)
    factor = float(np.rint(2**_CHANGE_BITS * np.float32(before.scale / grid.scale)))
    return _held(((steps * factor + 2 ** (_CHANGE_BITS - 1)) / 2**_CHANGE_BITS).floor(), grid)


def _on_grid(sums: Tensor, ratio: Tensor, grid: Grid) -> Tensor:
    return _held((sums.float() * ratio).round(), grid)


def _held(steps: Tensor, grid: Grid) -> Tensor:
    return (steps + grid.zero_point).clamp(LOW, HIGH)


def _refused(node: fx.Node, reason: str) -> ConversionError:
    return ConversionError(
        f"{node.target} has no integer form as {node.name} has it: {reason}.",
        hint="Write it as other operators that mean the same.",
    )


def _float32(number: float) -> Tensor:
    return torch.tensor(number, dtype=torch.float32)


OPERATORS: Final[dict[str, Callable[[_Integers, fx.Node, Grid], Tensor]]] = {
    **dict.fromkeys(WEIGHTED, _weighted),
    "aten.mul.Tensor": _product,
    "aten.add.Tensor": _sum,
    "aten.adaptive_avg_pool2d.default": _adaptive_pool,
    "aten.mean.dim": _mean,
    "aten.avg_pool2d.default": _average_pool,
    "aten.sigmoid.default": _sigmoid,
    "aten.constant_pad_nd.default": _pad,
    **dict.fromkeys(
        (
            "aten.max_pool2d.default",
            "aten.cat.default",
            "aten.permute.default",
            "aten.flatten.using_ints",
            "aten.view.default",
            "aten.reshape.default",
            "aten.squeeze.dim",
            "aten.squeeze.dims",
            "aten.unsqueeze.default",
        ),
        _moved,
    ),
}

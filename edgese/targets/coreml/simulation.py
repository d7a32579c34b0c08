"""What a package with codes must compute: its program, with the numbers as Core ML holds them.

A package's scales, biases and other constants are halves, and around a sum coremltools divides the
scales by that of the second summand. The program is run with these numbers in fp64, where nothing
is rounded but what goes onto a grid. The saved file, executed in the same way
(`edgese.targets.coreml.mil`), must then give the same numbers: a code that falls on the other side
of a tie, which in fp16 and in fp32 happens in every layer and changes all behind it, is here a
fault of the file.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor, fx

from edgese.program.forms import input_shape, pair_grid
from edgese.program.nodes import DEQUANTIZE, DEQUANTIZE_CHANNELS, QUANTIZE, computed_nodes
from edgese.targets.batches import predictor

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch.export import ExportedProgram

_SUM: Final = "aten.add.Tensor"
_RELU: Final = "aten.relu.default"
# Those that mean the same in PyTorch and in a package, whatever coremltools makes of them.
_KNOWN: Final = frozenset(
    (
        QUANTIZE,
        DEQUANTIZE,
        DEQUANTIZE_CHANNELS,
        _SUM,
        _RELU,
        "aten.adaptive_avg_pool2d.default",
        "aten.avg_pool2d.default",
        "aten.cat.default",
        "aten.constant_pad_nd.default",
        "aten.conv2d.default",
        "aten.flatten.using_ints",
        "aten.hardtanh.default",
        "aten.linear.default",
        "aten.max_pool2d.default",
        "aten.mean.dim",
        "aten.mul.Tensor",
        "aten.permute.default",
        "aten.reshape.default",
        "aten.sigmoid.default",
        "aten.silu.default",
        "aten.squeeze.dim",
        "aten.squeeze.dims",
        "aten.unsqueeze.default",
        "aten.view.default",
    )
)
# In arrays below that size coremltools makes the smallest half of what would become 0
# (`_check_underflow_to_zero` in coremltools 9, converters/mil/mil/passes/defs/quantization.py).
_RESCUED: Final = 400
_SMALLEST: Final = 2.0**-24


def unknown(program: "ExportedProgram") -> Iterator[str]:
    """The program's operators that may be computed otherwise in a package."""
    for node in program.graph.nodes:
        if node.op == "call_function" and str(node.target) not in _KNOWN:
            yield str(node.target)


def simulated(program: "ExportedProgram", pictures: "NDArray[np.float32]") -> "NDArray[np.float32]":
    """What a package of fp16 must give: (N, classes).

    Args:
        program: as it goes into coremltools, without `unknown` operators.
        pictures: (N, 3, H, W) as the program takes them, for any N.
    """
    simulation = _Simulation(program.module(check_guards=False))
    batch, *picture_shape = input_shape(program)

    def run(part: "NDArray[np.float32]") -> "NDArray[np.float32]":
        with torch.inference_mode():
            logits: NDArray[np.float32] = (
                simulation.run(torch.from_numpy(part).double()).float().numpy()
            )
        return logits

    return predictor(run, tuple(picture_shape), batch)(pictures)


class _Simulation(fx.Interpreter):
    """Runs a program in fp64; constants are halves and computed once."""

    def __init__(self, module: fx.GraphModule) -> None:
        # A sum reads the codes behind what it is given, after their last use.
        super().__init__(module, garbage_collect_values=False)
        self._computed = computed_nodes(module.graph)
        self._known: dict[fx.Node, Any] = {}

    def run_node(self, n: fx.Node) -> Any:  # noqa: ANN401  # as the base class has it
        if n in self._known:
            return self._known[n]
        found = self._result(n)
        if n not in self._computed:
            self._known[n] = found
        return found

    def _result(self, node: fx.Node) -> Any:  # noqa: ANN401  # the same
        kind, given = str(node.target), list[Any](node.args)
        if node.op == "get_attr":
            held: Any = super().run_node(node)
            return _halves(held) if torch.is_tensor(held) and held.is_floating_point() else held
        if kind == DEQUANTIZE_CHANNELS:
            codes, scales = (self.env[each] for each in given[:2])
            # Weights' zero points are 0.
            shape = [-1 if dim == given[3] else 1 for dim in range(codes.ndim)]
            return codes.double() * scales.view(shape)
        if kind == QUANTIZE:
            source, scale, zero, lowest, highest, _ = given
            steps = torch.round(self.env[source] / _half(scale, _divisor_behind(source)))
            return (steps + zero).clamp(lowest, highest)
        if kind == DEQUANTIZE:
            return self._values(node)
        if kind == _SUM and not node.kwargs and (divisor := _divisor(node)) is not None:
            return self._values(given[0], divisor) + self._values(given[1], divisor)
        return super().run_node(node)

    def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:  # noqa: ANN401  # the same
        given = fx.node.map_aggregate(args, lambda a: _half(a) if isinstance(a, float) else a)
        return super().call_function(target, given, kwargs)

    def _values(self, pair: fx.Node, divisor: float = 1.0) -> Tensor:
        """What a pair's second half gives, with its scale divided."""
        codes, scale, zero, *_ = list[Any](pair.args)
        values: Tensor = (self.env[codes] - zero) * _half(scale, divisor)
        return values


def _divisor_behind(source: fx.Node) -> float:
    """By what coremltools divides the scale of what a node gives."""
    if str(source.target) == _RELU:
        source = source.all_input_nodes[0]
    found = _divisor(source) if str(source.target) == _SUM else None
    return 1.0 if found is None else found


def _divisor(node: fx.Node) -> float | None:
    """The scale that those around a sum are divided by; None where they are not.

    As `distributive_quantized_binary_op_scale_normalization` in coremltools 9 does: by the second
    summand's, or by the first's where a quotient would be no half.
    """
    readers = list(node.users)
    if len(readers) == 1 and str(readers[0].target) == _RELU:
        readers = list(readers[0].users)
    summands = [each for each in node.args[:2] if isinstance(each, fx.Node)]
    if [str(each.target) for each in (*summands, *readers)] != [DEQUANTIZE, DEQUANTIZE, QUANTIZE]:
        return None
    left, right, end = (
        grid.scale for each in (*summands, *readers) if (grid := pair_grid(each)) is not None
    )
    for other, divisor in ((left, right), (right, left)):
        if all(0 < _half(scale, divisor) < torch.inf for scale in (other, end)):
            return divisor
    return None


def _half(number: Any, divisor: float = 1.0) -> float:  # noqa: ANN401  # a float in a node
    """A number as a package holds it, divided in fp32 before that."""
    return float(_halves(torch.tensor(number, dtype=torch.float32) / divisor))


def _halves(values: Tensor) -> Tensor:
    rounded = values.detach().half().double()
    if values.numel() < _RESCUED:
        lost = (rounded == 0) & (values != 0)
        rounded = torch.where(lost, values.detach().double().sign() * _SMALLEST, rounded)
    return rounded

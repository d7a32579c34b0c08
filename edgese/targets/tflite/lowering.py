"""A TFLite model that grows while a program is read."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from edgese.errors import ConversionError
from edgese.program.forms import pair_grid
from edgese.program.nodes import Constants
from edgese.records.artifact import Grid
from edgese.targets.tflite.graph import TO_CHANNELS_LAST, Graph, Value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor, fx


@dataclass
class Lowering:
    """A model that grows, and what stands in it for the program's nodes.

    Attributes:
        constants: what the nodes give that do not depend on the input.
        values: of those that do; of one that dequantizes, the codes.
    """

    constants: Constants
    graph: Graph = field(default_factory=Graph)
    values: "dict[fx.Node, Value]" = field(default_factory=dict)

    def read(self, source: "fx.Node | float", *, codes: bool, channels_last: bool) -> Value:
        """What an operator reads, as codes or as floats, stored in the order that it needs."""
        import torch

        if not isinstance(source, torch.fx.Node):
            return self.graph.constant(array(torch.tensor(float(source))))
        if source in self.values:
            value = self.values[source]
            value = value if codes else self.graph.on_grid(value, None)
            return self.graph.stored_as(value, channels_last=channels_last)
        tensor = self.constants[source.all_input_nodes[0] if codes else source]
        if channels_last:
            tensor = tensor.reshape(*[1] * (4 - tensor.ndim), *tensor.shape)
            tensor = tensor.permute(TO_CHANNELS_LAST)
        return self.graph.constant(array(tensor), pair_grid(source) if codes else None)

    def moved(self, node: "fx.Node", grid: Grid | None) -> Value:
        """What a node reads, for an operator that does not care how it is stored."""
        source = node.all_input_nodes[0]
        last = self.is_channels_last(source)
        return self.read(source, codes=grid is not None, channels_last=last)

    def is_channels_last(self, source: object) -> bool:
        """Whether what a node gives is stored with its channels last."""
        return source in self.values and self.values[source].channels_last

    def padded(
        self, x: Value, pairs: "Sequence[tuple[int, int]]", kind: str = "PAD", *number: int
    ) -> Value:
        """Writes a padding.

        Args:
            pairs: before and after each axis, in PyTorch's order.
            number: of the constant to pad with, for "PADV2"; "PAD" pads with 0.
        """
        shape = [n + before + after for n, (before, after) in zip(x.shape, pairs, strict=True)]
        result = self.graph.value(shape, x.grid, channels_last=x.channels_last)
        stored = [pairs[axis] for axis in TO_CHANNELS_LAST] if x.channels_last else pairs
        inputs = [x.number, self.graph.integers(stored), *number]
        self.graph.operator(kind, inputs, result.number)
        return result


def refused(node: "fx.Node", reason: str) -> ConversionError:
    """The error for an operator that cannot be written."""
    return ConversionError(
        f"TFLite cannot take {node.target} as {node.name} has it: {reason}.",
        hint="Write it as other operators that mean the same.",
    )


def array(tensor: "Tensor") -> "NDArray[Any]":
    """A tensor as it is stored."""
    stored: NDArray[Any] = tensor.detach().contiguous().numpy()
    return stored

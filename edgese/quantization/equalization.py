"""Cross-layer equalization: channels of two convolutions scaled against each other.

Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction",
arXiv:1906.04721, section 4.1. Between two layers with nothing or a ReLU between them, a channel may
be divided by any s > 0 where it is made and multiplied by it where it is read. With weights per
channel the first layer gains nothing; what gains is the one grid of the activation between them, so
here s also brings the activations' ranges together (as Xiao et al., "SmoothQuant",
arXiv:2211.10438, equation 4, with alpha = 1/2).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor, fx

from edgese.parallel import Lanes, batches
from edgese.program.canonical import set_tensor, tensor_of
from edgese.program.memory import running_mb
from edgese.quantization.layout import Layout

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

aten = torch.ops.aten
# Channels that are almost silent on these pictures would be blown up without measure.
_LARGEST: Final = 16.0


@dataclass(frozen=True)
class _Pair:
    """Two layers and the node between them whose channels are scaled."""

    first: fx.Node
    between: fx.Node
    second: fx.Node


def equalized(
    module: fx.GraphModule, layout: Layout, pictures: "NDArray[np.float32]", batch: int
) -> int:
    """Scales the channels between convolutions, in place; what the module computes stays.

    Args:
        module: canonical.
        pictures: (count, 3, H, W), to find the activations' ranges with.

    Returns:
        How many pairs of layers were equalized.
    """
    pairs = list(_pairs(module, set(layout.weighted)))
    largest = _largest(module, {pair.between.name for pair in pairs}, pictures, batch)
    for pair in pairs:
        activation = largest[pair.between.name]
        reader = _input_ranges(pair.second, tensor_of(module, pair.second.args[1]))
        factors = (activation / reader.clamp_min(1e-12)).sqrt()
        usable = (activation > 0) & (reader > 0)
        middle = factors[usable].median() if usable.any() else torch.ones(())
        factors = torch.where(usable, (factors / middle).clamp(1 / _LARGEST, _LARGEST), 1.0)
        _divide_outputs(module, pair.first, factors)
        _multiply_inputs(module, pair.second, factors)
    module.recompile()
    return len(pairs)


def _pairs(module: fx.GraphModule, weighted: set[str]) -> Iterator[_Pair]:
    for first in module.graph.nodes:
        if first.target is not aten.conv2d.default or first.name not in weighted:
            continue
        between = first
        while len(between.users) == 1:
            (reader,) = between.users
            if reader.target in (aten.relu.default, aten.constant_pad_nd.default):
                between = reader
                continue
            if reader.target is aten.conv2d.default and reader.name in weighted:
                yield _Pair(first, between, reader)
            break


def _largest(
    module: fx.GraphModule, wanted: set[str], pictures: "NDArray[np.float32]", batch: int
) -> dict[str, Tensor]:
    """The largest magnitude of each channel behind the wanted nodes."""

    class Watching(fx.Interpreter):
        def __init__(self) -> None:
            super().__init__(module)
            self.found: dict[str, Tensor] = {}

        def run_node(self, n: fx.Node) -> object:
            result = super().run_node(n)
            if n.name in wanted and isinstance(result, Tensor):
                self.found[n.name] = result.abs().amax(dim=(0, 2, 3))
            return result

    def watched(part: Tensor) -> dict[str, Tensor]:
        watching = Watching()
        with torch.no_grad():
            watching.run(part)
        return watching.found

    found: dict[str, Tensor] = {}
    with Lanes(running_mb(module.graph, batch)) as lanes:
        for now in lanes.map(watched, batches(pictures, batch)):
            found |= {
                name: torch.maximum(found.get(name, largest), largest)
                for name, largest in now.items()
            }
    return found


def _groups(node: fx.Node) -> int:
    return int(node.args[6]) if len(node.args) > 6 else 1  # type: ignore[arg-type]  # a number in this operator


def _by_input(node: fx.Node, weight: Tensor) -> Tensor:
    """(groups, out a group, in a group, k, k): input channels are groups x in a group."""
    groups = _groups(node)
    return weight.view(groups, weight.shape[0] // groups, *weight.shape[1:])


def _input_ranges(node: fx.Node, weight: Tensor) -> Tensor:
    return _by_input(node, weight).abs().amax(dim=(1, 3, 4)).flatten()


def _divide_outputs(module: fx.GraphModule, node: fx.Node, factors: Tensor) -> None:
    weight = node.args[1]
    scaled = tensor_of(module, weight) / factors.view(-1, 1, 1, 1)
    _replace(module, node, 1, scaled)
    if len(node.args) > 2 and node.args[2] is not None:
        _replace(module, node, 2, tensor_of(module, node.args[2]) / factors)


def _multiply_inputs(module: fx.GraphModule, node: fx.Node, factors: Tensor) -> None:
    weight = tensor_of(module, node.args[1])
    shaped = _by_input(node, weight)
    groups, _, inner = shaped.shape[:3]
    scaled = shaped * factors.view(groups, 1, inner, 1, 1)
    _replace(module, node, 1, scaled.view_as(weight))


def _replace(module: fx.GraphModule, node: fx.Node, index: int, value: Tensor) -> None:
    target = node.args[index]
    assert isinstance(target, fx.Node)  # noqa: S101  # a canonical module's weights are nodes
    set_tensor(module, str(target.target), value)

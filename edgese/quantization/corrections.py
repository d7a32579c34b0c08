"""Undoes what quantization does to the statistics of each channel, without any training."""

import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from torch import Tensor, fx

from edgese.quantization.canonical import set_tensor, tensor_of
from edgese.quantization.grids import HIGH, LOW
from edgese.quantization.insertion import simulated_module
from edgese.quantization.plan import Plan

if TYPE_CHECKING:
    from numpy.typing import NDArray

# A spread that differs by more tells of a channel that is almost constant on these pictures.
_LARGEST_FACTOR: Final = 1.25
# Pictures from which on a mean of one number a picture tells more than chance.
_MANY: Final = 64


def corrected(
    module: fx.GraphModule,
    plan: Plan,
    pictures: "NDArray[np.float32]",
    *,
    spread: bool,
    batch: int,
) -> Plan:
    """Matches each channel's mean behind every convolution over pictures; changes the biases.

    Rounding shifts the mean of a channel, most where few weights are summed, as in depthwise
    convolutions, and the shifts add up through the network. Layer by layer, each seeing what the
    quantized layers before it give, the bias takes the shift back (Nagel et al., "Data-Free
    Quantization Through Weight Equalization and Bias Correction", arXiv:1906.04721, section 4.2,
    with measured means).

    Layers that see one place of each picture, such as the two of a squeeze-and-excitation gate,
    have one number a picture to go by. Their means are matched where there are many pictures, and
    their spreads never: they have no BatchNorm either.

    What a grid clips counts with the end that it is clipped to: a range may leave out what costs
    nothing, such as what lies far below 0 before a sigmoid, and the bias must not make up for it.

    Args:
        module: canonical; its biases are changed in place, and its weights where ``spread`` is.
        pictures: (count, 3, H, W).
        spread: matches the standard deviations as well, through the scales of the weights; their
            codes stay.
        batch: pictures that the float network runs at once; the quantized one runs all.

    Returns:
        The plan, with the changed scales.
    """
    ranges = _ranges(module, plan, single_places=len(pictures) >= _MANY)
    targets = _float_statistics(module, ranges, pictures, batch)
    matching = _Matching(simulated_module(module, plan), targets, ranges, spread=spread)
    with torch.no_grad():
        matching.run(torch.from_numpy(pictures))
    weights = dict(plan.weights)
    nodes = {node.name: node for node in module.graph.nodes}
    for name, (factor, shift) in matching.changes.items():
        node = nodes[name]
        bias = node.args[2] if len(node.args) > 2 else None
        before = torch.zeros_like(shift) if bias is None else tensor_of(module, bias)
        _set_bias(module, node, before * factor + shift)
        if spread:
            weight = node.args[1]
            value = tensor_of(module, weight)
            assert isinstance(weight, fx.Node)  # noqa: S101  # tensor_of looked
            shaped = factor.view(-1, *[1] * (value.ndim - 1))
            set_tensor(module, str(weight.target), value * shaped)
            weights[name] = (weights[name] * factor.numpy()).astype(np.float32)
    module.recompile()
    return dataclasses.replace(plan, weights=weights)


def _ranges(
    module: fx.GraphModule, plan: Plan, *, single_places: bool
) -> dict[str, tuple[float, float]]:
    """What the grid behind each layer, or behind the clamp that follows it, can hold."""
    behind = plan.grid_behind()
    ranges = {}
    for node in module.graph.nodes:
        if node.name not in plan.weights or not (single_places or _has_places(node)):
            continue
        end = node if node.name in behind else next(iter(node.users))
        grid = behind[end.name]
        ranges[node.name] = (
            (LOW - grid.zero_point) * grid.scale,
            (HIGH - grid.zero_point) * grid.scale,
        )
    return ranges


def _has_places(node: fx.Node) -> bool:
    shape: tuple[int, ...] = node.meta["val"].shape
    return math.prod(shape[2:]) > 1


class _Statistics:
    """Mean and standard deviation of each channel over pictures and places."""

    def __init__(self, low: float, high: float) -> None:
        self.low, self.high = low, high
        self.count = 0
        self.sums = torch.zeros(())
        self.squares = torch.zeros(())

    def add(self, value: Tensor) -> None:
        flat = value.clamp(self.low, self.high).double().transpose(0, 1).flatten(1)
        self.count += flat.shape[1]
        self.sums = self.sums + flat.sum(1)
        self.squares = self.squares + flat.square().sum(1)

    def result(self) -> tuple[Tensor, Tensor]:
        mean = self.sums / self.count
        return mean, (self.squares / self.count - mean.square()).clamp_min(0).sqrt()


class _Watching(fx.Interpreter):
    def __init__(self, module: fx.GraphModule, ranges: Mapping[str, tuple[float, float]]) -> None:
        super().__init__(module)
        self.found = {name: _Statistics(*bounds) for name, bounds in ranges.items()}

    def run_node(self, n: fx.Node) -> object:
        result = super().run_node(n)
        if n.name in self.found and isinstance(result, Tensor):
            self.found[n.name].add(result)
        return result


def _float_statistics(
    module: fx.GraphModule,
    ranges: Mapping[str, tuple[float, float]],
    pictures: "NDArray[np.float32]",
    batch: int,
) -> dict[str, tuple[Tensor, Tensor]]:
    watching = _Watching(module, ranges)
    with torch.no_grad():
        for part in _parts(pictures, batch):
            watching.run(part)
    return {name: found.result() for name, found in watching.found.items()}


def _parts(pictures: "NDArray[np.float32]", batch: int) -> Iterator[Tensor]:
    for start in range(0, len(pictures), batch):
        yield torch.from_numpy(pictures[start : start + batch])


class _Matching(fx.Interpreter):
    """Runs the quantized module and brings each layer's statistics to their targets on the way."""

    def __init__(
        self,
        module: fx.GraphModule,
        targets: Mapping[str, tuple[Tensor, Tensor]],
        ranges: Mapping[str, tuple[float, float]],
        *,
        spread: bool,
    ) -> None:
        super().__init__(module)
        self.targets = targets
        self.ranges = ranges
        self.spread = spread
        self.changes: dict[str, tuple[Tensor, Tensor]] = {}

    def run_node(self, n: fx.Node) -> object:
        result = super().run_node(n)
        if n.name not in self.targets or not isinstance(result, Tensor):
            return result
        found = _Statistics(*self.ranges[n.name])
        found.add(result)
        mean, deviation = found.result()
        wanted_mean, wanted_deviation = self.targets[n.name]
        factor = torch.ones_like(mean)
        if self.spread and _has_places(n):
            ratio = wanted_deviation / deviation.clamp_min(1e-12)
            usable = (ratio < _LARGEST_FACTOR) & (ratio > 1 / _LARGEST_FACTOR)
            factor = torch.where(usable, ratio, factor)
        factor, shift = factor.float(), (wanted_mean - mean * factor).float()
        self.changes[n.name] = factor, shift
        shape = (1, -1, *[1] * (result.ndim - 2))
        return result * factor.view(shape) + shift.view(shape)


def _set_bias(module: fx.GraphModule, node: fx.Node, value: Tensor) -> None:
    attribute = f"_corrected_bias_{node.name}"
    set_tensor(module, attribute, value)
    with module.graph.inserting_before(node):
        own = module.graph.get_attr(attribute)
    node.args = (*node.args[:2], own, *node.args[3:])

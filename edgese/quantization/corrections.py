"""Undoes what quantization does to each layer's output, without any training."""

import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from torch import Tensor, fx

from edgese.quantization.canonical import set_tensor, tensor_of
from edgese.quantization.compensation import compensated
from edgese.quantization.grids import HIGH, LOW, weight_scales
from edgese.quantization.insertion import argument, on_grid, simulated_module
from edgese.quantization.plan import Plan

if TYPE_CHECKING:
    from numpy.typing import NDArray

# A spread that differs by more tells of a channel that is almost constant on these pictures.
_LARGEST_FACTOR: Final = 1.25
# Pictures from which on one number a picture tells more than chance.
_MANY: Final = 64
# All pictures go through a layer at once: so many, and so much memory for the largest tensor of
# all; some six such are there at a time.
_PICTURES: Final = 256
_LARGEST_BYTES: Final = 1.5e9


def corrected(
    module: fx.GraphModule,
    plan: Plan,
    pictures: "NDArray[np.float32]",
    *,
    spread: bool,
    compensation: bool = False,
    seed: int = 0,
    on_progress: Callable[[float], None] = lambda _: None,
    on_note: Callable[[str], None] = lambda _: None,
) -> Plan:
    """Brings what each layer computes closer to what it computes in float; changes the weights.

    Layer by layer, each seeing what the quantized layers before it give, on the same pictures:

    1. Compensation: the weights that come closest, see `edgese.quantization.compensation`.
    2. Spread: the standard deviation of each channel, through the scales of the weights; their
       codes stay. Clipping, and a sigmoid that ends at 255/256, take a little in every layer.
    3. The mean of each channel. Rounding shifts it, most where few weights are summed, as in
       depthwise convolutions, and the shifts add up through the network; the bias takes them back
       (Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction",
       arXiv:1906.04721, section 4.2, with measured means). Alone it does harm: spreads that shrink
       in every layer are made up for by means that drift.

    Layers that see one place of each picture, such as the two of a squeeze-and-excitation gate,
    have one number a picture to go by. They are changed where there are many pictures, and their
    spreads never: they have no BatchNorm either.

    What a grid clips counts with the end that it is clipped to: a range may leave out what costs
    nothing, such as what lies far below 0 before a sigmoid, and the bias must not make up for it.

    Args:
        module: canonical; its weights and biases are changed in place.
        pictures: (count, 3, H, W); evenly spread ones where all do not fit into memory.
        seed: of the places that compensation looks at.
        on_progress: is told the share that is done.
        on_note: is given what was done, and in how many layers.

    Returns:
        The plan, with the changed scales.
    """
    every = _every(module, len(pictures))
    some = torch.from_numpy(pictures[::every])
    if every > 1:
        on_note(
            f"corrections: {len(some)} of {len(pictures)} images, as many as fit into memory at "
            "once"
        )
    walk = _Walk(
        module,
        plan,
        some,
        spread=spread,
        compensation=compensation,
        seed=seed,
        on_progress=on_progress,
    )
    with torch.no_grad():
        walk.run(some)
    nodes = {node.name: node for node in module.graph.nodes}
    for name, layer in walk.changed.items():
        _set_own(module, nodes[name], 1, layer.weight)
        _set_own(module, nodes[name], 2, layer.bias)
    module.recompile()
    for note in walk.notes():
        on_note(note)
    scales = {name: layer.scales for name, layer in walk.changed.items()}
    return dataclasses.replace(plan, weights={**plan.weights, **scales})


def _every(module: fx.GraphModule, count: int) -> int:
    """How many pictures one must be taken of, so that the largest tensor of all fits."""
    largest: int = max(
        math.prod(node.meta["val"].shape[1:]) * 4
        for node in module.graph.nodes
        if isinstance(node.meta.get("val"), Tensor) and node.op == "call_function"
    )
    return max(math.ceil(count * largest / _LARGEST_BYTES), math.ceil(count / _PICTURES))


@dataclasses.dataclass(frozen=True)
class _Layer:
    """What a layer is changed to."""

    weight: Tensor
    scales: "NDArray[np.float32]"
    bias: Tensor


class _Float(fx.Interpreter):
    """The float network, run as far as is asked for."""

    def __init__(self, module: fx.GraphModule, pictures: Tensor) -> None:
        super().__init__(module)
        self.args_iter = iter([pictures])
        self.ahead: Iterator[fx.Node] = iter(module.graph.nodes)

    def until(self, name: str) -> tuple[Tensor, Tensor]:
        """What a layer reads and gives; later ones than those asked for before."""
        for node in self.ahead:
            self.env[node] = self.run_node(node)
            if node.name == name:
                read, given = self.env[argument(node)], self.env[node]
            for unused in self.user_to_last_uses.get(node, []):
                del self.env[unused]
            if node.name == name:
                return read, given
        raise KeyError(name)


class _Walk(fx.Interpreter):
    """Runs the quantized module beside the float one and changes its layers on the way."""

    def __init__(
        self,
        module: fx.GraphModule,
        plan: Plan,
        pictures: Tensor,
        *,
        spread: bool,
        compensation: bool,
        seed: int,
        on_progress: Callable[[float], None],
    ) -> None:
        super().__init__(simulated_module(module, plan))
        self.floats = _Float(module, pictures)
        self.layers = {node.name: node for node in module.graph.nodes if node.name in plan.weights}
        self.own, self.plan = module, plan
        self.behind = plan.grid_behind()
        self.many = len(pictures) >= _MANY
        self.spread, self.compensation = spread, compensation
        self.generator = torch.Generator().manual_seed(seed)
        self.changed: dict[str, _Layer] = {}
        self.on_progress = on_progress
        self.walked = 0
        self.compensated = 0

    def notes(self) -> Iterator[str]:
        """Give what was done, and in how many layers."""
        count, places = len(self.layers), sum(_has_places(node) for node in self.layers.values())
        few = f"; the others see one value an image, and fewer than {_MANY} images are too few"
        yield f"bias correction: {len(self.changed)} of {count} layers" + (
            "" if len(self.changed) == count else few
        )
        if self.spread:
            yield f"norm re-estimation: {places} of {count} layers, those that see several places"
        if self.compensation:
            yield (
                f"compensation: {self.compensated} of {count} layers; in the others no change "
                "served images that it was not found with"
            )

    def run_node(self, n: fx.Node) -> object:
        node = self.layers.get(n.name)
        if node is None:
            return super().run_node(n)
        wanted_input, wanted = self.floats.until(n.name)
        self.walked += 1
        self.on_progress(self.walked / len(self.layers))
        if not (self.many or _has_places(node)):
            return super().run_node(n)
        found_input = self.env[argument(n)]
        layer, given = self._changed(node, wanted_input, wanted, found_input)
        self.changed[n.name] = layer
        return given

    def _changed(
        self, node: fx.Node, wanted_input: Tensor, wanted: Tensor, found_input: Tensor
    ) -> tuple[_Layer, Tensor]:
        value, scales = tensor_of(self.own, node.args[1]), self.plan.weights[node.name]
        bias = node.args[2] if len(node.args) > 2 else None
        start = torch.zeros(len(value)) if bias is None else tensor_of(self.own, bias)
        if self.compensation:
            new = compensated(node, value, wanted_input, found_input, self.generator)
            if new is not value:
                self.compensated += 1
                value, scales = new, weight_scales(new.numpy())
        given = node.target(  # type: ignore[operator]  # a call's target is a function
            found_input, on_grid(value, scales), start, *node.args[3:]
        )
        low, high = self._bounds(node)
        target_mean, target_deviation = _statistics(wanted, low, high)
        mean, deviation = _statistics(given, low, high)
        factor = torch.ones_like(mean)
        if self.spread and _has_places(node):
            ratio = target_deviation / deviation.clamp_min(1e-12)
            usable = (ratio < _LARGEST_FACTOR) & (ratio > 1 / _LARGEST_FACTOR)
            factor = torch.where(usable, ratio, factor)
        factor, shift = factor.float(), (target_mean - mean * factor).float()
        layer = _Layer(
            weight=value * factor.view(-1, *[1] * (value.ndim - 1)),
            scales=(scales * factor.numpy()).astype(np.float32),
            bias=start * factor + shift,
        )
        shape = (1, -1, *[1] * (given.ndim - 2))
        return layer, given.mul_(factor.view(shape)).add_(shift.view(shape))

    def _bounds(self, node: fx.Node) -> tuple[float, float]:
        """What the grid behind a layer, or behind the clamp that follows it, can hold."""
        end = node if node.name in self.behind else next(iter(node.users))
        grid = self.behind[end.name]
        return (LOW - grid.zero_point) * grid.scale, (HIGH - grid.zero_point) * grid.scale


def _has_places(node: fx.Node) -> bool:
    shape: tuple[int, ...] = node.meta["val"].shape
    return math.prod(shape[2:]) > 1


def _statistics(value: Tensor, low: float, high: float) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel over pictures and places, (channels,) each."""
    flat = value.clamp(low, high).transpose(0, 1).flatten(1)
    deviation, mean = torch.std_mean(flat, dim=1, correction=0)
    return mean.double(), deviation.double()


def _set_own(module: fx.GraphModule, node: fx.Node, index: int, value: Tensor) -> None:
    """Gives a layer a weight (1) or a bias (2) of its own."""
    attribute = f"_corrected_{('weight', 'bias')[index - 1]}_{node.name}"
    set_tensor(module, attribute, value)
    with module.graph.inserting_before(node):
        own = module.graph.get_attr(attribute)
    node.args = (*node.args[:index], own, *node.args[index + 1 :])

"""Undoes what quantization does to each layer's output, without any training."""

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from functools import reduce
from operator import add
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from torch import Tensor, fx

from edgese.parallel import Lanes
from edgese.program.canonical import set_tensor, tensor_of
from edgese.program.memory import largest_bytes
from edgese.program.qparams import HIGH, LOW, weight_scales
from edgese.quantization.compensation import FOLDS, MOST_WEIGHTS, Moments, Window, compensated
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
# Images that one thread takes through a layer at once; small enough for many cores to have some.
_TOGETHER: Final = 8


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
    some = pictures[::every]
    if every > 1:
        on_note(
            f"corrections: {len(some)} of {len(pictures)} images, as many as fit into memory at "
            "once"
        )
    with Lanes() as lanes, torch.no_grad():
        walk = _Walk(
            module,
            plan,
            some,
            lanes,
            spread=spread,
            compensation=compensation,
            seed=seed,
        )
        changed = walk.changed(on_progress)
    nodes = {node.name: node for node in module.graph.nodes}
    for name, layer in changed.items():
        _set_own(module, nodes[name], 1, layer.weight)
        _set_own(module, nodes[name], 2, layer.bias)
    module.recompile()
    for note in walk.notes(len(changed)):
        on_note(note)
    scales = {name: layer.scales for name, layer in changed.items()}
    return dataclasses.replace(plan, weights={**plan.weights, **scales})


def _every(module: fx.GraphModule, count: int) -> int:
    """How many pictures one must be taken of, so that the largest tensor of all fits."""
    largest = largest_bytes(module.graph)
    return max(math.ceil(count * largest / _LARGEST_BYTES), math.ceil(count / _PICTURES))


@dataclasses.dataclass(frozen=True)
class _Layer:
    """What a layer is changed to."""

    weight: Tensor
    scales: "NDArray[np.float32]"
    bias: Tensor


class _Strand(fx.Interpreter):
    """A network that runs as far as is asked for, on some of the images."""

    def __init__(self, module: fx.GraphModule, images: Tensor) -> None:
        super().__init__(module)
        self.args_iter = iter([images])
        self.ahead: Iterator[fx.Node] = iter(module.graph.nodes)
        self.at: fx.Node | None = None

    def until(self, name: str) -> Tensor:
        """Return what a layer reads; a later one than those asked for before."""
        for node in self.ahead:
            if node.name == name:
                self.at = node
                read: Tensor = self.env[argument(node)]
                return read
            self._keep(node, self.run_node(node))
        raise KeyError(name)

    def through(self) -> Tensor:
        """Return what the layer gives that `until` has come to, and go past it."""
        assert self.at is not None  # noqa: S101  # the caller went there
        given: Tensor = self.run_node(self.at)
        self._keep(self.at, given)
        return given

    def past(self, given: Tensor) -> None:
        """Go past the layer that `until` has come to, which gives this instead of its own."""
        assert self.at is not None  # noqa: S101  # the caller went there
        self._keep(self.at, given)

    def _keep(self, node: fx.Node, value: object) -> None:
        self.env[node] = value
        for unused in self.user_to_last_uses.get(node, []):
            del self.env[unused]


class _Part:
    """Some of the images on their way through the float and the quantized network.

    Attributes:
        fold: the part of all images that `compensated` counts them to.
    """

    def __init__(
        self, module: fx.GraphModule, simulated: fx.GraphModule, images: Tensor, fold: int
    ) -> None:
        self.fold = fold
        self._floats, self._quantized = _Strand(module, images), _Strand(simulated, images)
        self._read = self._given = images

    def reach(
        self, name: str, bounds: "_Bounds", window: Window | None, places: Sequence[Tensor]
    ) -> "tuple[Moments | None, _Statistics]":
        """Go to a layer.

        Returns:
            What it reads in both networks, where ``window`` says how, and what it gives in float.
        """
        with torch.no_grad():
            wanted = self._floats.until(name)
            self._read = self._quantized.until(name)
            moments = None
            if window is not None:
                moments = window.moments(wanted, self._read, places[self.fold])
            return moments, _Statistics.of(self._floats.through(), bounds)

    def compute(
        self, node: fx.Node, weight: Tensor, bias: Tensor, bounds: "_Bounds"
    ) -> "_Statistics":
        """Compute the layer that was reached, in the quantized network."""
        operator: Any = node.target
        with torch.no_grad():
            self._given = operator(self._read, weight, bias, *node.args[3:])
            return _Statistics.of(self._given, bounds)

    def change(self, factor: Tensor, shift: Tensor) -> None:
        """Scale and shift the channels of what was computed, and go past the layer."""
        shape = (1, -1, *[1] * (self._given.ndim - 2))
        with torch.no_grad():
            self._quantized.past(self._given.mul_(factor.view(shape)).add_(shift.view(shape)))
        del self._read, self._given


_Bounds = tuple[float, float]


@dataclasses.dataclass(frozen=True)
class _Statistics:
    """Of each channel over images and places: (channels,), as doubles.

    Attributes:
        squares: sum of the squared differences from the mean.
    """

    count: int
    mean: Tensor
    squares: Tensor

    @classmethod
    def of(cls, value: Tensor, bounds: _Bounds) -> "_Statistics":
        """Return those of a tensor (N, C, ...), clamped."""
        flat = value.clamp(*bounds).transpose(0, 1).flatten(1)
        variance, mean = torch.var_mean(flat, dim=1, correction=0)
        return cls(flat.shape[1], mean.double(), variance.double() * flat.shape[1])

    @classmethod
    def over(cls, parts: "Sequence[_Statistics]") -> "_Statistics":
        """Return those of all parts together."""
        count = sum(part.count for part in parts)
        mean = torch.stack([part.mean * part.count for part in parts]).sum(0) / count
        between = [part.count * (part.mean - mean).square() for part in parts]
        within = [part.squares for part in parts]
        return cls(count, mean, torch.stack([*within, *between]).sum(0))

    def deviation(self) -> Tensor:
        """Return the standard deviation."""
        return (self.squares / self.count).sqrt()


class _Walk:
    """Takes the images through the quantized and the float network, and changes layers on the way.

    The images go in parts, so that what each part computes does not depend on the cores, and what
    is summed over all is summed in the order of the parts.
    """

    def __init__(
        self,
        module: fx.GraphModule,
        plan: Plan,
        images: "NDArray[np.float32]",
        lanes: Lanes,
        *,
        spread: bool,
        compensation: bool,
        seed: int,
    ) -> None:
        simulated = simulated_module(module, plan)
        self.folds = [images[fold::FOLDS] for fold in range(min(FOLDS, len(images)))]
        self.parts = [
            _Part(
                module, simulated, torch.from_numpy(fold[start : start + _TOGETHER]).clone(), index
            )
            for index, fold in enumerate(self.folds)
            for start in range(0, len(fold), _TOGETHER)
        ]
        self.images = len(images)
        self.module, self.plan, self.lanes = module, plan, lanes
        self.behind = plan.grid_behind()
        self.spread, self.compensation = spread, compensation
        self.generator = torch.Generator().manual_seed(seed)
        self.compensated = 0

    def notes(self, changed: int) -> Iterator[str]:
        """Yield what was done, and in how many layers.

        Args:
            changed: layers whose means were corrected.
        """
        layers = [node for node in self.module.graph.nodes if node.name in self.plan.weights]
        count, places = len(layers), sum(map(_has_places, layers))
        few = f"; the others see one value an image, and fewer than {_MANY} images are too few"
        yield f"bias correction: {changed} of {count} layers" + ("" if changed == count else few)
        if self.spread:
            yield f"norm re-estimation: {places} of {count} layers, those that see several places"
        if self.compensation:
            yield (
                f"compensation: {self.compensated} of {count} layers; in the others no change "
                "served images that it was not found with"
            )

    def changed(self, on_progress: Callable[[float], None]) -> dict[str, _Layer]:
        """Return what each layer that can be changed is changed to."""
        many = self.images >= _MANY
        layers = [
            node
            for node in self.module.graph.nodes
            if node.name in self.plan.weights and (many or _has_places(node))
        ]
        changed = {}
        for index, node in enumerate(layers):
            on_progress((index + 1) / len(layers))
            changed[node.name] = self._changed(node)
        return changed

    def _changed(self, node: fx.Node) -> _Layer:
        value, scales = tensor_of(self.module, node.args[1]), self.plan.weights[node.name]
        bias = node.args[2] if len(node.args) > 2 else None
        start = torch.zeros(len(value)) if bias is None else tensor_of(self.module, bias)
        bounds = self._bounds(node)
        window, places = None, list[Tensor]()
        if self.compensation and value[0].numel() <= MOST_WEIGHTS:
            window = Window(node, value)
            shape = argument(node).meta["val"].shape
            places = [window.places(shape, self.images, self.generator) for _ in self.folds]
        moments, floats = zip(
            *self.lanes.map(lambda part: part.reach(node.name, bounds, window, places), self.parts),
            strict=True,
        )
        if window is not None:
            new = compensated(window, value, self._by_fold(moments), self.images, self.lanes)
            if new is not value:
                self.compensated += 1
                value, scales = new, weight_scales(new.numpy())
        weight = on_grid(value, scales)
        found = list(
            self.lanes.map(lambda part: part.compute(node, weight, start, bounds), self.parts)
        )
        wanted, given = _Statistics.over(floats), _Statistics.over(found)
        factor = torch.ones_like(given.mean)
        if self.spread and _has_places(node):
            ratio = wanted.deviation() / given.deviation().clamp_min(1e-12)
            usable = (ratio < _LARGEST_FACTOR) & (ratio > 1 / _LARGEST_FACTOR)
            factor = torch.where(usable, ratio, factor)
        factor, shift = factor.float(), (wanted.mean - given.mean * factor).float()
        for _ in self.lanes.map(lambda part: part.change(factor, shift), self.parts):
            pass
        return _Layer(
            weight=value * factor.view(-1, *[1] * (value.ndim - 1)),
            scales=(scales * factor.numpy()).astype(np.float32),
            bias=start * factor + shift,
        )

    def _by_fold(self, moments: Sequence[Moments]) -> list[Moments]:
        return [
            reduce(
                add, (m for m, part in zip(moments, self.parts, strict=True) if part.fold == fold)
            )
            for fold in range(len(self.folds))
        ]

    def _bounds(self, node: fx.Node) -> _Bounds:
        """What the grid behind a layer, or behind the clamp that follows it, can hold."""
        end = node if node.name in self.behind else next(iter(node.users))
        grid = self.behind[end.name]
        return (LOW - grid.zero_point) * grid.scale, (HIGH - grid.zero_point) * grid.scale


def _has_places(node: fx.Node) -> bool:
    shape: tuple[int, ...] = node.meta["val"].shape
    return math.prod(shape[2:]) > 1


def _set_own(module: fx.GraphModule, node: fx.Node, index: int, value: Tensor) -> None:
    """Gives a layer a weight (1) or a bias (2) of its own."""
    attribute = f"_corrected_{('weight', 'bias')[index - 1]}_{node.name}"
    set_tensor(module, attribute, value)
    with module.graph.inserting_before(node):
        own = module.graph.get_attr(attribute)
    node.args = (*node.args[:index], own, *node.args[index + 1 :])

"""Scales among which no sum, product or mean lies near the middle between two codes.

Integer kernels put what they compute on the output's grid by a factor: the ratio of the scales.
One runtime has it as a float32, another in fixed point, one rounds a tie to even and another up. So
where a result is half a step, or almost, two runtimes may give different codes, and behind a
hundred layers half of all codes differ. Where each ratio is k / D with an odd D, every result is a
whole number of Ds, and none can be nearer to a middle than 1 / 2D: all runtimes then round alike,
and compute the same integers, bit for bit. It takes changes of the scales by some ten thousandths.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np
import torch
from torch import fx

from edgese.program.canonical import tensor_of
from edgese.quantization.insertion import argument
from edgese.quantization.layout import Point, Role
from edgese.quantization.plan import Plan

if TYPE_CHECKING:
    from numpy.typing import NDArray

aten = torch.ops.aten
# The largest denominators whose distance from a middle is still well above what the runtimes' own
# factors are inexact by: 2^-24 of a product or a mean, and 2^-20 of a code in XNNPACK's sums.
_PRODUCT: Final = 4095
_SUM: Final = 1023
_MEAN: Final = 2047
# A mean over more places than that needs a larger denominator: so many times their number.
_MEAN_PLACES: Final = 2
_MEANS: Final = (aten.mean.dim, aten.adaptive_avg_pool2d.default)
# What an int32 accumulator leaves to a bias beside the products that it adds up.
_BIAS_CODES: Final = 2.0**29


def harmonized(module: fx.GraphModule, plan: Plan) -> Plan:
    """The plan with scales moved as little as that takes, from the network's end to its beginning.

    What cannot be moved stays as it is: an operand that two operators want otherwise, and a sum
    with the picture or with a constant.

    Args:
        module: canonical.
    """
    scales = {name: grid.scale for name, grid in plan.grids.items()}
    constants = {name: grid.scale for name, grid in plan.constants.items()}
    point_of = plan.layout.point_of()
    settled = {point.name for point in plan.layout.points if point.role is Role.SIGMOID}
    # The picture's grid is its own: it is where the artifact begins.
    settled |= {node.name for node in module.graph.nodes if node.op == "placeholder"}
    for node in reversed(module.graph.nodes):
        if node.target in _MEANS and node.name not in plan.layout.floats:
            moved = _mean_moved(node, point_of, scales, settled)
            scales |= moved
            settled |= {*moved, point_of[argument(node).name].name}
            continue
        end = _end(node, plan, scales)
        if end is None:
            continue
        names = [
            point_of[str(source)].name if str(source) in point_of else str(source)
            for source in node.args[:2]
        ]
        given = {**constants, **scales}
        free = [name for name in names if name in scales and name not in settled]
        if not set(names) <= set(given):
            continue
        if node.target is aten.mul.Tensor and free:
            ratio = given[names[0]] * given[names[1]] / end
            (exact,) = _fractions([ratio], _PRODUCT)
            moved = {free[0]: scales[free[0]] * exact / ratio}
        elif node.target is aten.add.Tensor and len(set(free)) == 2:
            exacts = _fractions([given[name] / end for name in names], _SUM)
            moved = {name: end * exact for name, exact in zip(names, exacts, strict=True)}
        else:
            continue
        # A 32-bit float, as the runtimes store it; 2^-24 is far below what the fractions leave.
        scales |= {name: float(np.float32(scale)) for name, scale in moved.items()}
        settled |= set(moved)
    grids = {
        name: msgspec.structs.replace(grid, scale=scales[name]) for name, grid in plan.grids.items()
    }
    return dataclasses.replace(plan, grids=grids)


def _mean_moved(
    node: fx.Node, point_of: Mapping[str, Point], scales: Mapping[str, float], settled: set[str]
) -> dict[str, float]:
    """The scale behind a mean over places, moved; empty where it cannot be."""
    source, own = point_of[argument(node).name].name, point_of[node.name].name
    if own in settled or own == source:
        return {}
    before, after = argument(node).meta["val"], node.meta["val"]
    averaged = math.prod(before.shape) // math.prod(after.shape)
    ratio = scales[source] / scales[own] / averaged
    (exact,) = _fractions([ratio], max(_MEAN, round(_MEAN_PLACES / ratio)))
    return {own: float(np.float32(scales[own] * ratio / exact))}


def _end(node: fx.Node, plan: Plan, scales: dict[str, float]) -> float | None:
    """The scale behind an integer sum or product; None for any other node."""
    if node.target not in (aten.add.Tensor, aten.mul.Tensor) or node.name in plan.layout.floats:
        return None
    point_of = plan.layout.point_of()
    behind = node
    # A clamp that the grid takes over stands before it.
    while behind.name not in point_of and len(behind.users) == 1:
        (behind,) = behind.users
    return scales[point_of[behind.name].name] if behind.name in point_of else None


def _fractions(ratios: Sequence[float], most: int) -> list[float]:
    """The nearest k / D to each ratio, with one odd D for all: the best from a quarter up."""
    odd: NDArray[np.int64] = np.arange(most // 4 | 1, most + 1, 2)
    wanted = np.array(ratios)[:, None]
    whole = np.maximum(np.rint(wanted * odd), 1)
    best = int(np.abs(whole / odd / wanted - 1).max(axis=0).argmin())
    return [float(k) for k in whole[:, best] / odd[best]]


def roomy(module: fx.GraphModule, plan: Plan) -> Plan:
    """The plan with weights' scales so large that each bias fits into an int32 accumulator.

    A channel whose weights are almost 0 has a step so fine that its bias would be billions of them.

    Args:
        module: canonical.
    """
    nodes = {node.name: node for node in module.graph.nodes}
    behind = plan.grid_behind()
    weights = dict(plan.weights)
    for name, scales in plan.weights.items():
        node = nodes[name]
        bias = node.args[2] if len(node.args) > 2 else None
        grid = behind.get(str(node.args[0]))
        if bias is None or grid is None:
            continue
        least = tensor_of(module, bias).abs().double().numpy() / (grid.scale * _BIAS_CODES)
        weights[name] = np.maximum(scales, least.astype(np.float32))
    return dataclasses.replace(plan, weights=weights)

"""Every number of a quantization, decided before the graph is touched."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from torch import fx

from edgese.errors import InputError
from edgese.program.canonical import described, tensor_of
from edgese.program.qparams import SIGMOID, constant_grid, grid_of, weight_scales
from edgese.quantization.layout import Layout, Point, Role
from edgese.quantization.ranges import Histogram, chosen_range
from edgese.records.artifact import Grid
from edgese.records.quantization import QuantizationRecipe, RangeMethod

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The grids of a network.

    Attributes:
        layout: where they stand.
        grids: of each point, by its name.
        constants: of each constant tensor, by its node's name.
        weights: scale of each output channel, by the operator's name; symmetric, -127 to 127.
    """

    layout: Layout
    grids: Mapping[str, Grid]
    constants: Mapping[str, Grid]
    weights: "Mapping[str, NDArray[np.float32]]"

    def grid_behind(self) -> dict[str, Grid]:
        """The grid behind each node that has one."""
        return {node: self.grids[point.name] for node, point in self.layout.point_of().items()}


def planned(
    module: fx.GraphModule,
    layout: Layout,
    histograms: Mapping[str, Histogram],
    recipe: QuantizationRecipe,
) -> Plan:
    """Grids for a canonical module, from what its tensors were seen to be.

    Raises:
        InputError: a weight is NaN or infinite.
    """
    nodes = {node.name: node for node in module.graph.nodes}
    output = module.graph.output_node().args[0]
    grids = {
        # What leaves the network is for others to read; nothing of it is clipped.
        point.name: _grid(
            point,
            histograms[point.name],
            "min_max" if str(output) in point.members else recipe.ranges,
            recipe.percentile,
        )
        for point in layout.points
    }
    constants = {
        name: constant_grid(float(tensor_of(module, nodes[name]).abs().max()))
        for name in layout.constants
    }
    weights = {name: _scales(module, nodes[name]) for name in layout.weighted}
    return Plan(layout=layout, grids=grids, constants=constants, weights=weights)


def _grid(point: Point, histogram: Histogram, method: RangeMethod, percentile: float) -> Grid:
    if point.role is Role.SIGMOID:
        return SIGMOID
    low, high = chosen_range(histogram, method, percentile=percentile)
    if point.low is not None:
        low = max(low, min(point.low, 0.0))
    if point.high is not None:
        high = min(high, max(point.high, 0.0))
    return grid_of(low, high)


def _scales(module: fx.GraphModule, node: fx.Node) -> "NDArray[np.float32]":
    weight = tensor_of(module, node.args[1]).numpy()
    if not np.isfinite(weight).all():
        raise InputError(
            f"The weights of {described(node)} hold NaN or infinity.",
            hint="Take weights of a training that did not diverge.",
        )
    return weight_scales(weight)

"""What each layer of a quantized network costs alone, and why."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor, fx

from edgese.parallel import one_thread, outputs
from edgese.program.canonical import place, tensor_of
from edgese.program.memory import running_mb
from edgese.quantization.insertion import simulated_module
from edgese.quantization.layout import Point, Role
from edgese.quantization.plan import Plan
from edgese.quantization.ptq import BATCH, fidelity
from edgese.records.quantization import Cause, LayerCost

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

aten = torch.ops.aten
# A channel is an outlier where it reaches so many times as far as the middle one.
_OUTLIER: Final = 8.0
# A gate is saturated where this share of its inputs lies so far out that its codes hardly change.
_SATURATED: Final = 0.5
_FAR: Final = 5.5
# A range is wide where it is so many standard deviations: most codes then serve few values.
_WIDE: Final = 24.0


@one_thread()
def analysed(
    module: fx.GraphModule,
    plan: Plan,
    pictures: "NDArray[np.float32]",
    on_progress: Callable[[float], None] = lambda _: None,
) -> tuple[LayerCost, ...]:
    """Quantize each layer's weights, and each activation, alone; the costliest come first.

    Args:
        module: canonical; what it computes in float is compared with.
        pictures: (count, 3, H, W); some sixteen do.
        on_progress: is told the share that is done.
    """
    memory_mb = running_mb(module.graph, BATCH)
    reference = outputs(module, pictures, BATCH, memory_mb=memory_mb)
    seen = _Watching(module, plan)
    with torch.no_grad():
        for start in range(0, len(pictures), BATCH):
            seen.run(torch.from_numpy(pictures[start : start + BATCH]))
    parts = list(_parts(module, plan))
    rows = []
    for index, (node, point, alone) in enumerate(parts):
        simulated = simulated_module(module, alone)
        found = outputs(simulated, pictures, BATCH, memory_mb=memory_mb)
        close = fidelity(found, reference)
        cause, detail = _weight_cause(module, node) if point is None else seen.cause(node, point)
        rows.append(
            LayerCost(
                layer=place(node) or node.name,
                operator=str(node.target).removeprefix("aten.").split(".")[0],
                part="weights" if point is None else "activations",
                sqnr_db=close.sqnr_db,
                kl=close.kl,
                cause=cause,
                detail=detail,
            )
        )
        on_progress((index + 1) / len(parts))
    return tuple(sorted(rows, key=lambda row: row.sqnr_db))


def _parts(module: fx.GraphModule, plan: Plan) -> Iterator[tuple[fx.Node, Point | None, Plan]]:
    """Each weight and each point with a plan that quantizes nothing else."""
    nodes = {node.name: node for node in module.graph.nodes}
    where = plan.layout
    for name in where.weighted:
        layout = dataclasses.replace(where, points=(), weighted=(name,), constants=(), clamps=())
        weights = {name: plan.weights[name]}
        yield (
            nodes[name],
            None,
            dataclasses.replace(plan, layout=layout, weights=weights, constants={}),
        )
    for point in where.points:
        clamps = tuple(name for name in where.clamps if name in point.members)
        layout = dataclasses.replace(
            where, points=(point,), weighted=(), constants=(), clamps=clamps
        )
        yield (
            nodes[point.name],
            point,
            dataclasses.replace(plan, layout=layout, weights={}, constants={}),
        )


def _weight_cause(module: fx.GraphModule, node: fx.Node) -> tuple[Cause, str]:
    weight = tensor_of(module, node.args[1]).flatten(1)
    # Of each output channel: how far its largest weight stands out from the others.
    peaks = weight.abs().amax(1) / weight.std(1, correction=0).clamp_min(1e-12)
    worst = int(peaks.argmax())
    return "weights", f"channel {worst} of {len(weight)}: largest is {float(peaks[worst]):.0f} std"


class _Watching(fx.Interpreter):
    """Runs a module and keeps what tells why an activation is hard to quantize."""

    def __init__(self, module: fx.GraphModule, plan: Plan) -> None:
        super().__init__(module)
        self.wanted = {point.name for point in plan.layout.points}
        self.plan = plan
        self.largest: dict[str, Tensor] = {}
        self.sums: dict[str, list[float]] = {}
        self.far: dict[str, list[float]] = {}

    def run_node(self, n: fx.Node) -> object:
        result = super().run_node(n)
        if n.name in self.wanted and isinstance(result, Tensor):
            axes = [axis for axis in range(result.ndim) if axis != 1]
            now = result.abs().amax(axes)
            self.largest[n.name] = torch.maximum(self.largest.get(n.name, now), now)
            squares = float(result.double().square().mean())
            self.sums.setdefault(n.name, []).append(squares)
        if n.target is aten.sigmoid.default:
            (source,) = self.fetch_args_kwargs_from_env(n)[0]
            share = float((source.abs() > _FAR).double().mean())
            self.far.setdefault(n.name, []).append(share)
        return result

    def cause(self, node: fx.Node, point: Point) -> tuple[Cause, str]:
        """Why a point costs what it does, as far as its values tell."""
        if point.role is Role.SIGMOID:
            share = _mean(self.far.get(node.name, [0.0]))
            return (
                ("gate saturation" if share > _SATURATED else "rounding"),
                f"{share:.0%} of its inputs are beyond +-{_FAR:g}",
            )
        largest = self.largest[node.name]
        middle = float(largest.median().clamp_min(1e-12))
        worst = int(largest.argmax())
        times = float(largest[worst]) / middle
        if times > _OUTLIER:
            return (
                "outlier channel",
                f"channel {worst} of {len(largest)} reaches {times:.0f} times as far as the median",
            )
        grid = self.plan.grids[point.name]
        width = 255 * grid.scale / max(_mean(self.sums[node.name]) ** 0.5, 1e-12)
        return (
            ("range" if width > _WIDE else "rounding"),
            f"the range is {width:.0f} times the root mean square",
        )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)

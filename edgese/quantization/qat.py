"""Quantization-aware training: a plan as a module that learns, and what it learnt as a plan.

The student is the canonical network with `edgese.quantization.fake` where the program has its
grids. BatchNorm is folded, so there are no statistics to freeze, and each step costs little more
than one in float. What it computes in evaluation mode is what the program computes.
"""

import copy
import dataclasses
from collections.abc import Callable, Container, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor, fx, nn

from edgese.program.canonical import set_tensor, tensor_of, tidy
from edgese.quantization.fake import (
    ActivationQuantizer,
    BiasQuantizer,
    QuantizedSiLU,
    WeightQuantizer,
)
from edgese.quantization.insertion import argument, inserted
from edgese.quantization.layout import Role
from edgese.quantization.plan import Plan
from edgese.records.artifact import Grid
from edgese.training.extension import Extension, ParameterGroup

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

aten = torch.ops.aten
# Adam moves every number by about the learning rate: a thousandth of a weight. Grids learn in
# logarithms of their scales, and biases lie around 1, so both may move further.
GRID_LR: Final = 20.0
BIAS_LR: Final = 20.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Student:
    """A network that learns with its grids.

    Attributes:
        network: (N, 3, H, W) to logits.
        module: the canonical module that it was made from.
        plan: the grids that it begins with.
        grids: those that it learns, by the names of their points; parts of the network.
    """

    network: fx.GraphModule
    module: fx.GraphModule
    plan: Plan
    grids: Mapping[str, ActivationQuantizer]

    def learnt(self) -> tuple[fx.GraphModule, Plan]:
        """The canonical module with the learnt weights and biases, and the plan of learnt grids.

        Raises:
            InputError: the training has diverged.
        """
        module = copy.deepcopy(self.module)
        nodes = {node.name: node for node in module.graph.nodes}
        weights = {}
        for name in self.plan.weights:
            node = nodes[name]
            held: Any = self.network.get_submodule(_weight(name))
            value = self.network.get_parameter(f"{_weight(name)}_value").detach().cpu()
            # In evaluation mode it has the scales of the weight as it is now.
            held(self.network.get_parameter(f"{_weight(name)}_value").detach())
            weights[name] = held.scales().detach().cpu().numpy()
            set_tensor(module, str(_node(node.args[1]).target), value)
            if len(node.args) > 2 and node.args[2] is not None:
                bias = self.network.get_parameter(_bias(name)).detach().cpu()
                set_tensor(module, str(_node(node.args[2]).target), bias)
        grids = {point.name: self.grids[point.name].grid() for point in self.plan.layout.points}
        return module, dataclasses.replace(self.plan, weights=weights, grids=grids)


def student(module: fx.GraphModule, plan: Plan) -> Student:
    """A network that learns with the grids of a plan.

    Args:
        module: canonical.
    """
    writer = _Modules(plan)
    network = inserted(module, plan, writer)
    # A grid that others share keeps its own place, so that no state is saved twice.
    own = {grid_name(p.name) for p in plan.layout.points if len(p.members) == 1}
    _fuse_silus(network, own)
    tidy(network)
    return Student(network=network, module=module, plan=plan, grids=writer.held)


class LearntGrids(Extension):
    """Lets the scales of grids, and biases, learn at rates of their own, without weight decay.

    Args:
        features: gives how far student and teacher are apart inside; None where nobody looks.
        weight: of that beside the loss of their answers.
    """

    def __init__(self, features: Callable[[], Tensor] | None = None, weight: float = 0.0) -> None:
        self.features = features
        self.weight = weight

    def groups(self, student: nn.Module) -> Sequence[ParameterGroup]:
        """The scales of activations, and the biases; the scales of weights follow the weights."""
        scales = [
            part.log_ratio
            for part in student.modules()
            if isinstance(part, ActivationQuantizer) and part.log_ratio.requires_grad
        ]
        biases = [value for name, value in student.named_parameters() if _is_bias(name)]
        return (
            ParameterGroup(parameters=scales, lr_scale=GRID_LR),
            ParameterGroup(parameters=biases, lr_scale=BIAS_LR),
        )

    def loss(self) -> Tensor | None:
        """The difference of features."""
        return None if self.features is None else self.weight * self.features()


class _Modules:
    """Grids as modules with parameters."""

    def __init__(self, plan: Plan) -> None:
        self.fixed = {p.name for p in plan.layout.points if p.role is Role.SIGMOID}
        self.constants = set(plan.constants)
        self.sources: dict[str, str] = {
            name: point.name for name, point in plan.layout.point_of().items()
        }
        self.held: dict[str, ActivationQuantizer] = {}

    def weights(
        self,
        module: fx.GraphModule,
        node: fx.Node,
        scales: "NDArray[np.float32]",
        source: Grid | None,
    ) -> None:
        name = _weight(node.name)
        held = WeightQuantizer(torch.from_numpy(scales))
        module.add_submodule(name, held)
        module.register_parameter(f"{name}_value", nn.Parameter(tensor_of(module, node.args[1])))
        with module.graph.inserting_before(node):
            value = module.graph.get_attr(f"{name}_value")
            weight = module.graph.call_module(name, (value,))
        node.args = (node.args[0], weight, *node.args[2:])
        if len(node.args) < 3 or node.args[2] is None:
            return
        module.register_parameter(_bias(node.name), nn.Parameter(tensor_of(module, node.args[2])))
        with module.graph.inserting_before(node):
            bias = module.graph.get_attr(_bias(node.name))
            if source is not None:
                grid = self._held(self.sources[argument(node).name], source)
                module.add_submodule(f"{name}_rounding", BiasQuantizer(grid, held))
                bias = module.graph.call_module(f"{name}_rounding", (bias,))
        node.args = (*node.args[:2], bias, *node.args[3:])

    def grid(self, module: fx.GraphModule, node: fx.Node, name: str, grid: Grid) -> fx.Node:
        module.add_submodule(grid_name(name), self._held(name, grid))
        return module.graph.call_module(grid_name(name), (node,))

    def _held(self, name: str, grid: Grid) -> ActivationQuantizer:
        if name not in self.held:
            learn = name not in self.fixed and name not in self.constants
            self.held[name] = ActivationQuantizer(grid.scale, grid.zero_point, learn=learn)
        return self.held[name]


def _fuse_silus(network: fx.GraphModule, own: Container[str]) -> None:
    """Takes ``x * sigmoid(x)`` with its three grids together, where nobody else reads between.

    Args:
        own: names of the grids that stand in one place.
    """
    for product in network.graph.find_nodes(op="call_function", target=aten.mul.Tensor):
        if len(product.users) != 1:
            continue
        left, right = product.args[:2]
        x, gate = (left, right) if _gates(right, left) else (right, left)
        (output,) = product.users
        if not (_gates(gate, x) and str(output.target) in own and str(x.target) in own):
            continue
        if len(x.users) != 2 or len(gate.users) != 1:
            continue
        name = f"_silu_{product.name}"
        source, behind = (network.get_submodule(str(node.target)) for node in (x, output))
        assert isinstance(source, ActivationQuantizer)  # noqa: S101  # _is_grid looked
        assert isinstance(behind, ActivationQuantizer)  # noqa: S101  # the same
        network.add_submodule(name, QuantizedSiLU(source, behind))
        with network.graph.inserting_before(product):
            fused = network.graph.call_module(name, (argument(x),))
        output.replace_all_uses_with(fused)
        for node in (output, product):
            network.graph.erase_node(node)


def _gates(gate: object, x: object) -> bool:
    """Whether ``gate`` is the quantized sigmoid of ``x``."""
    if not isinstance(gate, fx.Node) or gate.op != "call_module":
        return False
    sigmoid = argument(gate)
    return sigmoid.target is aten.sigmoid.default and argument(sigmoid) is x


def _node(argument: object) -> fx.Node:
    assert isinstance(argument, fx.Node)  # noqa: S101  # weights and biases are nodes
    return argument


def _weight(name: str) -> str:
    return f"_weight_{name}"


def _bias(name: str) -> str:
    return f"{_weight(name)}_bias"


def _is_bias(name: str) -> bool:
    return name.startswith("_weight_") and name.endswith("_bias")


def grid_name(name: str) -> str:
    """The part of a student's network that is the grid of the point ``name``."""
    return f"_grid_{name}"

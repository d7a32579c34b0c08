"""What a student and its teacher compute on the way to their answers, held beside each other.

A few hundred pictures tell little by their answers alone, and a student soon learns those by heart;
what stands behind each residual sum has thousands of places a picture (FitNets, arXiv:1412.6550;
block-wise reconstruction, arXiv:2102.05426).
"""

from typing import Final

import torch
from torch import Tensor, fx, nn

from edgese.program.canonical import tidy
from edgese.quantization.layout import ROLES, Role
from edgese.quantization.qat import Student, grid_name

aten = torch.ops.aten
_POOLS: Final = (aten.adaptive_avg_pool2d.default, aten.mean.dim)


class Features:
    """The tensors behind residual sums, and behind the last pool, in both networks.

    Args:
        student: its hooks stay until `close`.
        teacher: canonical, of the same network; nodes that do nothing are put into it.
    """

    def __init__(self, student: Student, teacher: fx.GraphModule) -> None:
        names = _features(student)
        self._learnt: dict[str, Tensor] = {}
        self._taught: dict[str, Tensor] = {}
        network = student.network
        self._hooks = [
            # Two forwards of one network are never mixed up: the second begins with nothing.
            network.register_forward_pre_hook(lambda *_: self._learnt.clear()),
            teacher.register_forward_pre_hook(lambda *_: self._taught.clear()),
        ]
        nodes = {node.name: node for node in teacher.graph.nodes}
        for point, member in names.items():
            self._watch(network.get_submodule(grid_name(point)), self._learnt, point)
            self._watch(_seen(teacher, nodes[member]), self._taught, point)
        tidy(teacher)

    def _watch(self, part: nn.Module, held: dict[str, Tensor], name: str) -> None:
        def keep(_: nn.Module, __: object, result: Tensor) -> None:
            # A grid that later tensors share is called again for them.
            held.setdefault(name, result)

        self._hooks.append(part.register_forward_hook(keep))

    def difference(self) -> Tensor:
        """How far apart the last forwards were: squared error over square, summed over features."""
        terms = [
            (self._learnt[name].float() - taught.float()).square().mean()
            / taught.float().square().mean().clamp_min(1e-12)
            for name, taught in self._taught.items()
        ]
        self._learnt.clear()
        self._taught.clear()
        return torch.stack(terms).sum()

    def close(self) -> None:
        """Takes the hooks away."""
        for hook in self._hooks:
            hook.remove()


def _features(student: Student) -> dict[str, str]:
    """Names of points, and of the node that each is first behind."""
    nodes = {node.name: node for node in student.module.graph.nodes}
    sums, pools = {}, {}
    for point in student.plan.layout.points:
        first = nodes[point.members[0]]
        source = _unclamped(first)
        if source.target is aten.add.Tensor and first.meta["val"].dim() == 4:
            sums[point.name] = first.name
        if source.target in _POOLS:
            pools[point.name] = first.name
    return sums | dict(list(pools.items())[-1:])


def _unclamped(node: fx.Node) -> fx.Node:
    if ROLES.get(node.target) is Role.CLAMP:
        (node,) = node.all_input_nodes
    return node


def _seen(module: fx.GraphModule, node: fx.Node) -> nn.Module:
    """A part that does nothing, through which everybody reads the node."""
    part, name = nn.Identity(), f"_seen_{node.name}"
    module.add_submodule(name, part)
    with module.graph.inserting_after(node):
        through = module.graph.call_module(name, (node,))
    node.replace_all_uses_with(through, delete_user_cb=lambda user: user is not through)
    return part

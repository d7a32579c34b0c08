"""Which tensors of a network get a grid, and which of them share one."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

import torch
from torch import fx

from edgese.errors import ConfigError, ConversionError
from edgese.program.canonical import described, place
from edgese.program.nodes import arguments

aten = torch.ops.aten


class Role(Enum):
    """What an operator does to the grid of what it reads.

    OWN: its output has a grid of its own.
    SHARED: its output has the grid of its input, since it moves codes and computes none; some
        runtimes demand it.
    SIGMOID: the fixed grid that TFLite's specification demands: 1/256, -128.
    CLAMP: the saturation of the grid behind it does its work.
    """

    OWN = "own"
    SHARED = "shared"
    SIGMOID = "sigmoid"
    CLAMP = "clamp"


# Where SHARED is not plain: TFLite's specification of int8 demands one scale for a concatenation
# and for average pooling with a window (https://ai.google.dev/edge/litert/models/quantization_spec).
ROLES: Final[dict[object, Role]] = {
    aten.conv2d.default: Role.OWN,
    aten.linear.default: Role.OWN,
    aten.add.Tensor: Role.OWN,
    aten.mul.Tensor: Role.OWN,
    aten.adaptive_avg_pool2d.default: Role.OWN,
    aten.mean.dim: Role.OWN,
    aten.sigmoid.default: Role.SIGMOID,
    aten.relu.default: Role.CLAMP,
    aten.hardtanh.default: Role.CLAMP,
    aten.max_pool2d.default: Role.SHARED,
    aten.avg_pool2d.default: Role.SHARED,
    aten.constant_pad_nd.default: Role.SHARED,
    aten.cat.default: Role.SHARED,
    aten.flatten.using_ints: Role.SHARED,
    aten.view.default: Role.SHARED,
    aten.reshape.default: Role.SHARED,
    aten.permute.default: Role.SHARED,
    aten.squeeze.dim: Role.SHARED,
    aten.squeeze.dims: Role.SHARED,
    aten.unsqueeze.default: Role.SHARED,
}
WEIGHTED: Final = (aten.conv2d.default, aten.linear.default)


@dataclass(frozen=True, kw_only=True)
class Point:
    """Tensors that have one grid in common.

    Attributes:
        name: of the node that the grid is named after, the first in the network.
        members: names of the nodes behind which the grid stands, in order.
        role: OWN or SIGMOID.
        low, high: bounds of a clamp that the grid takes over; None where there is none.
    """

    name: str
    members: tuple[str, ...]
    role: Role
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, kw_only=True)
class Layout:
    """What is quantized in a network, decided before any number is known.

    Attributes:
        points: in the order of the network.
        weighted: names of the convolutions and linear layers whose weights are quantized.
        constants: names of the nodes of constant tensors that integer operators read.
        clamps: names of the clamps that a grid takes over.
        floats: names of the operators that stay in float.
    """

    points: tuple[Point, ...]
    weighted: tuple[str, ...]
    constants: tuple[str, ...]
    clamps: tuple[str, ...]
    floats: tuple[str, ...]

    def point_of(self) -> dict[str, Point]:
        """The point of each node that has one."""
        return {member: point for point in self.points for member in point.members}


def layout(module: fx.GraphModule, keep_float: Sequence[str] = ()) -> Layout:
    """Decides where grids stand.

    Args:
        module: canonical.
        keep_float: patterns of module paths, as in ``stages.6.*`` (``*`` is any text); operators
            of these modules stay in float.

    Raises:
        ConversionError: an operator that has no integer form on every runtime; its module is told.
        ConfigError: a pattern that fits no module.
    """
    calls = [node for node in module.graph.nodes if node.op == "call_function"]
    floats = _floats(calls, keep_float)
    for node in calls:
        if node.name not in floats and node.target not in ROLES:
            raise ConversionError(
                f"No integer form of {described(node)} is known.",
                hint="Write it as operators that have one (convolution, sum, product, sigmoid, "
                f"ReLU, pooling), or {_kept_in_float(node)}",
            )
        if node.name not in floats and (reason := _other_form(node)):
            raise ConversionError(
                f"{described(node)} has no integer form as it stands there: {reason}.",
                hint=f"Write it as operators that have one, or {_kept_in_float(node)}",
            )
    clamps = {
        node.name: _clamped(node)
        for node in calls
        if node.name not in floats and ROLES[node.target] is Role.CLAMP
    }
    # A clamp whose input nobody else reads has its grid behind it alone.
    bare = {
        source.name
        for name, source in clamps.items()
        if len(source.users) == 1 and source.name not in floats and source.op == "call_function"
    }
    groups = _groups(module, calls, floats, bare)
    points = tuple(_point(members, floats) for members in groups)
    return Layout(
        points=points,
        weighted=tuple(n.name for n in calls if n.target in WEIGHTED and n.name not in floats),
        constants=tuple(dict.fromkeys(_constants(calls, floats))),
        clamps=tuple(clamps),
        floats=tuple(n.name for n in calls if n.name in floats),
    )


def _kept_in_float(node: fx.Node) -> str:
    """Return the end of a hint: the line of a recipe that keeps an operator in float."""
    if ROLES.get(node.target) is Role.CLAMP and _clamped(node).op == "call_function":
        # It goes with what it clamps.
        node = _clamped(node)
    where = place(node)
    whose = f"all that {where} does" if where else "what the network's own forward does"
    pattern = re.sub(r"([*?[])", r"[\1]", where)
    return (
        f'keep {whose} in float: keep_float = ["{pattern}"] in the recipe. Core ML takes that; '
        "other runtimes refuse what they cannot compute between integers."
    )


def _other_form(node: fx.Node) -> str:
    """Return what sets an operator apart from the one that integer runtimes have; "" for nothing.

    Whatever is not refused here, `edgese.program.integers` computes.
    """
    if node.target in WEIGHTED:
        source, weight, bias = node.args[0], *arguments(node)[1:3]
        if any(held is not None and held.op != "get_attr" for held in (weight, bias)):
            return "its weight depends on the image"
        wanted = 2 if node.target is aten.linear.default else 4
        if (found := _rank(source)) != wanted:
            return f"its input has {found} dimensions, not {wanted}"
    if node.target is aten.mean.dim and (dtype := arguments(node)[3]) is not None:
        return f"it changes the type to {dtype}"
    if ROLES[node.target] is Role.CLAMP:
        low, high = clamp_bounds(node)
        if low > 0 or (high is not None and high < 0):
            return (
                f"0 is not between its bounds, {low:g} and {high:g}, and is a value of every grid"
            )
    return ""


def _rank(node: object) -> int:
    assert isinstance(node, fx.Node)  # noqa: S101  # an operator reads a tensor first
    rank: int = node.meta["val"].ndim
    return rank


def _floats(calls: Sequence[fx.Node], patterns: Sequence[str]) -> set[str]:
    from fnmatch import fnmatchcase

    fitting = {
        pattern: {node.name for node in calls if fnmatchcase(place(node), pattern)}
        for pattern in patterns
    }
    floats = set[str]().union(*fitting.values())
    for node in calls:
        # A clamp goes with what it clamps, so that the two never stand on different sides.
        if ROLES.get(node.target) is Role.CLAMP:
            source = _clamped(node)
            if source.name in floats:
                floats.add(node.name)
            elif source.op == "call_function":
                floats.discard(node.name)
    for pattern, found in fitting.items():
        if not found:
            raise ConfigError(
                f"The pattern {pattern!r} of keep_float fits no module.",
                hint="Modules are called as in `edgese quantize --analyze`: "
                + ", ".join(list(dict.fromkeys(filter(None, map(place, calls))))[:3])
                + " ...",
            )
        if not found & floats:
            raise ConfigError(
                f"The pattern {pattern!r} of keep_float fits activations alone, such as a ReLU, "
                "which are what the layer before them is.",
                hint="Name the module of that layer.",
            )
    weighted = {node.name for node in calls if node.target in WEIGHTED}
    if patterns and weighted and weighted <= floats:
        raise ConfigError(
            f"keep_float leaves no layer in integers: {', '.join(map(repr, patterns))}.",
            hint="Keep fewer modules in float, or take the recipe fp32.",
        )
    return floats


def _clamped(node: fx.Node) -> fx.Node:
    source = node.args[0]
    assert isinstance(source, fx.Node)  # noqa: S101  # a clamp reads a tensor
    return source


def _groups(
    module: fx.GraphModule, calls: Sequence[fx.Node], floats: set[str], bare: set[str]
) -> list[list[fx.Node]]:
    """Nodes behind which a grid stands, those of one grid together."""
    leader: dict[fx.Node, fx.Node] = {}

    def find(node: fx.Node) -> fx.Node:
        while leader[node] is not node:
            node = leader[node]
        return node

    inputs = [node for node in module.graph.nodes if node.op == "placeholder"]
    for node in (*inputs, *calls):
        has_reader = node.name not in floats or any(
            user.op == "call_function" and user.name not in floats for user in node.users
        )
        if has_reader and node.name not in bare:
            leader[node] = node
    for node in calls:
        if node not in leader or node.name in floats or ROLES[node.target] is not Role.SHARED:
            continue
        joined = [find(source) for source in node.all_input_nodes if source in leader]
        for source in joined:
            # Where grids are bound otherwise, by a clamp or a sigmoid, codes are made anew instead.
            if _bound(source, floats) == _bound(joined[0], floats):
                leader[find(node)] = find(source)
    order = {node: index for index, node in enumerate(module.graph.nodes)}
    groups: dict[fx.Node, list[fx.Node]] = {}
    for node in leader:
        groups.setdefault(find(node), []).append(node)
    sorted_groups = [sorted(group, key=order.__getitem__) for group in groups.values()]
    return sorted(sorted_groups, key=lambda group: order[group[0]])


def _bound(node: fx.Node, floats: set[str]) -> object:
    """What fixes the grid behind a node beside the values that occur."""
    role = None if node.name in floats else ROLES.get(node.target)
    return clamp_bounds(node) if role is Role.CLAMP else role is Role.SIGMOID


def _point(members: list[fx.Node], floats: set[str]) -> Point:
    first = members[0]
    role = ROLES.get(first.target) if first.name not in floats else Role.OWN
    if role is Role.SIGMOID and all(
        ROLES.get(node.target) in (Role.SIGMOID, Role.SHARED) for node in members
    ):
        return Point(name=first.name, members=tuple(n.name for n in members), role=Role.SIGMOID)
    low, high = None, None
    if role is Role.CLAMP:
        low, high = clamp_bounds(first)
    return Point(
        name=first.name,
        members=tuple(node.name for node in members),
        role=Role.OWN,
        low=low,
        high=high,
    )


def clamp_bounds(node: fx.Node) -> tuple[float, float | None]:
    """Lowest and highest value that a canonical clamp lets pass."""
    if node.target is aten.relu.default:
        return 0.0, None
    low, high = node.args[1:3]
    return float(low), float(high)  # type: ignore[arg-type]  # canonical clamps hold numbers


def _constants(calls: Sequence[fx.Node], floats: set[str]) -> Iterator[str]:
    for node in calls:
        if node.target in (aten.add.Tensor, aten.mul.Tensor) and node.name not in floats:
            for source in node.all_input_nodes:
                if source.op == "get_attr":
                    yield source.name

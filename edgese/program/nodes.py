"""What whoever writes a quantized program down, node by node, asks of its nodes."""

from typing import TYPE_CHECKING, Any, Final

from edgese.program.forms import pair_grid
from edgese.records.artifact import Grid

if TYPE_CHECKING:
    from collections.abc import Container, Mapping

    from torch import Tensor, fx

QUANTIZE: Final = "quantized_decomposed.quantize_per_tensor.default"
DEQUANTIZE: Final = "quantized_decomposed.dequantize_per_tensor.default"
DEQUANTIZE_CHANNELS: Final = "quantized_decomposed.dequantize_per_channel.default"
WEIGHTED: Final = ("aten.conv2d.default", "aten.linear.default")


class Constants:
    """What the nodes give that do not depend on the program's input, each computed once."""

    def __init__(self, held: "Mapping[str, Tensor]") -> None:
        """Starts from the program's tensors, by the names of their placeholders."""
        self._held = held
        self._known: dict[fx.Node, Tensor] = {}

    def __getitem__(self, node: "fx.Node") -> "Tensor":
        from torch.fx.node import map_arg

        if node not in self._known:
            if node.op == "placeholder":
                self._known[node] = self._held[node.name].detach()
            else:
                operator: Any = node.target
                given: Any = map_arg(node.args, self.__getitem__)
                self._known[node] = operator(*given, **node.kwargs)
        return self._known[node]


def computed_nodes(graph: "fx.Graph") -> "set[fx.Node]":
    """The nodes that depend on the input of a graph whose weights are attributes."""
    computed: set[fx.Node] = set()
    for node in graph.nodes:
        if node.op == "placeholder" or computed.intersection(node.all_input_nodes):
            computed.add(node)
    return computed


def integer_grid(node: "fx.Node", computed: "Container[fx.Node]") -> Grid | None:
    """The grid of what an integer operator gives; None for one that computes in floats.

    An operator is an integer one where all that it reads comes off grids, and what it gives goes
    onto one and nowhere else.

    Args:
        computed: the nodes that depend on the program's input.
    """
    readers = list(node.users)
    if len(readers) != 1 or str(readers[0].target) != QUANTIZE:
        return None
    sources = node.all_input_nodes
    if str(node.target) in WEIGHTED:
        sources, weight = sources[:1], sources[1]
        if str(weight.target) != DEQUANTIZE_CHANNELS or weight in computed:
            return None
    if any(str(source.target) != DEQUANTIZE for source in sources):
        return None
    return pair_grid(readers[0])


def is_never_negative(node: "fx.Node") -> bool:
    """Whether an operator on floats gives nothing below zero."""
    operator = str(node.target)
    if operator in ("aten.hardtanh.default", "aten.hardtanh_.default"):
        return bool(arguments(node)[1] >= 0)
    return operator in ("aten.relu.default", "aten.relu_.default", "aten.sigmoid.default")


def arguments(node: "fx.Node") -> list[Any]:
    """All arguments of an operator in its schema's order, defaults included."""
    operator: Any = node.target
    given = list(node.args)
    return given + [
        node.kwargs.get(argument.name, argument.default_value)
        for argument in operator._schema.arguments[len(given) :]  # noqa: SLF001  # no other way
    ]


def argument_of(node: "fx.Node", *names: str) -> Any:  # noqa: ANN401  # whatever operators take
    """Return what an operator is given under the first of the names that its schema has.

    None where its schema has none of them, or where it is no operator of PyTorch.
    """
    schema = getattr(node.target, "_schema", None)
    if schema is None:
        return None
    given = {a.name: value for a, value in zip(schema.arguments, arguments(node), strict=True)}
    return next((given[name] for name in names if name in given), None)


def is_random(node: "fx.Node") -> bool:
    """Return whether an operator gives something else each time that it runs.

    Those of a training, such as dropout, do so in training mode alone, and not where they drop
    nothing.
    """
    import torch

    if torch.Tag.nondeterministic_seeded not in getattr(node.target, "tags", ()):
        return False
    if argument_of(node, "train", "training") is False:
        return False
    return bool(argument_of(node, "p", "dropout", "dropout_p") != 0)


def shape_of(node: "fx.Node") -> tuple[int, ...]:
    """The shape of what a node gives."""
    return tuple(int(size) for size in node.meta["val"].shape)


def two(sizes: Any) -> tuple[int, int]:  # noqa: ANN401  # operators take a number or a list
    """Height and width, from both or from one number for both."""
    height, width = (sizes, sizes) if isinstance(sizes, int) else (sizes[0], sizes[-1])
    return height, width

"""How a graph falls into pieces when a delegate takes some of its operators. Pure."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Node:
    """An operator of a graph, with names or numbers of its tensors; constants are left out."""

    operator: str
    inputs: tuple[str | int, ...]
    outputs: tuple[str | int, ...]


def pieces(nodes: Sequence[Node], taken: Sequence[bool]) -> tuple[tuple[int, ...], ...]:
    """The pieces that a delegate executes, as indices of nodes.

    A piece is made as large as it can be before operators of the processor must run in between.
    Source: tensorflow/lite/graph_info.cc, PartitionGraphIntoIndependentNodeSubsets; runtimes for
    ONNX group likewise.

    Args:
        nodes: in an order in which they can be executed.
        taken: of each, whether the delegate takes it.
    """
    made = {tensor for node in nodes for tensor in node.outputs}
    known: set[str | int] = set()
    left = list(range(len(nodes)))
    found: list[tuple[int, ...]] = []
    wanted = bool(taken[0]) if taken else False
    while left:
        piece: list[int] = []
        later: list[int] = []
        # One pass is enough: nodes stand behind those whose results they need.
        for index in left:
            node = nodes[index]
            ready = all(tensor in known or tensor not in made for tensor in node.inputs)
            if ready and bool(taken[index]) == wanted:
                piece.append(index)
                known.update(node.outputs)
            else:
                later.append(index)
        if len(later) == len(left) and not _any_ready(nodes, later, known, made):
            raise ValueError("The nodes are in no order in which they can be executed.")
        if wanted and piece:
            found.append(tuple(piece))
        left = later
        wanted = not wanted
    return tuple(found)


def _any_ready(
    nodes: Sequence[Node], left: Sequence[int], known: set[str | int], made: set[str | int]
) -> bool:
    return any(
        all(tensor in known or tensor not in made for tensor in nodes[index].inputs)
        for index in left
    )


def counted_without(nodes: Sequence[Node], refused: Collection[str], operator: str) -> int:
    """How many pieces there were if ``operator`` were not among those that are refused."""
    taken = [node.operator not in refused or node.operator == operator for node in nodes]
    return len(pieces(nodes, taken))


def counts(nodes: Sequence[Node]) -> dict[str, int]:
    """How many nodes there are of each kind."""
    return dict(Counter(node.operator for node in nodes))

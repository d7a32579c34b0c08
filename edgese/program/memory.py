"""How much memory it takes to run a graph."""

import math
from collections.abc import Iterator
from typing import Final

from torch import Tensor, fx

_FLOAT: Final = 4
# Tensors of the largest size that are there at once: what an operator reads and gives, and copies.
_AT_ONCE: Final = 8


def largest_bytes(graph: fx.Graph) -> int:
    """Return the bytes of one image's share of the largest tensor that a graph computes."""
    return max(_sizes(graph), default=0)


def running_mb(graph: fx.Graph, batch: int, *, gradients: bool = False) -> float:
    """Return about what one batch takes while it runs through a graph, in MiB.

    Args:
        gradients: keeps every tensor, and some of their gradients.
    """
    kept = 2 * sum(_sizes(graph)) if gradients else 0
    return batch * (kept + _AT_ONCE * largest_bytes(graph)) / 2**20


def _sizes(graph: fx.Graph) -> Iterator[int]:
    for node in graph.nodes:
        if node.op == "call_function" and isinstance(node.meta.get("val"), Tensor):
            yield math.prod(node.meta["val"].shape[1:]) * _FLOAT

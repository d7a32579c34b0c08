"""Arguments of operators as plain JSON, and back.

Numbers, truth values, nothing and lists are themselves. All else is an object of one key: a node of
the graph, a text, or a word of a closed list for what JSON has no value for.
"""

import math
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import torch

_DEEPEST: Final = 4


@cache
def words() -> dict[str, dict[str, Any]]:
    """Return the words of each kind with what they stand for."""
    import torch

    names = {
        "dtype": [name for name, value in vars(torch).items() if isinstance(value, torch.dtype)],
        "layout": ["strided"],
        "memory_format": ["contiguous_format", "preserve_format", "channels_last"],
    }
    return {kind: {name: vars(torch)[name] for name in known} for kind, known in names.items()} | {
        "device": {"cpu": torch.device("cpu")},
        "float": {name: float(name) for name in ("nan", "inf", "-inf")},
    }


def word_of(kind: "torch.dtype") -> str:
    """Return the word of a type of numbers."""
    return str(kind).removeprefix("torch.")


def as_json(value: object) -> Any:  # noqa: ANN401  # what JSON takes
    """Return an argument of a torch.fx node as plain JSON.

    Raises:
        TypeError: there is no form of it.
    """
    from torch import fx

    if _is_itself(value):
        return value
    if isinstance(value, list | tuple):
        return [as_json(one) for one in value]
    if isinstance(value, fx.Node):
        return {"node": value.name}
    if isinstance(value, str):
        return {"text": value}
    for kind, known in words().items():
        for word, meaning in known.items():
            # By how they are written: nan is not equal to itself.
            if type(value) is type(meaning) and repr(value) == repr(meaning):
                return {kind: word}
    raise TypeError(f"{value!r}, a {type(value).__name__}")


def _is_itself(value: object) -> bool:
    return (
        value is None
        or type(value) in (bool, int)
        or (type(value) is float and math.isfinite(value))
    )


def from_json(value: object, nodes: Mapping[str, Any], depth: int = 0) -> Any:  # noqa: ANN401  # what operators take
    """Return an argument of a torch.fx node.

    Args:
        nodes: by name; those that are computed before.

    Raises:
        ValueError: it is no argument, or the node is not there.
    """
    if _is_itself(value):
        return value
    if isinstance(value, list) and depth < _DEEPEST:
        return [from_json(one, nodes, depth + 1) for one in value]
    if isinstance(value, dict) and len(value) == 1:
        ((kind, word),) = value.items()
        if kind == "text" and isinstance(word, str):
            return word
        known = nodes if kind == "node" else words().get(kind, {})
        if isinstance(word, str) and word in known:
            return known[word]
        if kind == "node":
            raise ValueError(f"{str(word)[:100]!r} is used and was not computed before")
    raise ValueError(f"{str(value)[:100]} is no argument of an operator")

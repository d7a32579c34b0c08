"""Names of classes."""

from functools import cache
from importlib import resources
from typing import Literal


def labels_of(labels: Literal["imagenet-1k"] | tuple[str, ...]) -> tuple[str, ...]:
    """The names of the classes in the order of their index, from what a spec says of them."""
    return _imagenet_1k() if labels == "imagenet-1k" else labels


@cache
def _imagenet_1k() -> tuple[str, ...]:
    # A readable name of each of the set's 1000 WordNet synsets, in the order of the synset numbers.
    # Source: torchvision 0.28, torchvision/models/_meta.py (BSD-3-Clause), where all differ; only
    # their case tells "Cardigan" (264, a dog) from "cardigan" (474).
    text = resources.files("edgese.data").joinpath("imagenet_1k.txt").read_text(encoding="utf-8")
    return tuple(text.splitlines())

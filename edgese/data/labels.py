"""Names of classes."""

from functools import cache
from importlib import resources
from pathlib import Path
from typing import Literal

from edgese.bounds import LABELS_BYTES, content
from edgese.errors import InputError


def labels_of(labels: Literal["imagenet-1k"] | tuple[str, ...]) -> tuple[str, ...]:
    """The names of the classes in the order of their index, from what a spec says of them."""
    return _imagenet_1k() if labels == "imagenet-1k" else labels


def label_names(path: Path) -> tuple[str, ...]:
    """The names of classes in a text file, one a line; empty lines at its end do not count.

    Raises:
        InputError: it cannot be read, or a line is empty.
    """
    try:
        text = content(path, "file of labels", LABELS_BYTES, hint="Name a text file.")
        lines = text.decode("utf-8").rstrip().splitlines()
    except UnicodeDecodeError as error:
        raise InputError(
            f"The labels {path} are no UTF-8 text.", hint="Save it as UTF-8."
        ) from error
    names = tuple(line.strip() for line in lines)
    if not names or "" in names:
        line = names.index("") + 1 if names else 1
        raise InputError(
            f"Line {line} of the labels {path} is empty.", hint="Write one class in each line."
        )
    return names


@cache
def _imagenet_1k() -> tuple[str, ...]:
    # A readable name of each of the set's 1000 WordNet synsets, in the order of the synset numbers.
    # Source: torchvision 0.28, torchvision/models/_meta.py (BSD-3-Clause), where all differ; only
    # their case tells "Cardigan" (264, a dog) from "cardigan" (474).
    text = resources.files("edgese.data").joinpath("imagenet_1k.txt").read_text(encoding="utf-8")
    return tuple(text.splitlines())

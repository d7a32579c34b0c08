"""Accuracies that others published; a file in calibration/accuracy."""

from typing import Annotated

import msgspec

from edgese.records.base import Record


class PublishedAccuracy(Record, frozen=True):
    """Top-1 of a model with a recipe, in percent.

    Attributes:
        resolution: height and width; None is the model's own.
        source: a key of ``urls``.
    """

    model: str
    recipe: str
    top1: Annotated[float, msgspec.Meta(ge=0, le=100)]
    source: str
    resolution: tuple[int, int] | None = None
    dataset: str = "imagenet-1k"


class AccuracyTable(Record, frozen=True):
    """calibration/accuracy/published.toml.

    Attributes:
        urls: where a source can be read, by the words that specs and ``accuracy`` use for it.
        pictures: how many a data set's accuracy is counted on, by its name.
    """

    urls: dict[str, str]
    pictures: dict[str, int]
    accuracy: tuple[PublishedAccuracy, ...] = ()

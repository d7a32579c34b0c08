"""Accuracies that others published; a file in calibration/accuracy."""

from edgese.records.base import Record
from edgese.records.bounds import Count, Percent, Side


class PublishedAccuracy(Record, frozen=True):
    """Top-1 of a model with a recipe, in percent.

    Attributes:
        resolution: height and width; None is the model's own.
        source: a key of ``urls``.
    """

    model: str
    recipe: str
    top1: Percent
    source: str
    resolution: tuple[Side, Side] | None = None
    dataset: str = "imagenet-1k"


class AccuracyTable(Record, frozen=True):
    """calibration/accuracy/published.toml.

    Attributes:
        urls: where a source can be read, by the words that specs and ``accuracy`` use for it.
        pictures: how many a data set's accuracy is counted on, by its name.
    """

    urls: dict[str, str]
    pictures: dict[str, Count]
    accuracy: tuple[PublishedAccuracy, ...] = ()

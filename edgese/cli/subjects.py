"""What is to be profiled as artifacts: those that were named, and those that models become."""

from collections.abc import Sequence
from pathlib import Path

from edgese import catalog, project, store
from edgese.conversion.api import convert
from edgese.conversion.outcome import error_of
from edgese.conversion.run import Report
from edgese.errors import ConfigError
from edgese.models.registry import find_model
from edgese.program.stored import is_program


def artifacts_of(
    subjects: Sequence[str],
    *,
    targets: Sequence[str],
    recipe: str | None,
    weights: str | None,
    data: str | None,
    resolution: int | tuple[int, int] | None,
    classes: int | None,
    out: Path,
    progress: Report | None,
) -> list[Path]:
    """The artifacts of subjects; models are converted into ``out``, through the cache.

    A model has random weights where none are named, and its integers are found with the embedded
    pictures: what an artifact costs depends on neither.

    Args:
        targets, recipe, weights, data, resolution, classes: of models alone.

    Raises:
        ConfigError: no such model, a model without a target, or settings of models where there is
            none.
        EdgeseError: one could not be converted, of the kind that its target ended in.
        Others as `edgese.conversion.api.convert`.
    """
    models = [subject for subject in subjects if not _is_artifact(subject)]
    asked = {
        "recipe": recipe,
        "weights": weights,
        "data": data,
        "resolution": resolution,
        "classes": classes,
    }
    given = [name for name, value in asked.items() if value is not None]
    if given and not models:
        raise ConfigError(
            f"--{given[0]} was given, and artifacts are measured as they are.",
            hint="Name the model instead, or convert it with `edgese convert`.",
        )
    for model in models:
        if not is_program(model):
            find_model(model)
    if models and not targets:
        raise ConfigError(
            f"{models[0]} is a model, and no target was named to convert it to.",
            hint="Give --target tflite, onnxruntime, executorch or coreml, or name an artifact.",
        )
    found: list[Path] = []
    for subject in subjects:
        if _is_artifact(subject):
            found.append(Path(subject))
            continue
        chosen = catalog.recipe(recipe) if recipe else None
        integer = chosen is not None and chosen.is_integer
        stored = is_program(subject)
        for outcome in convert(
            subject,
            targets,
            weights=None if stored else weights or project.weights(subject) or "none",
            recipe=None if stored else recipe,
            data=data or ("embedded" if integer and not stored else None),
            resolution=resolution,
            classes=classes,
            out=out,
            strict=False,
            progress=progress,
        ):
            # How fast it is does not depend on what it answers: one that collapsed has a latency.
            if not outcome.artifact:
                raise error_of(outcome, f"{subject} for {outcome.target}")
            found.append(Path(outcome.artifact))
    return found


def _is_artifact(subject: str) -> bool:
    """Whether a subject is the file of a target, there or not."""
    return bool(catalog.target_of(subject)) or (
        store.manifest_path(Path(subject)).is_file() and not is_program(subject)
    )

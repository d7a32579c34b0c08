"""``edgese train``, as a function."""

import hashlib
import platform
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Final

import torch

from edgese import catalog, project, store
from edgese.data.classes import ClassNames
from edgese.data.digits import DIGITS, digit_pictures
from edgese.data.labels import labels_of
from edgese.data.sources import Pictures, find_pictures, held_out
from edgese.errors import Collapsed, ConfigError, stage
from edgese.models.cost import cost
from edgese.models.registry import customized, find_model
from edgese.models.weights import UNTRAINED, save_weights
from edgese.parallel import own_settings, torch_threads
from edgese.paths import as_optional_path, check_type
from edgese.records.model import ModelSpec
from edgese.records.training import Advance, TrainingLog, TrainingRecipe, TrainingResult
from edgese.seals import sealed
from edgese.training.checkpoint import CHECKPOINT
from edgese.training.log import CURVE, LOG, TABLE
from edgese.training.loop import TrainingData, fit
from edgese.training.plan import Plan, adapted
from edgese.training.processes import Processes, together
from edgese.training.start import Start, named_classes, starting_network, teacher_network
from edgese.version import __version__

WEIGHTS: Final = "weights.safetensors"
RESULT: Final = "result.json"
HOLDOUT: Final = 0.1
_LOCK: Final = ".edgese-training.lock"
_PACKAGES: Final = ("torch", "numpy", "pillow")


@own_settings()
def train(
    model: str | Path | ModelSpec,
    data: str | Path = DIGITS,
    *,
    recipe: str | TrainingRecipe = "finetune",
    weights: str | Path | None = None,
    out: str | Path | None = None,
    classes: int | None = None,
    resolution: int | tuple[int, int] | None = None,
    split: str = "",
    val: str | Path | None = None,
    val_split: str = "",
    holdout: float | None = None,
    labels: bool = True,
    teacher: str | Path | None = None,
    teacher_model: str | Path = "",
    epochs: float | None = None,
    batch: int | None = None,
    lr: float | None = None,
    precision: str | None = None,
    seed: int = 0,
    device: str = "",
    threads: int | None = None,
    workers: int | None = None,
    resume: bool = False,
    strict: bool = True,
    progress: Callable[[Advance], None] | None = None,
) -> TrainingResult:
    """Trains a model from scratch or further, and leaves its weights with its spec in them.

    Started by torchrun, processes share each step, and the first one writes and reports.

    Args:
        model: a model's name, a spec file or a spec.
        data: class folders, a CSV file, tar shards (a pattern or a folder of them), or "digits",
            the embedded handwritten ones.
        recipe: a name in calibration/training, or a recipe. One that keeps BatchNorm's statistics
            from the first step on ("finetune", "qat") needs weights that have some.
        weights: to begin with: a file, "imagenet", or "none" for freshly initialised ones.
        out: folder of this run.
        classes: of the classifier; one that the weights do not have is new.
        resolution: height and width, or the side of a square; None for the model's own.
        split: of a CSV with a column split, only this one.
        val: validation pictures; else ``val_split`` of the data, or a held-out share of them.
        val_split: of the validation CSV.
        holdout: that share, 0.1 by default; 0 validates on nothing.
        labels: False takes pictures without regard to classes, for recipes that follow a teacher.
        teacher: weights of the network that is followed, for recipes that distil.
        teacher_model: its name or spec file; the model's own by default.
        epochs, batch, lr, precision: instead of the recipe's. With another batch the learning rate
            changes in proportion, unless one is given.
        seed: of the order of pictures, their variation, and of what is initialised.
        device: as torch calls it; a GPU where there is one.
        threads: that a CPU computes with; torch's own choice by default.
        workers: processes that prepare pictures.
        resume: goes on from the checkpoint in ``out``.
        strict: raises where the training came to nothing. False returns the result, whose
            ``collapse`` says why its weights must not be used. They are kept in either case.
        progress: is told how far it is.

    Raises:
        ConfigError: unknown names, settings that do not fit together, a folder that holds another
            run, or none to resume.
        InputError: weights or pictures that are missing, unreadable or of other classes.
        StoreError: the checkpoint is another run's.
        Collapsed: the checkpoint's weights are NaN or infinite; with ``strict``, the training came
            to nothing.
        OutputError: the folder cannot be written, or is full.
        MissingDependency: a package is not installed.
        KeyboardInterrupt: it was interrupted; the checkpoint is there.
    """
    check_type("recipe", recipe, str, TrainingRecipe)
    check_type("data", data, str, Path)
    found = catalog.training_recipe(recipe) if isinstance(recipe, str) else recipe
    found = adapted(found, epochs=epochs, batch=batch, lr=lr, precision=precision)
    sides = (resolution, resolution) if isinstance(resolution, int) else resolution
    spec = _spec(model, classes, sides, found)
    if weights is None:
        raise ConfigError(
            f"No weights were named for {spec.name} to begin with.",
            hint="Give --weights FILE or imagenet to go on from those, or none to train from "
            "scratch.",
        )
    if str(weights) == UNTRAINED and found.distillation is None:
        _learns_from_scratch(found, spec.name)
    folder = as_optional_path(out or None, "out") or project.out() / f"{spec.name}-{found.name}"
    with together(device) as processes, _claimed(folder, processes, resume=resume):
        start = starting_network(
            spec, str(weights), resolution=sides, own_classes=classes is not None, seed=seed
        )
        pictures = _pictures(
            start.network.spec,
            _Asked(str(data), split, str(val or ""), val_split, holdout, labels=labels),
        )
        named_classes(start.network, pictures.train.class_names)
        followed = (
            teacher_network(start.network.spec, str(teacher_model), str(teacher))
            if teacher
            else None
        )
        with torch_threads(threads or torch.get_num_threads()), _training(spec.name):
            log = fit(
                start.network,
                pictures,
                found,
                folder=folder,
                seed=seed,
                teacher=followed.network if followed else None,
                resume=resume,
                depends=_depends(start, followed),
                processes=processes,
                workers=workers,
                progress=progress,
            )
        result = _result(start, followed, pictures, log, folder, processes)
        if processes.first:
            store.write_record(result, folder / RESULT)
            (folder / CHECKPOINT).unlink(missing_ok=True)
    return sound(result) if strict else result


def sound(result: TrainingResult) -> TrainingResult:
    """Return a training that came to something, for whoever goes on with its weights.

    Raises:
        Collapsed: it did not.
    """
    if result.collapse:
        raise Collapsed(
            f"The training of {result.model.name} with the recipe {result.log.recipe.name} "
            f"collapsed: {result.collapse}.",
            hint=f"Remove {Path(result.weights).parent} to train again; give another recipe, more "
            "epochs, or more images.",
        )
    return result


@dataclass(frozen=True)
class _Asked:
    """The arguments that say which pictures."""

    data: str
    split: str
    val: str
    val_split: str
    holdout: float | None
    labels: bool


def _spec(
    model: str | Path | ModelSpec,
    classes: int | None,
    resolution: tuple[int, int] | None,
    recipe: TrainingRecipe,
) -> ModelSpec:
    native = model if isinstance(model, ModelSpec) else find_model(str(model))
    spec = customized(native, classes=classes, resolution=resolution)
    if not spec.classes:
        raise ConfigError(
            f"{spec.name} has no classifier to train.", hint="Give --classes with 1 or more."
        )
    own = spec.preprocessing
    first = Plan(recipe=recipe, pictures=1, height=own.height, width=own.width).phase(0)
    # Raises where the smallest pictures of the run leave nothing to compute with.
    cost(customized(spec, resolution=(first.height, first.width)))
    return spec


def _learns_from_scratch(recipe: TrainingRecipe, name: str) -> None:
    """Refuses a recipe that keeps BatchNorm's statistics where there are none to keep.

    Freshly initialised ones are of no image: networks of MBConv blocks then learn nothing at all,
    and others little (docs/measurements.md).
    """
    if recipe.norm_learns:
        return
    every = {each: catalog.training_recipe(each) for each in catalog.training_recipe_names()}
    fit_for_it = sorted(
        each for each, it in every.items() if it.norm_learns and it.distillation is None
    )
    raise ConfigError(
        f"The training recipe {recipe.name} goes on from trained weights: it keeps the statistics "
        f"that BatchNorm has, and {name} without weights has none.",
        hint=f"Give --recipe with one that trains from scratch ({', '.join(fit_for_it)}), or "
        "--weights FILE or imagenet.",
    )


@contextmanager
def _claimed(folder: Path, processes: Processes, *, resume: bool) -> Iterator[None]:
    """Keeps the folder for this run alone."""

    def refuse() -> None:
        raise ConfigError(
            f"Another process is training in {folder}.", hint="Give another --out, or wait."
        )

    if (folder / RESULT).is_file():
        # Killed between its last two steps, it has left the checkpoint.
        (folder / CHECKPOINT).unlink(missing_ok=True)
        raise ConfigError(
            f"{folder} holds a finished training.", hint="Give another --out, or remove the folder."
        )
    if (folder / CHECKPOINT).is_file() and not resume:
        raise ConfigError(
            f"{folder} holds a training that was interrupted.",
            hint="--resume goes on with it; else give another --out, or remove the folder.",
        )
    if processes.first:
        store.writable_folder(folder)
    with store.locked(folder, name=_LOCK, on_wait=refuse) if processes.first else nullcontext():
        yield


def _training(name: str) -> AbstractContextManager[None]:
    return stage(
        f"train {name}", ConfigError, hint="A smaller --batch or --resolution takes less memory."
    )


def _pictures(spec: ModelSpec, asked: _Asked) -> TrainingData:
    if asked.holdout is not None and (asked.val or asked.val_split):
        raise ConfigError(
            "A share to hold out was given, and validation pictures too.",
            hint="Give --holdout, or --val and --val-split.",
        )
    names = ClassNames(classes=spec.classes, labels=labels_of(spec.labels))
    own: Pictures | None = None
    train: Pictures
    if asked.data == DIGITS:
        if asked.split:
            raise ConfigError("The digits have no splits to choose from.", hint="Leave it out.")
        train, own = digit_pictures(names)
    else:
        train = find_pictures(asked.data, names, split=asked.split, with_labels=asked.labels)
    if train.class_names:
        names = ClassNames(classes=spec.classes, labels=train.class_names)
    val: Pictures | None
    if asked.val or asked.val_split:
        val = find_pictures(
            asked.val or asked.data, names, split=asked.val_split, with_labels=asked.labels
        )
    elif own is not None and asked.holdout is None:
        val = own
    else:
        share = HOLDOUT if asked.holdout is None else asked.holdout
        train, val = held_out(train, share) if share else (train, None)
    return TrainingData(train=train, val=val, preprocessing=spec.preprocessing)


def _depends(start: Start, teacher: Start | None) -> dict[str, str]:
    spec = start.network.spec
    return {
        "model": spec.name,
        "spec": hashlib.sha256(spec.to_json().encode()).hexdigest(),
        "weights": start.weights.sha256 or start.weights.source,
        "teacher": teacher.weights.sha256 if teacher else "none",
    }


def _result(
    start: Start,
    teacher: Start | None,
    pictures: TrainingData,
    log: TrainingLog,
    folder: Path,
    processes: Processes,
) -> TrainingResult:
    path = folder / WEIGHTS
    if processes.first:
        save_weights(start.network.cpu(), path)
    result = TrainingResult(
        model=start.network.spec,
        log=log,
        start=start.weights,
        classifier=start.classifier,
        teacher=teacher.weights if teacher else None,
        train=pictures.train.info,
        val=pictures.val.info if pictures.val else None,
        weights=str(path),
        sha256=store.sha256_of(path) if processes.first else "",
        files=tuple(name for name in (LOG, TABLE, CURVE) if (folder / name).is_file()),
        seconds=round(sum(row.seconds for row in log.epochs), 3),
        versions={"python": platform.python_version()} | {p: version(p) for p in _PACKAGES},
        edgese=__version__,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    return sealed(result)

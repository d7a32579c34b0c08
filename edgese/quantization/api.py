"""`quantize`: from a model and calibration pictures to a stored quantized program."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from edgese import catalog, store
from edgese.data.calibration import EMBEDDED, calibration_set
from edgese.data.classes import ClassNames
from edgese.data.sources import Pictures, find_pictures
from edgese.errors import Collapsed, ConfigError
from edgese.models.keys import EXPORTERS, toolchain
from edgese.models.subject import Subject, find_subject
from edgese.parallel import own_settings
from edgese.paths import as_path, check_type
from edgese.program.storage import SUFFIX, write_program
from edgese.protocols import Progress
from edgese.quantization.integer import Integer, exported_with_pictures
from edgese.records.artifact import ProgramManifest, Recipe, WeightsInfo
from edgese.records.model import ModelSpec, Preprocessing
from edgese.records.quantization import Quantization, QuantizedProgram
from edgese.records.training import Advance, TrainingRecipe
from edgese.version import __version__

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import nn
    from torch.export import ExportedProgram

    from edgese.quantization.ptq import Quantized

OUT: Final = Path("edgese-out")
RECIPE: Final = "int8"
# Pictures that layers are analysed on: each layer's share of the noise shows on few.
_ANALYSED: Final = 16


@own_settings()
def quantize(
    subject: "str | Path | ModelSpec | nn.Module",
    data: str | Path,
    *,
    weights: str | Path | None = None,
    recipe: str | Recipe = RECIPE,
    split: str = "",
    resolution: int | tuple[int, int] | None = None,
    classes: int | None = None,
    features: bool = False,
    preprocessing: Preprocessing | None = None,
    labels: Sequence[str] = (),
    name: str | None = None,
    batch: int = 1,
    train: str | Path | None = None,
    train_split: str = "",
    epochs: float | None = None,
    resume: bool = False,
    analyze: bool = False,
    out: str | Path = OUT,
    strict: bool = True,
    progress: Progress | None = None,
) -> QuantizedProgram:
    """Quantizes a model once for all targets and stores the program.

    ::

        made = edgese.quantize("efficientnet_lite0", "pictures", weights="imagenet")
        rows = edgese.convert(made.program, "all")

    Args:
        subject: a model's name, a spec file, a spec, or a torch module of (N, 3, H, W) to
            (N, classes).
        data: calibration pictures: a folder, a CSV with a column file, or "embedded". No labels are
            needed.
        weights: a file, "imagenet" or "none"; not for a module.
        recipe: an integer one, or its name.
        split: of a CSV with a column split, only this one.
        resolution: side, or height and width, in pixels; None for the model's own.
        classes: outputs of the classifier; None for the model's own.
        features: leaves the classifier out.
        preprocessing, labels, name: of a module; the first is needed.
        batch: pictures that the program takes at once.
        train: what a recipe that trains learns from: a folder, a CSV, or tar shards; all of
            ``data`` by default. Labels are not looked at.
        train_split: of a CSV with a column split, only this one.
        epochs: of a recipe that trains; None for its own number.
        resume: goes on with the training that was interrupted in ``out``.
        analyze: also quantizes each layer alone, to tell what it costs and why.
        out: folder for the program and its manifest; a training has a folder of its own in it.
        strict: raises where the quantization came to nothing. False returns the program, which is
            stored in either case; where its ``collapse`` is not "", it must not be shipped.

    Returns:
        The stored program.

    Raises:
        ConfigError: something asked for does not exist or does not go with the recipe, or the
            recipe is no integer one.
        InputError: weights or pictures are missing, damaged, too few or of one colour.
        ConversionError: torch cannot export the model, or an operator has no integer form.
        MissingDependency: the weights' package is not installed.
        OutputError: ``out`` cannot be written, or is full.
        Collapsed: the checkpoint of a training is NaN or infinite; with ``strict``, the quantized
            network came to nothing.
        KeyboardInterrupt: a training was interrupted; its checkpoint is there.
    """
    from edgese.quantization.ptq import quantized

    check_type("recipe", recipe, str, Recipe)
    check_type("data", data, str, Path)
    folder = as_path(out, "out")
    chosen = integer_recipe(recipe) if isinstance(recipe, str) else recipe
    found = find_subject(
        subject,
        weights=weights,
        resolution=resolution,
        classes=classes,
        features=features,
        preprocessing=preprocessing,
        labels=labels,
        name=name,
        batch=batch,
    )
    how = chosen.quantization
    assert how is not None  # noqa: S101  # an integer recipe has it
    if not how.training and (train or train_split or epochs is not None or resume):
        raise ConfigError(
            f"The recipe {chosen.name!r} trains nothing, and a training was spoken of.",
            hint="--train, --epochs and --resume go with a recipe that trains, such as int8-qat.",
        )
    integer = Integer(recipe=chosen, pictures=calibration_set(data, how.pictures, split))
    store.writable_folder(folder)
    training = None
    if how.training:
        training = _training(
            how.training,
            epochs,
            learnt_from(train, train_split, data, split),
            folder / f"{found.name}-{chosen.name}-training",
            resume,
        )
    said = progress or _silent
    said("load the weights", 0.0)
    network, info = found.load()
    program, pictures, reference = exported_with_pictures(
        network, found.card, integer, batch=batch, on_stage=said
    )
    made = quantized(program, chosen, pictures, said, reference=reference)
    if training is not None:
        made = _trained(program, made, pictures, found, integer, training, said)
    quantization = Quantization(
        calibration=integer.pictures.calibration,
        fidelity=made.fidelity,
        integers=made.integers,
        collapse=made.diverged or (made.collapse if info.trained else ""),
        learnt_from=training.pictures.info if training else None,
        notes=made.notes,
    )
    kept = stored(made, found, info, chosen, quantization, batch=batch, folder=folder)
    if strict and kept.collapse:
        raise Collapsed(
            f"The quantization of {found.name} with the recipe {chosen.name} collapsed: "
            f"{kept.collapse}. {kept.program} is kept, and must not be shipped.",
            hint="Take another recipe, or calibration images like those that the network will "
            "see. analyze=True with strict=False reports which layers are at fault, as "
            "`edgese quantize --analyze` does.",
        )
    if not analyze:
        return kept
    from edgese.quantization.analysis import analysed

    some = pictures[:: max(1, len(pictures) // _ANALYSED)][:_ANALYSED]
    layers = analysed(
        made.module, made.plan, some, lambda done: said("quantize each layer alone", done)
    )
    return msgspec.structs.replace(kept, layers=layers)


@dataclass(frozen=True)
class _Training:
    """A training that is part of a recipe."""

    recipe: TrainingRecipe
    pictures: Pictures
    folder: Path
    resume: bool


def learnt_from(
    train: str | Path | None, train_split: str, data: str | Path, split: str
) -> Pictures:
    """What a training learns from; the teacher says what is right, so labels do not matter.

    Args:
        train, train_split: what was named for it; ``data`` and ``split`` where nothing was.

    Raises:
        InputError: nothing there.
        ConfigError: the embedded pictures, or a split of nothing, or of something that is no CSV.
    """
    if train_split and not train:
        raise ConfigError(
            f"The split {train_split!r} of no pictures to learn from was asked for.",
            hint="Give --train CSV beside --train-split; without, --split holds for both.",
        )
    source, part = (train, train_split) if train else (data, split)
    if str(source) == EMBEDDED:
        raise ConfigError(
            "The embedded pictures are crops of two photographs; nothing can be learnt from them.",
            hint="Give --data FOLDER, or --train FOLDER, with pictures like those that the network "
            "will see.",
        )
    return find_pictures(str(source), ClassNames(classes=1), split=part, with_labels=False)


def _training(
    name: str,
    epochs: float | None,
    pictures: Pictures,
    folder: Path,
    resume: bool,  # noqa: FBT001  # one caller
) -> _Training:
    from edgese.training.checkpoint import CHECKPOINT
    from edgese.training.plan import adapted

    started = (folder / CHECKPOINT).is_file()
    if started and not resume:
        raise ConfigError(
            f"{folder} holds a training that was interrupted.",
            hint="--resume goes on with it; else remove the folder.",
        )
    return _Training(
        adapted(catalog.training_recipe(name), epochs=epochs),
        pictures,
        folder,
        resume and started,
    )


def _trained(
    program: "ExportedProgram",
    made: "Quantized",
    pictures: "NDArray[np.float32]",
    subject: Subject,
    integer: Integer,
    training: _Training,
    said: Progress,
) -> "Quantized":
    """The network after its quantization-aware training."""
    from edgese.quantization.learning import learnt
    from edgese.training.checkpoint import CHECKPOINT
    from edgese.training.loop import TrainingData

    told = 0

    def tell(advance: Advance) -> None:
        nonlocal told
        if advance.epoch == told:
            return
        told = advance.epoch
        said(
            f"train, epoch {advance.epoch} of {advance.epochs}, loss {advance.loss:.4f}, "
            f"{advance.images_per_s:.1f} img/s, {advance.seconds_left / 60:.0f} min left",
            advance.step / advance.steps,
        )

    store.writable_folder(training.folder)
    result = learnt(
        program,
        made,
        training.recipe,
        TrainingData(
            train=training.pictures,
            val=None,
            preprocessing=subject.card.preprocessing,
        ),
        pictures,
        folder=training.folder,
        seed=integer.seed,
        resume=training.resume,
        depends={
            "model": subject.card.name,
            "weights": subject.weights.sha256 if subject.weights else "a module's own",
            "calibration": integer.pictures.identity(),
            "recipe": hashlib.sha256(integer.recipe.to_json().encode()).hexdigest(),
        },
        on_stage=said,
        on_advance=tell,
    )
    (training.folder / CHECKPOINT).unlink(missing_ok=True)
    return result


def integer_recipe(name: str) -> Recipe:
    """An integer recipe by its name.

    Raises:
        ConfigError: no such recipe, or one whose numbers no pictures decide.
    """
    found = catalog.recipe(name)
    if not found.is_integer:
        known = [n for n in catalog.recipe_names() if catalog.recipe(n).is_integer]
        raise ConfigError(
            f"The recipe {name!r} quantizes nothing.",
            hint=f"Integer recipes: {', '.join(known)}. "
            f"`edgese convert --recipe {name}` needs no quantized program.",
        )
    return found


def stored(
    made: "Quantized",
    subject: Subject,
    weights: WeightsInfo,
    recipe: Recipe,
    quantization: Quantization,
    *,
    batch: int,
    folder: Path,
) -> QuantizedProgram:
    """Writes a quantized program and its manifest, both or none.

    Raises:
        OutputError: the folder cannot be written, or is full.
    """
    import torch

    path = folder / f"{subject.name}-{recipe.name}{SUFFIX}"
    with store.staging(path, store.manifest_path(path)) as (new_program, new_manifest):
        write_program(made.program, new_program)
        manifest = ProgramManifest(
            program=path.name,
            sha256=store.sha256_of(new_program),
            size_bytes=store.size_of(new_program),
            recipe=recipe,
            model=subject.card,
            spec=subject.spec,
            weights=weights,
            quantization=quantization,
            batch=batch,
            torch=str(torch.__version__),
            toolchain=toolchain(EXPORTERS),
            edgese=__version__,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        new_manifest.write_text(manifest.to_json() + "\n", encoding="utf-8")
    return QuantizedProgram(
        program=str(path),
        manifest=str(store.manifest_path(path)),
        model=subject.card.name,
        recipe=recipe.name,
        size_bytes=manifest.size_bytes,
        calibrated_on=len(quantization.calibration.pictures) or quantization.fidelity.pictures,
        fidelity=quantization.fidelity,
        integers=quantization.integers,
        collapse=quantization.collapse,
        notes=quantization.notes,
    )


def _silent(stage: str, fraction: float) -> None:
    del stage, fraction

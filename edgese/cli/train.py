"""``edgese train``."""

import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from edgese import project
from edgese.cli.parsing import resolution_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgese.cli.ui import Bars
    from edgese.records.training import Advance, TrainingResult

EXAMPLE: Final = (
    "Example: edgese train se_resnet20_small --recipe digits --weights none --resolution 16"
)

# Between two lines where there is no terminal to show a bar on.
_QUIET_S: Final = 60.0


def train(
    subject: Annotated[
        str | None,
        typer.Argument(
            metavar="MODEL", help="A model's name or a spec file; default: edgese.toml's."
        ),
    ] = None,
    data: Annotated[
        str,
        typer.Option(
            help="A folder of class folders, a CSV with columns file and label, tar shards (a "
            "folder of them, or a pattern as in 'train-{000..009}.tar'), or 'digits'."
        ),
    ] = "digits",
    recipe: Annotated[
        str,
        typer.Option(
            help="digits-efficientnet, senet, efficientnet, efficientnetv2, finetune, cifar, "
            "digits, qat, or one in "
            "calibration/training beside your edgese.toml."
        ),
    ] = "finetune",
    weights: Annotated[
        str | None,
        typer.Option(
            help="To begin with: a .safetensors or .pth file, 'imagenet' (Lite0 to Lite2), or "
            "'none' to train from scratch."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of this run.  [default: edgese-out/MODEL-RECIPE]"),
    ] = None,
    classes: Annotated[
        int | None,
        typer.Option(min=1, help="Of the classifier; one that the weights do not have is new."),
    ] = None,
    resolution: Annotated[
        str | None, typer.Option(metavar="N|HxW", help="Input size in pixels.")
    ] = None,
    split: Annotated[str, typer.Option(help="Only rows whose column split has this value.")] = "",
    val: Annotated[
        str | None, typer.Option(help="Validation pictures, as --data; default: held out.")
    ] = None,
    val_split: Annotated[
        str, typer.Option(help="Validate on rows with this split, of --val or of --data.")
    ] = "",
    holdout: Annotated[
        float | None,
        typer.Option(
            min=0.0, max=0.9, help="Share of --data to validate on instead.  [default: 0.1]"
        ),
    ] = None,
    no_labels: Annotated[
        bool, typer.Option("--no-labels", help="Take pictures without classes; with a teacher.")
    ] = False,
    teacher: Annotated[
        str | None, typer.Option(help="Weights of the teacher, for recipes that distil.")
    ] = None,
    teacher_model: Annotated[
        str, typer.Option(help="The teacher's name or spec file.  [default: MODEL]")
    ] = "",
    epochs: Annotated[
        float | None, typer.Option(help="Instead of the recipe's; its schedule keeps its shape.")
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option(help="Pictures in a step; the recipe's learning rate changes with it."),
    ] = None,
    lr: Annotated[
        float | None, typer.Option(help="Learning rate, instead of the recipe's.")
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(help="auto, fp32 or bf16; auto is bf16 on GPUs.  [default: the recipe's]"),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Another seed is another run.")] = 0,
    device: Annotated[
        str, typer.Option(help="cpu, cuda or cuda:N.  [default: a GPU where there is one]")
    ] = "",
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads of a CPU.  [default: torch's choice]")
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=0, help="Processes that prepare pictures.  [default: by cores]"),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the interrupted run in --out.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Train a model from scratch, or trained weights further, on labelled pictures.

    After each epoch the folder has a checkpoint, a log (log.csv, log.json) and a curve; Ctrl-C ends
    the run after the current step, and --resume goes on to the very same result. What remains is
    weights.safetensors, for --weights of every command. On several GPUs or machines: torchrun
    --nproc-per-node N -m edgese train ...

    A training that comes to nothing reports COLLAPSED, keeps its weights and ends with exit code 6:
    the loss diverged or did not fall, or the answers are no better than chance.
    """
    from edgese.cli import ui
    from edgese.errors import Collapsed
    from edgese.training.api import train as run
    from edgese.training.checkpoint import CHECKPOINT
    from edgese.training.processes import is_first

    model = project.subject(subject)
    folder = out or project.out() / f"{Path(model).stem}-{recipe}"
    try:
        with ui.bars([model] if is_first() else []) as show:
            result = run(
                model,
                data,
                recipe=recipe,
                weights=weights or project.weights(model),
                out=folder,
                classes=classes,
                resolution=resolution_of(resolution),
                split=split,
                val=val,
                val_split=val_split,
                holdout=holdout,
                labels=not no_labels,
                teacher=teacher,
                teacher_model=teacher_model,
                epochs=epochs,
                batch=batch,
                lr=lr,
                precision=precision,
                seed=seed,
                device=device,
                threads=threads,
                workers=workers,
                resume=resume,
                strict=False,
                progress=_telling(model, show, live=sys.stderr.isatty()),
            )
    except KeyboardInterrupt:
        if is_first() and (folder / CHECKPOINT).is_file():
            ui.note(f"The checkpoint is in {folder}; the same command with --resume goes on.")
        raise
    if not is_first():
        return
    if json:
        ui.echo_json(result)
    else:
        show_training(result)
    if result.collapse:
        raise typer.Exit(Collapsed.exit_code)


def show_training(result: "TrainingResult") -> None:
    """The table of a training, and what stands in its folder."""
    from edgese.cli import ui

    log = result.log
    # A training that diverges in its first epoch has none that ended.
    last = log.epochs[-1] if log.epochs else None
    top1 = log.val
    interval = f"{100 * top1.interval.low:.1f} to {100 * top1.interval.high:.1f}" if top1 else ""
    ui.table(
        (
            "model",
            "recipe",
            "epochs",
            "loss",
            "val loss",
            "val top-1",
            "95 %",
            "as teacher",
            "img/s",
            "time",
            "weights",
        ),
        [
            (
                result.model.name,
                log.recipe.name,
                str(len(log.epochs)),
                f"{last.train_loss:.4f}" if last else "-",
                "-" if last is None or last.val_loss is None else f"{last.val_loss:.4f}",
                ui.percent(top1.share if top1 else None, 2),
                interval,
                ui.percent(last.val_agreement if last else None, 2),
                f"{last.images_per_s:.0f}" if last else "-",
                _duration(result.seconds),
                result.weights,
            )
        ],
        left=2,
        last_left=True,
    )
    others = ", ".join(result.files)
    ui.note(f"Beside the weights: {others}, result.json.")
    if find_spec("matplotlib") is None:
        ui.note("No curve was drawn: matplotlib is missing; pip install 'edgese[train]' brings it.")
    if result.classifier == "new" and result.start.trained:
        ui.note(f"The classifier is new: the weights' own has not {result.model.classes} classes.")
    if result.train.labelled_by == "order" and result.classifier == "new":
        ui.note("The model's classes are the folders' names, in sorted order.")
    elif result.train.labelled_by == "order":
        ui.note("The folders' names are no classes of the model; they were taken in sorted order.")
    if log.recipe.epochs is not None and log.recipe.batch > result.train.pictures:
        ui.note(
            f"{log.recipe.epochs:g} epochs of {result.train.pictures} images are {log.steps} steps "
            f"of {log.recipe.batch}; each step counts as one epoch here."
        )
    if result.collapse:
        ui.note(f"COLLAPSED: {result.collapse}.")
        ui.note("  Do not use these weights. Look whether the classes are right, then give another")
        ui.note("  --lr, more --epochs, more images, or another --recipe.")


def _telling(work: str, show: "Bars", *, live: bool) -> "Callable[[Advance], None]":
    """Shows an advance: on a terminal all the time, else once an epoch, and at most each minute."""
    told = (0, 0.0)

    def tell(advance: "Advance") -> None:
        nonlocal told
        epoch, before = told
        now = time.monotonic()
        if not live and advance.step < advance.steps:
            if advance.epoch == epoch or now - before < _QUIET_S:
                return
            told = advance.epoch, now
        show(
            work,
            f"epoch {advance.epoch} of {advance.epochs}, loss {advance.loss:.3f}, "
            f"{advance.images_per_s:.0f} img/s, {_duration(advance.seconds_left)} left",
            advance.step / advance.steps,
        )

    return tell


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"

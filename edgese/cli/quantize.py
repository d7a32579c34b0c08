"""``edgese quantize``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from edgese import project
from edgese.cli.parsing import resolution_of
from edgese.errors import Collapsed, ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgese.records.quantization import LayerCost, QuantizedProgram
    from edgese.records.selection import Ladder

PLAIN: Final = "int8"
TRAINED: Final = "int8-qat"
AUTO: Final = "auto"
TARGET: Final = "tflite"
MAX_DROP: Final = 0.5
# Layers that are worth a look; --json has all.
_SHOWN: Final = 15

EXAMPLE: Final = "Example: edgese quantize efficientnet_lite0 --weights imagenet --data pictures"


def quantize(
    subject: Annotated[
        str | None,
        typer.Argument(
            metavar="MODEL", help="A model's name or a spec file; default: edgese.toml's."
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="Calibration pictures: a folder, a CSV with a column file, or 'embedded' to try "
            "things out. Labels are not needed."
        ),
    ] = None,
    split: Annotated[str, typer.Option(help="Only rows whose column split has this value.")] = "",
    weights: Annotated[
        str | None,
        typer.Option(help="A .safetensors or .pth file, 'imagenet', or 'none' for random ones."),
    ] = None,
    recipe: Annotated[
        str,
        typer.Option(
            help="An integer recipe, or 'auto': the cheapest that loses no more than "
            "--max-drop on --judge."
        ),
    ] = PLAIN,
    qat: Annotated[
        bool,
        typer.Option("--qat", help="Quantization-aware training: short for --recipe int8-qat."),
    ] = False,
    max_drop: Annotated[
        float | None,
        typer.Option(help="auto: points of top-1 that may be lost.  [default: 0.5]"),
    ] = None,
    judge: Annotated[
        str | None,
        typer.Option(help="auto: labelled pictures, others than --data: class folders or a CSV."),
    ] = None,
    judge_split: Annotated[
        str, typer.Option(help="auto: of --judge, or of --data, only rows with this split.")
    ] = "",
    target: Annotated[
        str | None,
        typer.Option(help="auto: whose artifact is judged and timed.  [default: tflite]"),
    ] = None,
    resolution: Annotated[
        str | None, typer.Option(metavar="N|HxW", help="Input size in pixels.")
    ] = None,
    classes: Annotated[int | None, typer.Option(help="Outputs of the classifier.")] = None,
    batch: Annotated[int, typer.Option(min=1, help="Examples in one input.")] = 1,
    train: Annotated[
        str | None,
        typer.Option(
            help="What recipes that train learn from: a folder, a CSV or tar shards.  [default: "
            "all of --data]"
        ),
    ] = None,
    train_split: Annotated[
        str, typer.Option(help="Only rows of --train whose column split has this value.")
    ] = "",
    epochs: Annotated[
        float | None,
        typer.Option(min=0.01, help="Of recipes that train.  [default: the recipe's]"),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the interrupted training in --out.")
    ] = False,
    analyze: Annotated[
        bool,
        typer.Option(
            "--analyze",
            help="Also quantize each layer alone: what it costs at the output, and why.",
        ),
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the program.  [default: edgese-out]")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Quantize a model once for all targets, and store the quantized program.

    One program then serves every target with the same integers: give the .program file to `edgese
    convert`. Its manifest lists the calibration pictures with their hashes. How close it is to the
    float network is measured on those pictures; `edgese evaluate` measures the artifacts on others.

    --recipe auto climbs a ladder and stops at the first artifact that holds: plain post-training
    quantization, better ranges and corrections, the costliest layers in float where the target
    keeps its speed, quantization-aware training. It ends with 1 where none holds.

    A program whose answers are not the float network's any more is kept, reported as COLLAPSED, and
    ends with exit code 6.
    """
    from edgese.cli import ui
    from edgese.quantization import api

    if data is None:
        raise ConfigError(
            "No calibration pictures were named.",
            hint="Give --data FOLDER with pictures like those that the network will see, or, to "
            "try things out, --data embedded.",
        )
    if qat:
        if recipe not in (PLAIN, TRAINED):
            raise ConfigError(
                f"--qat stands for the recipe {TRAINED}, and --recipe names {recipe}.",
                hint="Leave one of them out.",
            )
        recipe = TRAINED
    model = project.subject(subject)
    named = weights or project.weights(model)
    if recipe == AUTO:
        from edgese.selection.ladder import climb

        if judge is None and not judge_split:
            raise ConfigError(
                "No pictures were named to judge by.",
                hint="Give --judge DATA, labelled and others than --data, or --judge-split.",
            )
        _check_unused(
            {"--analyze": analyze, f"--batch {batch}": batch != 1},
            AUTO,
            "Take it with the recipe that the ladder ends at.",
        )
        with ui.quiet_libraries(), ui.bars([model]) as show:
            ladder = climb(
                model,
                data,
                judged_on=judge or data,
                weights=named,
                split=split,
                judged_split=judge_split,
                target=target or TARGET,
                max_drop=MAX_DROP if max_drop is None else max_drop,
                resolution=resolution_of(resolution),
                classes=classes,
                train=train,
                train_split=train_split,
                epochs=epochs,
                resume=resume,
                out=out or project.out(),
                progress=lambda stage, fraction: show(model, stage, fraction),
            )
        if json:
            ui.echo_json(ladder)
        else:
            show_ladder(ladder)
        if not ladder.chosen:
            raise typer.Exit(1)
        return
    if judge is not None or judge_split:
        raise ConfigError(
            f"Pictures to judge by were named, and the recipe {recipe} is not judged.",
            hint="--judge goes with --recipe auto; `edgese evaluate` judges artifacts.",
        )
    _check_unused(
        {"--max-drop": max_drop is not None, "--target": target is not None},
        recipe,
        f"It goes with --recipe {AUTO}; one program serves every target.",
    )
    with ui.quiet_libraries(), ui.bars([model]) as show:
        made = api.quantize(
            model,
            data,
            weights=named,
            recipe=recipe,
            split=split,
            resolution=resolution_of(resolution),
            classes=classes,
            batch=batch,
            train=train,
            train_split=train_split,
            epochs=epochs,
            resume=resume,
            analyze=analyze,
            out=out or project.out(),
            strict=False,
            progress=lambda stage, fraction: show(model, stage, fraction),
        )
    _end(made, json=json)


def _end(made: "QuantizedProgram", *, json: bool) -> None:
    """Prints the result, and fails where it must not be shipped."""
    from edgese.cli import ui

    if json:
        ui.echo_json(made)
    else:
        show_program(made)
    if made.collapse:
        raise typer.Exit(Collapsed.exit_code)


def _check_unused(asked: dict[str, bool], recipe: str, hint: str) -> None:
    """Refuse options that a recipe has no use for.

    Args:
        asked: of each option, whether it was given.
    """
    if found := [option for option, given in asked.items() if given]:
        raise ConfigError(f"{found[0]} means nothing to the recipe {recipe}.", hint=hint)


def show_program(made: "QuantizedProgram") -> None:
    """How close a quantized program is to the float network, and where it lies."""
    from edgese.cli import ui

    found = made.fidelity
    ui.table(
        ("model", "recipe", "pictures", "KL to float", "top-1 same", "SQNR", "program"),
        [
            (
                made.model,
                made.recipe,
                str(made.calibrated_on),
                "-" if found.kl is None else f"{found.kl:.4f}",
                ui.percent(found.top1_agreement),
                f"{found.sqnr_db:.1f} dB",
                made.program,
            )
        ],
        left=2,
        last_left=True,
    )
    for note in made.notes:
        ui.note(note)
    if made.collapse:
        ui.note(f"COLLAPSED: {made.collapse}.")
        ui.note("  Do not ship it: --analyze tells which layers are at fault, and --qat")
        ui.note("  trains them to get used to integers.")
    if made.layers:
        show_layers(made.layers[:_SHOWN])


def show_ladder(ladder: "Ladder") -> None:
    """The rungs of a ladder, and the program that was chosen."""
    from edgese.cli import ui

    ui.echo(
        f"{ladder.model} in fp32: {ui.percent(ladder.reference.share, 2)} of "
        f"{ladder.reference.of} pictures; at most {ladder.max_drop:g} points may be lost."
    )
    ui.table(
        (
            "rung",
            "verdict",
            "top-1",
            "lost",
            "McNemar p",
            "same top-1",
            "KL",
            "latency",
            "time",
            "in float",
        ),
        [
            (
                rung.recipe.name,
                rung.verdict,
                ui.percent(rung.top1.share, 2),
                f"{rung.drop:.2f} points",
                f"{rung.agreement.p_value:.3f}",
                f"{rung.agreement.same_top1} of {rung.agreement.pictures}",
                "-" if rung.agreement.kl is None else f"{rung.agreement.kl:.4f}",
                "-" if rung.latency_ms is None else f"{rung.latency_ms:.2f} ms",
                f"{rung.seconds:.0f} s",
                ", ".join(rung.kept_float) or "-",
            )
            for rung in ladder.rungs
        ],
        left=2,
        last_left=True,
    )
    if ladder.judged_by:
        ui.note(f"{ladder.target}: executed by {ladder.judged_by}. No rung was timed.")
    if ladder.chosen:
        ui.echo(f"{ladder.chosen} holds.")
    else:
        ui.note("No rung holds; the programs and artifacts of all are there.")
        ui.note("  Allow a larger --max-drop, give more pictures, or train for more --epochs.")


def show_layers(layers: "Sequence[LayerCost]") -> None:
    """What layers cost alone, the costliest first."""
    from edgese.cli import ui

    ui.table(
        ("layer", "operator", "part", "cause", "detail", "SQNR alone", "KL alone"),
        [
            (
                row.layer,
                row.operator,
                row.part,
                row.cause,
                row.detail,
                f"{row.sqnr_db:.1f} dB",
                "-" if row.kl is None else f"{row.kl:.5f}",
            )
            for row in layers
        ],
        left=5,
    )

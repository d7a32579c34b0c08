"""``edgese quantize``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from edgese import project
from edgese.cli.parsing import resolution_of
from edgese.errors import ConfigError

if TYPE_CHECKING:
    from edgese.records.quantization import QuantizedProgram

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
    recipe: Annotated[str, typer.Option(help="An integer recipe.")] = "int8",
    resolution: Annotated[
        str | None, typer.Option(metavar="N|HxW", help="Input size in pixels.")
    ] = None,
    classes: Annotated[int | None, typer.Option(help="Outputs of the classifier.")] = None,
    batch: Annotated[int, typer.Option(min=1, help="Examples in one input.")] = 1,
    epochs: Annotated[
        float | None,
        typer.Option(min=0.01, help="Of recipes that train.  [default: the recipe's]"),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the interrupted training in --out.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the program.  [default: edgese-out]")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Quantize a model once for all targets, and store the quantized program.

    One program then serves every target with the same integers: give the .pt2 file to `edgese
    convert`. Its manifest lists the calibration pictures with their hashes. How close it is to the
    float network is measured on those pictures; `edgese evaluate` measures the artifacts on others.
    """
    from edgese.cli import ui
    from edgese.quantization import api

    if data is None:
        raise ConfigError(
            "No calibration pictures were named.",
            hint="Give --data FOLDER with pictures like those that the network will see, or, to "
            "try things out, --data embedded.",
        )
    model = project.subject(subject)
    with ui.quiet_libraries(), ui.bars([model]) as show:
        made = api.quantize(
            model,
            data,
            weights=weights or project.weights(model),
            recipe=recipe,
            split=split,
            resolution=resolution_of(resolution),
            classes=classes,
            batch=batch,
            epochs=epochs,
            resume=resume,
            out=out or project.out(),
            progress=lambda stage, fraction: show(model, stage, fraction),
        )
    if json:
        ui.echo_json(made)
    else:
        show_program(made)


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

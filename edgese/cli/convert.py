"""``edgese convert``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, TypeVar

import typer

from edgese import project
from edgese.cli.parsing import resolution_of
from edgese.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgese.records.artifact import ConversionOutcome, Parity

Choice = TypeVar("Choice", bound=str)

EXAMPLE: Final = "Example: edgese convert efficientnet_lite0 --weights imagenet --target tflite"


def convert(
    subject: Annotated[
        str | None,
        typer.Argument(
            metavar="MODEL",
            help="A model's name, a spec file, or a program that `edgese quantize` stored; "
            "default: edgese.toml's.",
        ),
    ] = None,
    target: Annotated[
        list[str] | None,
        typer.Option(
            "--target",
            "-t",
            help="executorch, coreml, tflite, onnxruntime, or all; may be given several times.",
        ),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            help="A .safetensors or .pth file, 'imagenet' (Lite0 to Lite2), or 'none' for random "
            "ones: good for latency, refused where accuracy is judged."
        ),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            help="fp32, fp16, int8, ... (see the guide).  [default: fp16 for Core ML, fp32 "
            "elsewhere]"
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="Calibration pictures of an integer recipe: a folder, a CSV with a column file, "
            "or 'embedded' to try things out."
        ),
    ] = None,
    split: Annotated[str, typer.Option(help="Of --data, only rows with this split.")] = "",
    resolution: Annotated[
        str | None, typer.Option(metavar="N|HxW", help="Input size in pixels.")
    ] = None,
    classes: Annotated[int | None, typer.Option(help="Outputs of the classifier.")] = None,
    features: Annotated[
        bool, typer.Option("--features", help="Leave the classifier out: pooled features.")
    ] = False,
    batch: Annotated[int, typer.Option(min=1, help="Examples in one input.")] = 1,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the artifacts.  [default: edgese-out]")
    ] = None,
    delegate: Annotated[
        str, typer.Option(help="What executes the artifact, where that is fixed at conversion.")
    ] = "",
    deployment_target: Annotated[
        str, typer.Option(help="Core ML: oldest system, as in iOS17 or macOS14.")
    ] = "",
    compute_units: Annotated[
        str, typer.Option(help="Core ML: all, cpu_only, cpu_and_gpu or cpu_and_ne.")
    ] = "",
    image_input: Annotated[
        bool, typer.Option("--image-input", help="Core ML: take a picture, not a tensor.")
    ] = False,
    labels: Annotated[
        Path | None,
        typer.Option(
            help="Text file with the name of each class, one a line, in their order.  [default: "
            "the model's own]"
        ),
    ] = None,
    author: Annotated[str, typer.Option(help="Core ML: kept in the metadata.")] = "",
    license_: Annotated[
        str, typer.Option("--license", help="Core ML: of the model; kept in the metadata.")
    ] = "",
    io: Annotated[
        str, typer.Option(help="int8 recipes: float, or int8 for codes in and out.")
    ] = "float",
    activations: Annotated[
        str,
        typer.Option(help="ONNX Runtime, int8 recipes: uint8 for x86, int8 for ARM."),
    ] = "",
    pictures: Annotated[
        Path | None,
        typer.Option(help="Folder of pictures to verify with, instead of the embedded ones."),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Conversions at once.  [default: what fits]")
    ] = None,
    no_cache: Annotated[
        bool, typer.Option("--no-cache", help="Neither read nor write the cache.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
) -> None:
    """Convert a model to one or more targets and verify each artifact on its real runtime.

    Each artifact is reloaded in its own runtime on this host and compared with PyTorch on real
    pictures; one that does not compute the same is not kept. A manifest stands beside each. A
    target that fails does not take the others down; the exit code then is its own. Integer
    artifacts whose answers are not the float network's any more are kept, reported as COLLAPSED,
    and end with exit code 6.
    """
    from edgese.cli import ui
    from edgese.conversion import api
    from edgese.data.labels import label_names
    from edgese.program.stored import is_program
    from edgese.records.artifact import TargetOptions

    model = project.subject(subject)
    targets = target or list(project.defaults().targets)
    if not targets:
        raise ConfigError(
            "No target was named.",
            hint="Give --target executorch, coreml, tflite, onnxruntime or all.",
        )
    for name in targets:
        if "," in name:
            raise ConfigError(
                f"--target {name!r} is a list.",
                hint=" ".join(f"--target {one.strip()}" for one in name.split(",")),
            )
    with ui.bars([]) as show:
        outcomes = api.convert(
            model,
            targets,
            weights=weights or (None if is_program(model) else project.weights(model)),
            recipe=recipe,
            resolution=resolution_of(resolution),
            classes=classes,
            features=features,
            labels=label_names(labels) if labels else (),
            out=out or project.out(),
            options=TargetOptions(
                delegate=delegate,
                batch=batch,
                deployment_target=deployment_target,
                compute_units=compute_units,
                image_input=image_input,
                author=author,
                license=license_,
                io=_one_of("io", io, ("float", "int8")),
                activations=_one_of("activations", activations, ("", "uint8", "int8")),
            ),
            pictures=pictures,
            data=data,
            split=split,
            workers=workers,
            use_cache=not no_cache,
            strict=False,
            progress=show,
        )
    if json:
        ui.echo_json(outcomes)
    else:
        show_outcomes(outcomes)
    if code := api.exit_code(outcomes):
        raise typer.Exit(code)


def _one_of(option: str, value: str, known: "tuple[Choice, ...]") -> "Choice":
    for choice in known:
        if value == choice:
            return choice
    raise ConfigError(
        f"--{option} {value!r} does not exist.",
        hint=f"Give {' or '.join(choice for choice in known if choice)}.",
    )


def show_outcomes(outcomes: "Sequence[ConversionOutcome]") -> None:
    """The table of a conversion, then what went wrong."""
    from edgese.cli import ui

    integer = any(o.parity is not None and o.parity.within_step is not None for o in outcomes)
    ui.table(
        (
            "target",
            "recipe",
            "status",
            "parity",
            "cosine",
            "max diff",
            *(("within a step",) if integer else ()),
            "SQNR",
            "top-1 same",
            "outside delegate",
            "size",
            "time",
            "artifact",
        ),
        [
            (
                outcome.target,
                outcome.recipe,
                outcome.status,
                *_parity_cells(outcome.parity, integer=integer),
                _coverage(outcome),
                ui.megabytes(outcome.size_bytes) if outcome.artifact else "-",
                f"{outcome.seconds:.1f} s",
                outcome.artifact or "-",
            )
            for outcome in outcomes
        ],
        left=4,
        last_left=True,
    )
    # A reason that holds for several artifacts of a target is told once.
    for target, reason in dict.fromkeys(
        (o.target, o.parity.reason) for o in outcomes if o.parity and o.parity.verdict == "not_run"
    ):
        ui.note(f"{target}: {reason}")
    for target, by in dict.fromkeys((o.target, o.parity.by) for o in outcomes if o.parity):
        if by:
            ui.note(f"{target}: compared by {by}.")
    for target, deviation in dict.fromkeys(
        (o.target, o.parity.deviation) for o in outcomes if o.parity
    ):
        if deviation is not None:
            ui.note(
                f"{target}: computed without rounding, the saved file is its program with the "
                f"target's own numbers (largest difference {deviation:.1g}); the figures above are "
                "of its fp16 values beside the program as every target has it."
            )
    _say_how_it_ended(outcomes)


def _say_how_it_ended(outcomes: "Sequence[ConversionOutcome]") -> None:
    from edgese.cli import ui

    for note in dict.fromkeys(note for outcome in outcomes for note in outcome.notes):
        ui.note(note)
    for outcome in outcomes:
        _show_notes(outcome)


def _show_notes(outcome: "ConversionOutcome") -> None:
    from edgese.cli import ui

    if outcome.note:
        ui.note(f"{outcome.target}: {outcome.note}")
    if outcome.collapse:
        ui.note(f"{outcome.target}: COLLAPSED: {outcome.collapse}. Do not ship it.")
    if outcome.error:
        ui.note(f"{outcome.target}: {outcome.error}")
        if outcome.hint:
            ui.note(f"  {outcome.hint}")


def _parity_cells(parity: "Parity | None", *, integer: bool) -> tuple[str, ...]:
    """Verdict, cosine, largest difference, SQNR and agreement; dashes where there is none.

    Args:
        integer: with the share of the outputs within one step.
    """
    from edgese.cli import ui

    dashes = ("-",) * (5 if integer else 4)
    if parity is None:
        return "-", *dashes
    verdict = parity.verdict.replace("_", " ")
    if parity.cosine is None or parity.max_abs_diff is None or parity.sqnr_db is None:
        return verdict, *dashes
    return (
        verdict,
        f"{parity.cosine:.7f}",
        f"{parity.max_abs_diff:.1e}",
        *((ui.percent(parity.within_step, 2),) if integer else ()),
        f"{parity.sqnr_db:.0f} dB",
        ui.percent(parity.top1_agreement, 0),
    )


def _coverage(outcome: "ConversionOutcome") -> str:
    """How much the delegate leaves to the runtime; only what runs here is known."""
    if outcome.parity is None or outcome.parity.verdict == "not_run":
        return "-"
    cut = f" in {outcome.partitions} parts" if outcome.partitions > 1 else ""
    return f"{outcome.outside_operators} operators{cut}"

"""``edgese predict``."""

from typing import TYPE_CHECKING, Annotated, Final

import typer

from edgese import project
from edgese.cli.parsing import resolution_of

if TYPE_CHECKING:
    from edgese.records.prediction import Anchor, Evidence, Prediction

EXAMPLE: Final = "Example: edgese predict efficientnet_b0 --device pixel9_pro"


def predict(
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="MODEL", help="A model's name or a spec file; default: edgese.toml's."
        ),
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="A name in the catalogue: `edgese devices` lists them.")
    ] = None,
    target: Annotated[
        str,
        typer.Option(
            help="The runtime: tflite; onnxruntime and executorch on Qualcomm's NPU; or ncnn, "
            "which edgese does not convert to and of which most is known."
        ),
    ] = "tflite",
    delegate: Annotated[str, typer.Option(help="cpu, gpu, npu or edgetpu.")] = "cpu",
    recipe: Annotated[str, typer.Option(help="fp32, fp16 (of a GPU) or int8.")] = "fp32",
    resolution: Annotated[
        str | None, typer.Option(metavar="N|HxW", help="Input size in pixels.")
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Of the processor.  [default: 4]")
    ] = None,
    anchor: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MODEL=MS",
            help="A latency that you measured there, in the same way; may be given several times.",
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Predict a model's latency on a device that is not there, with a 90 % interval.

    The fits rest on published measurements of other networks and devices (calibration/latency). How
    far such predictions were off, where the truth was left out, is told with each, and the interval
    is made of it. What no measurement reaches is refused. One measured network on the device, given
    with --anchor, makes predictions of others there much closer. A prediction is never a
    measurement: `edgese profile` makes those.
    """
    from edgese.cli import ui
    from edgese.errors import ConfigError
    from edgese.prediction import api

    if device is None:
        raise ConfigError("No device was named.", hint=EXAMPLE)
    found = api.predict(
        project.subject(model),
        device,
        target=target,
        delegate=delegate,
        recipe=recipe,
        resolution=resolution_of(resolution),
        threads=threads,
        anchors=[_anchor(text) for text in anchor or ()],
    )
    if json:
        ui.echo_json(found)
    else:
        show(found)


def show(found: "Prediction") -> None:
    """A prediction, what it rests on, and how good such predictions are."""
    from edgese.cli import ui

    where = f"{found.delegate}, {found.threads} threads" if found.threads else found.delegate
    ui.table(
        ("model", "device", "target", "on", "precision", "input", "predicted", "90 % interval"),
        [
            (
                found.model,
                found.device,
                found.target,
                where,
                found.precision,
                f"{found.resolution[0]}x{found.resolution[1]}",
                f"{found.latency_ms:.3g} ms",
                f"{found.interval.low:.3g} to {found.interval.high:.3g} ms",
            )
        ],
        left=5,
    )
    ui.echo(f"Predicted, not measured; {found.rows} published measurements:")
    for source in found.sources:
        ui.echo(f"  {source}")
    for evidence in found.evidence:
        ui.echo(_told(evidence))
    for caution in found.cautions:
        ui.echo(caution)


def _told(evidence: "Evidence") -> str:
    from edgese.cli import ui

    count = evidence.anchors
    measured = "one measured network" if count == 1 else f"{count} measured networks"
    device = {
        "measured": "on devices that were measured with other networks",
        "facts": "on chips of which only facts were known",
        "anchored": f"on chips of which facts and {measured} were known",
    }[evidence.device]
    network = {
        "measured": "networks that were measured elsewhere",
        "new": "networks that were measured nowhere",
    }[evidence.network]
    return (
        f"{evidence.fit}, {evidence.precision}: of {evidence.count} predictions of {network}, "
        f"{device}, {ui.percent(evidence.within_10, 0)} were within 10 % and "
        f"{ui.percent(evidence.within_20, 0)} within 20 % of the truth; "
        f"{ui.percent(evidence.coverage, 0)} of the truths were in the interval."
    )


def _anchor(text: str) -> "Anchor":
    from edgese.errors import ConfigError
    from edgese.records.prediction import Anchor

    model, equals, latency = text.rpartition("=")
    try:
        return Anchor(model=model, latency_ms=float(latency if equals and model else "-"))
    except ValueError as error:
        raise ConfigError(
            f"--anchor {text!r} is not a model and its latency.",
            hint="Give both, as in mobilenet_v2=12.3 (milliseconds).",
        ) from error

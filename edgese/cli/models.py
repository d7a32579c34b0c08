"""``edgese models``."""

from typing import TYPE_CHECKING, Annotated, Final

import typer

from edgese.cli.parsing import resolution_of

if TYPE_CHECKING:
    from edgese.records.model import ModelSpec

EXAMPLE: Final = "Example: edgese models efficientnet_b0 --resolution 192"


def models(
    model: Annotated[
        str | None,
        typer.Argument(metavar="MODEL", help="A model's name or a spec file; default: all."),
    ] = None,
    resolution: Annotated[
        str | None, typer.Option(metavar="N|HxW", help="Count at this input size in pixels.")
    ] = None,
    toml: Annotated[
        bool, typer.Option("--toml", help="Print the model's spec, to start your own from.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """List the models with what they cost, or show the stages of one.

    Everything is counted from the rows of the spec, without torch. "SE" is the share of the
    parameters and multiply-adds that squeeze-and-excitation adds. Besides the names in the list,
    efficientnet_phi<number> scales EfficientNet by any compound coefficient.
    """
    from edgese.errors import ConfigError
    from edgese.models import registry

    size = resolution_of(resolution)
    if model is None:
        if toml:
            raise ConfigError("--toml prints one model's spec.", hint=f"Name one. {EXAMPLE}")
        _list([_at(spec, size) for spec in registry.models().values()], json=json)
        return
    spec = _at(registry.find_model(model), size)
    if toml:
        typer.echo(registry.to_toml(spec), nl=False)
    else:
        _show(spec, json=json)


def _at(spec: "ModelSpec", size: tuple[int, int] | None) -> "ModelSpec":
    from edgese.models.registry import customized

    return customized(spec, resolution=size)


def _list(specs: "list[ModelSpec]", *, json: bool) -> None:
    from edgese.cli import ui
    from edgese.models.cost import cost

    costs = [cost(spec) for spec in specs]
    if json:
        ui.echo_json(
            [
                {"family": spec.family, "published": spec.published, "cost": counted}
                for spec, counted in zip(specs, costs, strict=True)
            ]
        )
        return
    ui.table(
        (
            "model",
            "family",
            "published top-1",
            "input",
            "parameters",
            "MACs",
            "activations",
            "SE params",
            "SE MACs",
        ),
        [
            (
                spec.name,
                spec.family,
                _published(spec),
                f"{counted.height}x{counted.width}",
                ui.count(counted.parameters),
                ui.millions(counted.macs),
                ui.megabytes(counted.peak_activation_bytes),
                ui.percent(counted.gate_share.parameters),
                ui.percent(counted.gate_share.macs, 2),
            )
            for spec, counted in zip(specs, costs, strict=True)
        ],
        left=3,
    )


def _published(spec: "ModelSpec") -> str:
    if spec.published is None:
        return "-"
    return f"{spec.published.top1:.2f} % ({spec.published.source})"


def _show(spec: "ModelSpec", *, json: bool) -> None:
    from edgese.cli import ui
    from edgese.models.cost import cost

    counted = cost(spec)
    if json:
        ui.echo_json({"spec": spec, "cost": counted})
        return
    ui.echo(f"{spec.name} ({spec.family}), {counted.height}x{counted.width} px")
    ui.echo(f"  published top-1     {_published(spec)}")
    ui.echo(f"  parameters          {ui.count(counted.parameters)}")
    ui.echo(f"  multiply-adds       {ui.count(counted.macs)}")
    ui.echo(f"  SE paper's FLOPs    {ui.count(counted.paper_flops)}")
    ui.echo(f"  peak activations    {ui.count(counted.peak_activation_bytes)} bytes in fp32")
    ui.echo(f"  gates' weights      {ui.count(counted.gate_weights)}, biases not counted")
    ui.echo(
        f"  form                padding {spec.padding}, BatchNorm eps {spec.normalization.eps:g}, "
        f"{spec.activation}"
    )
    ui.table(
        ("stage", "kind", "depth", "gates", "output", "parameters", "MACs", "activations", "SE"),
        [
            (
                stage.name,
                stage.kind,
                str(stage.depth),
                str(stage.gates),
                f"{stage.channels}x{stage.height}x{stage.width}",
                ui.count(stage.parameters),
                ui.millions(stage.macs),
                ui.megabytes(stage.peak_activation_bytes),
                ui.percent(stage.gate_share.parameters),
            )
            for stage in counted.stages
        ],
        left=2,
    )

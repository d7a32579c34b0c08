"""The Typer application: every command in one place."""

from typing import Annotated

import typer

from edgese.cli import (
    baseline,
    bundle,
    cache,
    compare,
    convert,
    demo,
    devices,
    diff,
    doctor,
    emulator,
    evaluate,
    gate,
    importing,
    inspect,
    models,
    predict,
    profile,
    quantize,
    report,
    select,
    train,
)
from edgese.version import __version__

app = typer.Typer(
    name="edgese",
    help="EfficientNet and SE-ResNet to ExecuTorch, Core ML, TFLite and ONNX Runtime: "
    "converted, verified on the real runtime, and measured.",
    epilog="Example: edgese convert efficientnet_lite0 --weights imagenet --target all",
    no_args_is_help=True,
    # Rich would be imported for every help text; it stays with the commands that draw tables.
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"edgese {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    del version  # its callback has answered


app.command("models", epilog=models.EXAMPLE)(models.models)
app.command("train", epilog=train.EXAMPLE)(train.train)
app.command("quantize", epilog=quantize.EXAMPLE)(quantize.quantize)
app.command("convert", epilog=convert.EXAMPLE)(convert.convert)
app.command("evaluate", epilog=evaluate.EXAMPLE)(evaluate.evaluate)
app.command("inspect", epilog=inspect.EXAMPLE)(inspect.inspect)
app.command("profile", epilog=profile.EXAMPLE)(profile.profile)
app.command("bundle", epilog=bundle.EXAMPLE)(bundle.bundle)
app.command("import", epilog=importing.EXAMPLE)(importing.import_results)
app.command("devices", epilog=devices.EXAMPLE)(devices.devices)
app.command("select", epilog=select.EXAMPLE)(select.select)
app.command("report", epilog=report.EXAMPLE)(report.report)
app.command("compare", epilog=compare.EXAMPLE)(compare.compare)
app.command("gate", epilog=gate.EXAMPLE)(gate.gate)
app.add_typer(baseline.app, name="baseline")
app.command("diff", epilog=diff.EXAMPLE)(diff.diff)
app.command("predict", epilog=predict.EXAMPLE)(predict.predict)
app.command("doctor", epilog=doctor.EXAMPLE)(doctor.doctor)
app.command("demo", epilog=demo.EXAMPLE)(demo.demo)
app.add_typer(emulator.app, name="emulator")
app.add_typer(cache.app, name="cache")

"""``edgese baseline update``."""

from pathlib import Path
from typing import Annotated, Final

import typer

from edgese.cli.plan_options import (
    AdbServer,
    Address,
    Blocks,
    Launches,
    MinRuns,
    MinTime,
    Serial,
    Threads,
)
from edgese.records.measurement import MeasurePlan

_PLAN: Final = MeasurePlan(threads=0)

app = typer.Typer(
    help="Keep what later artifacts are held against by `edgese gate --baseline`.",
    epilog="Example: edgese baseline update models/classifier.tflite --baseline baseline.json",
    no_args_is_help=True,
    rich_markup_mode=None,
)

UPDATE_EXAMPLE: Final = (
    "Example: edgese baseline update models/classifier.tflite --baseline baseline.json --keep"
)


@app.callback()
def _root() -> None:
    """A group stays a group with one command in it."""


@app.command("update", epilog=UPDATE_EXAMPLE)
def update(
    inputs: Annotated[
        list[Path],
        typer.Argument(
            metavar="ARTIFACT|FILE",
            help="Artifacts, which are measured now; or what `edgese profile --out` left.",
        ),
    ],
    baseline: Annotated[Path, typer.Option(help="The file; it is made where there is none.")],
    keep: Annotated[
        bool,
        typer.Option(
            "--keep", help="Copy the artifacts beside it, to be measured again with later ones."
        ),
    ] = False,
    device: Annotated[str, typer.Option(help="Where artifacts are measured.")] = "host",
    serial: Serial = "",
    adb_server: AdbServer = "",
    address: Address = "",
    threads: Threads = None,
    launches: Launches = _PLAN.launches,
    blocks: Blocks = _PLAN.blocks,
    min_runs: MinRuns = _PLAN.min_runs,
    min_time: MinTime = _PLAN.min_time_s,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Put artifacts into a baseline, in the places of those with the same file names.

    An artifact is matched by its file's name, its device and its target. The baseline holds every
    sample and a seal; with --keep also the artifacts, so that the gate can measure old and new in
    turns, on whatever machine it runs.
    """
    from edgese.budgets.api import update_baseline
    from edgese.budgets.measuring import Measuring
    from edgese.cli import ui
    from edgese.store import writable_file

    writable_file(baseline)
    with ui.bars([]) as show:
        result = update_baseline(
            inputs,
            baseline,
            device=device,
            kept=keep,
            how=Measuring(
                serial=serial,
                adb_server=adb_server,
                address=address,
                threads=threads,
                launches=launches,
                blocks=blocks,
                min_runs=min_runs,
                min_time_s=min_time,
                progress=lambda stage, fraction: show("baseline", stage, fraction),
            ),
        )
    if json:
        ui.echo_json(result)
        return
    ui.table(
        ("artifact", "device", "target", "p50", "size", "kept"),
        [
            (
                cell.name,
                cell.device,
                cell.profile.target,
                f"{cell.profile.latency.p50_ms:.2f} ms",
                ui.megabytes(cell.profile.size_bytes),
                cell.artifact or "-",
            )
            for cell in result.cells
        ],
        left=3,
    )

"""``edgese bundle``."""

from pathlib import Path
from typing import Annotated, Final

import typer

from edgese.cli.plan_options import Blocks, Launches, MinRuns, MinTime
from edgese.records.measurement import MeasurePlan

_PLAN: Final = MeasurePlan(threads=1)

EXAMPLE: Final = (
    "Example: edgese bundle edgese-out/efficientnet_lite0-fp32.tflite --device rpi5 --out rpi5.pyz"
)


def bundle(
    artifacts: Annotated[
        list[Path],
        typer.Argument(metavar="ARTIFACT", help="Each with its manifest beside it."),
    ],
    device: Annotated[
        str, typer.Option(help="The phone or board that it is for; it measures on no other.")
    ],
    out: Annotated[Path, typer.Option(help="The file to write.")],
    with_python: Annotated[
        bool,
        typer.Option(
            "--with-python",
            help="Also Python and the runtimes for 64-bit ARM, which `edgese emulator setup "
            "--bundle-only` fetches. Phones need it.",
        ),
    ] = False,
    threads: Annotated[
        int | None,
        typer.Option(help="Threads of each runtime.  [default: the fast cores, at most 4]"),
    ] = None,
    launches: Launches = _PLAN.launches,
    blocks: Blocks = _PLAN.blocks,
    min_runs: MinRuns = _PLAN.min_runs,
    min_time: MinTime = _PLAN.min_time_s,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Pack artifacts into one file that measures them on a phone or a board that is elsewhere.

    The file is run there with one command, which is printed. It checks that it is on the right
    device, waits until that is cool, measures like `edgese profile`, and leaves one results file,
    which `edgese import` reads here. Without --with-python it needs Python 3.11 there, with the
    artifacts' runtimes. It was not tried on a phone or a board yet.
    """
    from edgese.cli import ui
    from edgese.measure.bundles import make_bundle
    from edgese.store import size_of

    packed = make_bundle(
        artifacts,
        device=device,
        out=out,
        with_python=with_python,
        threads=threads,
        launches=launches,
        blocks=blocks,
        min_runs=min_runs,
        min_time_s=min_time,
    )
    if json:
        ui.echo_json(
            {
                "bundle": str(packed.path),
                "results": packed.results,
                "commands": packed.commands,
                "contents": packed.contents,
            }
        )
        return
    facts = packed.contents.facts
    ui.echo(f"{packed.path}: {ui.megabytes(size_of(packed.path))} for {facts.title}")
    for command in packed.commands:
        ui.echo(f"  {command}")
    ui.echo(f"  edgese import {packed.results}")

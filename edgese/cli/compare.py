"""``edgese compare``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

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

if TYPE_CHECKING:
    from edgese.records.budget import Comparison

_PLAN: Final = MeasurePlan(threads=0)

EXAMPLE: Final = "Example: edgese compare old/classifier.tflite new/classifier.tflite --margin 0.02"


def compare(
    first: Annotated[Path, typer.Argument(metavar="A", help="An artifact.")],
    second: Annotated[Path, typer.Argument(metavar="B", help="Another one, held against it.")],
    device: Annotated[
        str, typer.Option(help="Where; `edgese devices` lists what there is.")
    ] = "host",
    margin: Annotated[
        float, typer.Option(help="A difference that does not matter; 0.02 is 2 %.")
    ] = 0.0,
    data: Annotated[
        Path | None,
        typer.Option(help="Labelled pictures; both are also evaluated here, picture by picture."),
    ] = None,
    serial: Serial = "",
    adb_server: AdbServer = "",
    address: Address = "",
    threads: Threads = None,
    launches: Launches = _PLAN.launches,
    blocks: Blocks = _PLAN.blocks,
    min_runs: MinRuns = _PLAN.min_runs,
    min_time: MinTime = _PLAN.min_time_s,
    out: Annotated[
        Path | None, typer.Option(help="Also write the result, every sample in it, here.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Tell whether B is faster or slower than A, or that this cannot be told.

    Both take turns on one device in AB/BA blocks, over several launches of each. The ratio of their
    latencies has a 95 % interval over launches, never over single inferences, which are not
    independent. With pictures, McNemar's exact test says whether one answers better.
    """
    from edgese.budgets.api import compare as run
    from edgese.budgets.measuring import Measuring
    from edgese.cli import ui
    from edgese.store import writable_file, write_record

    if out is not None:
        writable_file(out)
    # Evaluating loads runtimes, and they print.
    with ui.quiet_libraries(), ui.bars([]) as show:
        result = run(
            first,
            second,
            device=device,
            margin=margin,
            data=data,
            how=Measuring(
                serial=serial,
                adb_server=adb_server,
                address=address,
                threads=threads,
                launches=launches,
                blocks=blocks,
                min_runs=min_runs,
                min_time_s=min_time,
                progress=lambda stage, fraction: show("compare", stage, fraction),
            ),
        )
    if out is not None:
        write_record(result, out)
    if json:
        ui.echo_json(result)
    else:
        _show(result)


def _show(result: "Comparison") -> None:
    from edgese.cli import ui

    ui.table(
        ("artifact", "p50", "p90", "size"),
        [
            (
                profile.label,
                f"{profile.latency.p50_ms:.2f} ms",
                f"{profile.latency.p90_ms:.2f} ms",
                ui.megabytes(profile.size_bytes),
            )
            for profile in result.profiles
        ],
    )
    ratio = result.ratio
    ui.echo(
        f"{result.verdict.upper()}: {ratio.artifact} takes {ratio.ratio:.3f} times as long as "
        f"{ratio.baseline} ({ratio.interval.low:.3f} to {ratio.interval.high:.3f}, "
        f"{ratio.launches} launches, {ratio.rounds} rounds)"
    )
    beyond = f" beyond {100 * result.margin:g} %" if result.margin else ""
    ui.echo(
        f"Such data show a slowdown{beyond} from {100 * result.smallest_seen:.1f} % on, in 95 of "
        "100 cases."
    )
    pair = result.agreement
    if pair is not None:
        ui.echo(
            f"{result.accuracy_verdict.upper()}: top-1 {100 * pair.top1_difference:+.2f} points on "
            f"{pair.pictures} pictures; {pair.only_first_right} are right in A alone, "
            f"{pair.only_second_right} in B alone (McNemar's p {pair.p_value:.3f})"
        )

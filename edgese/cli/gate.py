"""``edgese gate``."""

import os
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
    from edgese.records.budget import GateResult, Judged

_PLAN: Final = MeasurePlan(threads=0)
_SUMMARY: Final = "GITHUB_STEP_SUMMARY"

EXAMPLE: Final = (
    "Example: edgese gate models/classifier.tflite --budget budget.toml --baseline baseline.json"
)


def gate(
    inputs: Annotated[
        list[Path],
        typer.Argument(
            metavar="ARTIFACT|FILE",
            help="Artifacts, which are measured now; or what `profile --out`, `evaluate --out` and "
            "`inspect --json` left.",
        ),
    ],
    budget: Annotated[
        Path | None, typer.Option(help="The limits.  [default: those of edgese.toml]")
    ] = None,
    baseline: Annotated[
        Path | None, typer.Option(help="What must not become slower; of `edgese baseline update`.")
    ] = None,
    noise: Annotated[
        Path | None,
        typer.Option(help="Of `profile --calibrate-noise`.  [default: noise.json of the project]"),
    ] = None,
    device: Annotated[
        list[str] | None,
        typer.Option(
            help="Where artifacts are measured, and whose limits are asked about; several times.  "
            "[default: host for artifacts, all for results]"
        ),
    ] = None,
    serial: Serial = "",
    adb_server: AdbServer = "",
    address: Address = "",
    threads: Threads = None,
    launches: Launches = _PLAN.launches,
    blocks: Blocks = _PLAN.blocks,
    min_runs: MinRuns = _PLAN.min_runs,
    min_time: MinTime = _PLAN.min_time_s,
    out: Annotated[Path | None, typer.Option(help="Also write the result here, as JSON.")] = None,
    junit: Annotated[Path | None, typer.Option(help="Also write JUnit XML here.")] = None,
    sarif: Annotated[Path | None, typer.Option(help="Also write SARIF here.")] = None,
    markdown: Annotated[
        Path | None,
        typer.Option(help="Also write a Markdown summary here."),
    ] = None,
    github: Annotated[
        bool,
        typer.Option("--github", help="Also annotate a GitHub Actions job and add to its summary."),
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Reject what does not meet a budget: meets, misses or unclear, for every limit.

    Artifacts are measured in turns with the baseline's own artifact, where that was kept. A limit
    in milliseconds, and a slowdown from result files alone, are judged by how far the device is off
    from itself, which `edgese profile --calibrate-noise` measures once. All verdicts together are
    wrong in at most 5 % of all cases, however many limits there are. An unclear one has a command
    that would settle it.

    Exit code 0: every limit is met. 1: one is missed. 6: one is unclear. 2 to 9: an input cannot be
    trusted: a baseline that is missing, results that were cut, another device, artifact or input
    size. None of these is a pass.
    """
    from edgese.budgets.api import gate as run
    from edgese.budgets.measuring import Measuring
    from edgese.cli import ui
    from edgese.store import writable_file, write_record

    for file in (out, junit, sarif, markdown):
        if file is not None:
            writable_file(file)
    with ui.bars([]) as show:
        result = run(
            inputs,
            budget=budget,
            baseline=baseline,
            noise=noise,
            devices=device or [],
            how=Measuring(
                serial=serial,
                adb_server=adb_server,
                address=address,
                threads=threads,
                launches=launches,
                blocks=blocks,
                min_runs=min_runs,
                min_time_s=min_time,
                progress=lambda stage, fraction: show("gate", stage, fraction),
            ),
        )
    if out is not None:
        write_record(result, out)
    _write(result, junit, sarif, markdown)
    if github:
        _to_github(result)
    if json:
        ui.echo_json(result)
    else:
        show_gate(result)
    if result.exit_code:
        raise typer.Exit(result.exit_code)


def _write(
    result: "GateResult", junit: Path | None, sarif: Path | None, markdown: Path | None
) -> None:
    from edgese.report.builds import junit_of, markdown_of, sarif_of
    from edgese.store import write_text

    for file, text_of in ((junit, junit_of), (sarif, sarif_of), (markdown, markdown_of)):
        if file is not None:
            write_text(text_of(result), file)


def _to_github(result: "GateResult") -> None:
    """Annotations, which the runner takes from stderr as well, and the job's summary."""
    from edgese.cli import ui
    from edgese.report.builds import annotations, markdown_of
    from edgese.store import writing

    for line in annotations(result):
        ui.note(line)
    if os.environ.get(_SUMMARY):
        summary = Path(os.environ[_SUMMARY])
        # It belongs to all steps of the job.
        with writing(summary), summary.open("a", encoding="utf-8") as file:
            file.write(markdown_of(result) + "\n")


def show_gate(result: "GateResult") -> None:
    """The table of limits, then what could not be trusted, and the outcome."""
    from edgese.cli import ui
    from edgese.report.builds import bound_text, seen_text, sentence, value_text

    if result.cells:
        ui.table(
            (
                "artifact",
                "device",
                "target",
                "limit",
                "bound",
                "found",
                "interval",
                "verdict",
                "sees from",
            ),
            [
                (
                    cell.name,
                    cell.device,
                    cell.target,
                    cell.judged.limit,
                    bound_text(cell.judged),
                    value_text(cell.judged),
                    _interval(cell.judged),
                    cell.judged.verdict.upper()
                    if cell.judged.verdict != "meets"
                    else cell.judged.verdict,
                    seen_text(cell.judged),
                )
                for cell in result.cells
            ],
            left=4,
        )
    for what, path in result.deciding.items():
        ui.note(f"{what}: {path}")
    for cell in result.cells:
        if cell.judged.verdict != "meets":
            ui.note(
                f"{cell.judged.verdict.upper()}: {cell.name} on {cell.device}: {sentence(cell)}"
            )
    for one in result.untrusted:
        ui.note(f"NOT TRUSTED: {one.origin}: {one.message}\n  {one.hint}")
    for note in result.notes:
        ui.note(note)
    ui.echo(_sentence(result))


def _sentence(result: "GateResult") -> str:
    counts = [cell.judged.verdict for cell in result.cells]
    told = ", ".join(
        f"{counts.count(verdict)} {verdict}" for verdict in ("meets", "misses", "unclear")
    )
    outcome = "passed" if result.exit_code == 0 else f"not passed (exit code {result.exit_code})"
    more = f", {len(result.untrusted)} not trusted" if result.untrusted else ""
    return f"{outcome}: {told}{more}"


def _interval(judged: "Judged") -> str:
    from edgese.report.builds import interval_text

    return interval_text(judged)

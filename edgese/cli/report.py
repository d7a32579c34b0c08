"""``edgese report``."""

from pathlib import Path
from typing import Annotated, Final

import typer

EXAMPLE: Final = "Example: edgese report profile.json evaluation.json --html report.html"


def report(
    results: Annotated[
        list[Path],
        typer.Argument(
            metavar="RESULTS...",
            help="Files that profile, evaluate, select, inspect, train and convert left.",
        ),
    ],
    html: Annotated[Path, typer.Option(help="Where the page is written.")],
) -> None:
    """Draw one page of everything that result files tell: no network, one file.

    Latency against accuracy with intervals and the budget, a table of all candidates, operators,
    latency over time, what delegates take, and where each figure comes from.
    """
    from edgese.cli import ui
    from edgese.report import results_page
    from edgese.results import read_result
    from edgese.store import writable_file, write_text

    writable_file(html)
    page = results_page([read_result(file) for file in results])
    write_text(page, html)
    ui.echo(f"{html} ({ui.megabytes(len(page.encode()))})")

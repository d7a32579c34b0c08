"""``edgese diff``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

if TYPE_CHECKING:
    from edgese.records.budget import Differences

EXAMPLE: Final = "Example: edgese diff old/classifier.tflite new/classifier.tflite"


def diff(
    first: Annotated[
        Path, typer.Argument(metavar="A", help="An artifact, or a file of `edgese profile`.")
    ],
    second: Annotated[Path, typer.Argument(metavar="B", help="Another one.")],
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Tell what changed from A to B, and what of it may have made B slower.

    Of artifacts: the network, how its numbers are reduced, operators, what the delegate takes, and
    the versions that made it. Of profiles also the machine, its packages, and the times. Nothing is
    run.
    """
    from edgese.budgets.diff_inputs import read_diff_input
    from edgese.budgets.differences import differences
    from edgese.cli import ui

    result = differences(read_diff_input(first), read_diff_input(second))
    if json:
        ui.echo_json(result)
    else:
        _show(result)


def _show(result: "Differences") -> None:
    from edgese.cli import ui

    if not result.changes:
        ui.echo(f"{result.first} and {result.second} are the same in everything that was looked at")
    else:
        ui.table(
            ("", "what", result.first, result.second),
            [(one.area, one.what, one.before, one.after) for one in result.changes],
            left=2,
        )
    if result.reasons:
        ui.echo(f"Why {result.second} may be slower, the likeliest first:")
        for reason in result.reasons:
            ui.echo(f"- {reason}")
    for note in result.notes:
        ui.note(note)

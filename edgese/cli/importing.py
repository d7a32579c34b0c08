"""``edgese import``."""

from pathlib import Path
from typing import Annotated, Final

import typer

EXAMPLE: Final = "Example: edgese import rpi5.pyz.results.jsonl --out rpi5.json"


def import_results(
    results: Annotated[
        Path, typer.Argument(metavar="RESULTS", help="The file that a bundle has left.")
    ],
    bundle: Annotated[
        Path | None,
        typer.Option(
            help="The bundle that was measured.  [default: the file beside the results, or what "
            "is known of it where it was made here]",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Also write the result, every sample in it, here.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Read what a bundle has measured elsewhere, as if `edgese profile` had measured it here.

    Nothing of the file is run. It must be whole, and of the bundle: the same artifacts, plan and
    runner by their hashes, on the device that the bundle was made for.
    """
    from edgese.cli import ui
    from edgese.cli.profiles import show_result
    from edgese.measure.bundles import import_results as brought_home
    from edgese.store import writable_file, write_record

    if out is not None:
        writable_file(out)
    result = brought_home(results, bundle)
    if out is not None:
        write_record(result, out)
    if json:
        ui.echo_json(result)
    else:
        show_result(result)
    if result.failures:
        raise typer.Exit(min(failure.exit_code for failure in result.failures))

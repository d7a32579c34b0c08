"""``edgese cache list|prune``."""

from typing import TYPE_CHECKING, Annotated, Final

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgese.records.conversion import CacheEntry

app = typer.Typer(
    help="Show and clear what conversions have stored for reuse. The place is $EDGESE_CACHE_DIR, "
    "or the user's cache folder.",
    epilog="Example: edgese cache list",
    no_args_is_help=True,
    rich_markup_mode=None,
)

LIST_EXAMPLE: Final = "Example: edgese cache list --json"
PRUNE_EXAMPLE: Final = "Example: edgese cache prune --older-than 30 --max-size 5000"


@app.command("list", epilog=LIST_EXAMPLE)
def list_entries(
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """List what the cache holds, the latest used first."""
    from edgese.cli import ui
    from edgese.conversion.cache import cache_entries
    from edgese.store import cache_folder

    entries = cache_entries()
    if json:
        ui.echo_json({"folder": str(cache_folder()), "entries": entries})
        return
    ui.echo(f"{cache_folder()}: {_total(entries)}")
    if entries:
        ui.table(
            ("what", "kind", "last used", "size"),
            [
                (entry.title, entry.kind, entry.used, ui.megabytes(entry.size_bytes))
                for entry in entries
            ],
            left=3,
        )


@app.command("prune", epilog=PRUNE_EXAMPLE)
def prune(
    older_than: Annotated[
        float | None, typer.Option(metavar="DAYS", help="What was not used for so long.")
    ] = None,
    max_size: Annotated[
        float | None,
        typer.Option(metavar="MB", help="What was longest unused, until so much is left."),
    ] = None,
    everything: Annotated[bool, typer.Option("--everything", help="All of it.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Remove entries from the cache; what a running conversion uses stays."""
    from edgese.cli import ui
    from edgese.conversion.cache import prune as run

    removed = run(
        older_than_days=older_than,
        max_size_bytes=None if max_size is None else max_size * 1e6,
        everything=everything,
    )
    if json:
        ui.echo_json(removed)
    else:
        ui.echo(f"removed {_total(removed)}")


def _total(entries: "Sequence[CacheEntry]") -> str:
    from edgese.cli import ui

    size = ui.megabytes(sum(entry.size_bytes for entry in entries))
    return f"{len(entries)} entries, {size}"

"""``edgese cache list|prune``."""

from typing import Annotated, Final

import typer

EXAMPLE: Final = "Example: edgese cache prune --older-than 30"

app = typer.Typer(
    help="Show and clear what conversions have stored for reuse.",
    epilog="Example: edgese cache list",
    no_args_is_help=True,
    rich_markup_mode=None,
)

"""The options of commands that say how something is measured."""

from typing import Annotated

import typer

Launches = Annotated[int, typer.Option(help="New processes of each artifact, one after the other.")]
Blocks = Annotated[
    int, typer.Option(help="Blocks of each artifact over all launches, taken in turn.")
]
MinRuns = Annotated[int, typer.Option(help="Inferences of each artifact, at least.")]
MinTime = Annotated[float, typer.Option(help="Seconds of inference of each artifact, at least.")]

"""The options of commands that say how something is measured, and how to get to the device."""

from typing import Annotated

import typer

Serial = Annotated[str, typer.Option(help="Of a phone among several of its kind.")]
AdbServer = Annotated[
    str, typer.Option(metavar="HOST:PORT", help="The adb server that the phone is attached to.")
]
Address = Annotated[
    str, typer.Option(metavar="USER@HOST", help="Of a board; default: edgese.toml's.")
]
Threads = Annotated[
    int | None,
    typer.Option(help="Threads of each runtime.  [default: physical cores, at most 4]"),
]
Launches = Annotated[int, typer.Option(help="New processes of each artifact, one after the other.")]
Blocks = Annotated[
    int, typer.Option(help="Blocks of each artifact over all launches, taken in turn.")
]
MinRuns = Annotated[int, typer.Option(help="Inferences of each artifact, at least.")]
MinTime = Annotated[float, typer.Option(help="Seconds of inference of each artifact, at least.")]

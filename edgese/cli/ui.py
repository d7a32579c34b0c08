"""Everything that is drawn: tables, progress, JSON. The only file that imports rich.

Results go to stdout, progress to stderr, so that a pipe gets results alone.
"""

import ctypes
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol

import msgspec

from edgese.errors import EdgeseError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

Justify = Literal["left", "right"]

# Rich would squeeze a table into its terminal, down to columns of four characters; a terminal that
# breaks a long line itself is easier to read, and logs and pipes want whole rows.
TABLE_WIDTH: Final = 10_000
# The stages after which nothing more is done for a work.
_ENDS: Final = frozenset({"done", "failed", "cached"})


def echo_json(value: Any) -> None:  # noqa: ANN401 - whatever msgspec can encode
    """Writes a record, or a container of records, to stdout as indented JSON."""
    text = msgspec.json.format(msgspec.json.encode(value), indent=2)
    sys.stdout.write(text.decode() + "\n")


def echo(line: str = "") -> None:
    """Writes a line of results to stdout."""
    sys.stdout.write(line + "\n")


def note(line: str) -> None:
    """Writes a line of news to stderr."""
    sys.stderr.write(line + "\n")


def table(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    left: int = 1,
    last_left: bool = False,
) -> None:
    """Draws a table on stdout, with an empty line above and below.

    Args:
        left: how many of the first columns hold words and align left; the others hold figures.
        last_left: the last one holds words too.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table

    # Cells are shown as they are: rich would take the extra in 'edgese[train]' for a style.
    console = Console(
        file=sys.stdout, width=TABLE_WIDTH, highlight=False, markup=False, emoji=False
    )
    drawn = Table(box=box.SIMPLE, show_edge=False, pad_edge=False, collapse_padding=True)
    for index, column in enumerate(columns):
        words = index < left or (last_left and index == len(columns) - 1)
        drawn.add_column(column, justify="left" if words else "right")
    for row in rows:
        drawn.add_row(*row)
    console.print("", drawn, "", sep="\n")


class Bars(Protocol):
    """Progress of several works at once."""

    def __call__(self, work: str, stage: str, fraction: float) -> None:
        """Says what ``work`` is doing and how much of it, in 0..1, is behind."""


@contextmanager
def bars(works: Sequence[str]) -> Iterator[Bars]:
    """A bar for each of ``works`` on a terminal; elsewhere a line for each new stage."""
    if not sys.stderr.isatty():
        yield _lines()
        return
    from rich.console import Console

    with progress_bars(Console(file=sys.stderr)) as progress:
        yield shown_by(progress, works)


def progress_bars(console: "Console") -> "Progress":
    """Return bars with a clock each, for a terminal."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    return Progress(
        TextColumn("{task.fields[work]}", markup=False),
        BarColumn(bar_width=24),
        TimeElapsedColumn(),
        TextColumn("{task.description}", markup=False),
        console=console,
        transient=True,
    )


def shown_by(progress: "Progress", works: Sequence[str]) -> Bars:
    """Return what shows works as tasks of ``progress``, whose clocks run until a work has ended.

    Rich stops a task's clock for good once its bar is full. A stage whose bar is full is not the
    end of a work, so the clock is let go on.
    """
    tasks = {work: progress.add_task("waiting", total=1.0, work=work) for work in works}

    def show(work: str, stage: str, fraction: float) -> None:
        if work not in tasks:
            tasks[work] = progress.add_task(stage, total=1.0, work=work)
        progress.update(tasks[work], description=stage, completed=fraction)
        if stage not in _ENDS:
            (task,) = (one for one in progress.tasks if one.id == tasks[work])
            task.finished_time = None

    return show


def _lines() -> Bars:
    stages: dict[str, str] = {}

    def show(work: str, stage: str, fraction: float) -> None:
        if stages.get(work) != stage:
            stages[work] = stage
            note(f"{work}: {stage} ({fraction:.0%})")

    return show


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Keeps away what native libraries print, and shows it on stderr where the block fails.

    Runtimes announce their delegates and processors with every load, some of them on stdout, where
    results go. Python's own stderr stays; its stdout is not for use inside.
    """
    real_out, real_err, stream = os.dup(1), os.dup(2), sys.stderr
    with tempfile.TemporaryFile() as log, os.fdopen(real_err, "w", buffering=1) as screen:
        sys.stdout.flush()
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        sys.stderr = screen
        try:
            yield
        except EdgeseError:
            raise  # it says what was found; the runtimes' chatter would bury it
        except Exception:
            ctypes.CDLL(None).fflush(None)
            log.seek(0)
            screen.write(log.read().decode(errors="replace"))
            raise
        finally:
            screen.flush()
            # What C libraries have buffered would come out at exit, in the middle of the results.
            ctypes.CDLL(None).fflush(None)
            os.dup2(real_out, 1)
            os.dup2(real_err, 2)
            os.close(real_out)
            sys.stderr = stream


def count(number: float) -> str:
    """A count with thousands separated."""
    return f"{number:,.0f}"


def millions(number: float) -> str:
    """A count in millions."""
    return f"{number / 1e6:.2f} M"


def megabytes(size_bytes: float) -> str:
    """A size in MB (10^6 bytes)."""
    return f"{size_bytes / 1e6:.1f} MB"


def percent(share: float | None, digits: int = 1) -> str:
    """A share in percent; a dash where there is none."""
    return "-" if share is None else f"{100 * share:.{digits}f} %"

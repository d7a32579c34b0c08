"""What is printed where: results on stdout alone."""

import io
import subprocess
import sys

import pytest

SCRIPT = """
import ctypes, os, sys
from edgese.cli import ui
with ui.quiet_libraries():
    os.write(1, b"noise on stdout")
    os.write(2, b"noise on stderr")
    ctypes.CDLL(None).puts(b"noise in a buffer")
    ui.note("news")
    {inside}
ui.echo("result")
"""


def ran(inside):
    return subprocess.run(
        [sys.executable, "-c", SCRIPT.format(inside=inside)],
        capture_output=True,
        text=True,
        check=False,
    )


def test_what_libraries_print_does_not_mix_with_results():
    outcome = ran("pass")
    assert (outcome.stdout, outcome.stderr) == ("result\n", "news\n")


def test_what_libraries_print_is_shown_where_the_work_fails():
    outcome = ran("raise ValueError('x')")
    assert outcome.stdout == ""
    assert "noise on stdout" in outcome.stderr
    assert "noise in a buffer" in outcome.stderr


@pytest.mark.parametrize("fraction", [0.0, 1.0])
def test_progress_goes_to_stderr_a_line_for_each_stage(capsys, fraction):
    from edgese.cli import ui

    with ui.bars(["work"]) as show:
        show("work", "first", 0.0)
        show("work", "first", fraction)
        show("work", "second", 1.0)
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.splitlines() == ["work: first (0%)", "work: second (100%)"]


def test_a_clock_runs_until_the_work_has_ended_and_a_full_bar_is_no_end():
    from rich.console import Console
    from rich.progress import TimeElapsedColumn

    from edgese.cli import ui

    now = 0.0
    progress = ui.progress_bars(Console(file=io.StringIO()))
    progress.get_time = lambda: now
    show = ui.shown_by(progress, ["work"])
    (clock,) = (column for column in progress.columns if isinstance(column, TimeElapsedColumn))

    def told(after):
        nonlocal now
        now += after
        return str(clock.render(progress.tasks[0]))

    show("work", "export", 0.5)
    assert told(5) == "0:00:05"
    show("work", "export", 1.0)
    assert told(5) == "0:00:10"
    # This stage reports nothing more.
    show("work", "search the ranges", 0.0)
    assert told(50) == "0:01:00"
    show("work", "save", 1.0)
    assert told(60) == "0:02:00"
    # One work may be several, as of the groups of a measurement.
    show("work", "done", 1.0)
    assert told(60) == "0:02:00"
    show("work", "next", 0.0)
    assert told(0) == "0:03:00"
    for end in ("done", "failed", "cached"):
        show("work", "next", 0.5)
        show("work", end, 1.0)
        stopped = told(0)
        assert told(60) == stopped


@pytest.mark.parametrize("cell", ["a" * 300, "pip install 'edgese[train]'", "out[1]/:x:.onnx"])
def test_a_table_shows_its_cells_whole_and_as_they_are(capsys, cell):
    from edgese.cli import ui

    ui.table(("name", "figure"), [(cell, "1")])
    assert cell in capsys.readouterr().out

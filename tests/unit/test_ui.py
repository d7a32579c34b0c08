"""What is printed where: results on stdout alone."""

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


@pytest.mark.parametrize("cell", ["a" * 300, "pip install 'edgese[train]'", "out[1]/:x:.onnx"])
def test_a_table_shows_its_cells_whole_and_as_they_are(capsys, cell):
    from edgese.cli import ui

    ui.table(("name", "figure"), [(cell, "1")])
    assert cell in capsys.readouterr().out

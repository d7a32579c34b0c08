"""What happened becomes an exit code and a message on stderr."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from edgese import __main__, errors
from edgese.cli import app as application


def failing(error):
    def app(*_args, **_options):
        raise error

    return app


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.ConfigError("asked", hint="do this"), 2),
        (errors.OutputError("asked", hint="do this"), 9),
        (KeyboardInterrupt(), 130),
        (PermissionError(errno.EACCES, "Permission denied", "/root/a.csv"), 8),
        (OSError(errno.ENAMETOOLONG, "File name too long", "a" * 5000), 8),
        (ModuleNotFoundError("No module named 'torch'", name="torch"), 3),
        (ModuleNotFoundError("No module named 'edgese.x'", name="edgese.x"), 70),
        (ZeroDivisionError("a bug"), 70),
    ],
)
def test_each_end_has_its_exit_code(monkeypatch, capsys, error, code):
    monkeypatch.setattr(application, "app", failing(error))
    assert __main__.run([]) == code
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.strip()


def test_an_error_tells_message_and_remedy(monkeypatch, capsys):
    monkeypatch.setattr(application, "app", failing(errors.InputError("found x", hint="do y")))
    __main__.run([])
    assert capsys.readouterr().err == "edgese: found x\ndo y\n"


def test_a_bug_shows_its_traceback(monkeypatch, capsys):
    monkeypatch.setattr(application, "app", failing(ZeroDivisionError("a bug")))
    __main__.run([])
    said = capsys.readouterr().err
    assert "Traceback" in said
    assert "ZeroDivisionError: a bug" in said


def test_a_wrong_value_is_told_with_its_option(capsys):
    assert __main__.run(["convert", "x", "--batch", "0"]) == 2
    assert "--batch" in capsys.readouterr().err


def edgese(*arguments, **streams):
    command = [sys.executable, "-m", "edgese", *arguments]
    return subprocess.run(command, check=False, text=True, **streams)


@pytest.mark.parametrize("arguments", [["models"], ["models", "--json"], ["--help"]])
def test_a_reader_that_leaves_early_is_no_error(arguments):
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as closed:
        ended = edgese(*arguments, stdout=closed, stderr=subprocess.PIPE)
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has an always full device")
@pytest.mark.parametrize("arguments", [["models"], ["--version"]])
def test_output_that_fits_nowhere_ends_in_9(arguments):
    with Path("/dev/full").open("wb") as full:
        ended = edgese(*arguments, stdout=full, stderr=subprocess.PIPE)
    assert ended.returncode == 9
    assert "the disk is full" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_closed_output_is_no_fault(closed):
    # The shell closes them; what it starts stands in the arguments.
    shell = ["sh", "-c", f'exec "$@" {closed}', "sh", sys.executable, "-m", "edgese", "models"]
    ended = subprocess.run(shell, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_a_termination_ends_like_an_interruption(monkeypatch, capsys):
    def app(*_args, **_options):
        signal.raise_signal(signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(application, "app", app)
    monkeypatch.setattr(sys, "argv", ["edgese", "--version"])
    with pytest.raises(SystemExit) as ended:
        __main__.main()
    assert ended.value.code == 130
    assert "interrupted" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGTERM) == before


# Sends a signal as soon as a module is imported, which is before any command begins.
AT_START = """
import signal, sys
from edgese.__main__ import main

class Sending:
    def find_spec(self, name, *_):
        if name == sys.argv[2]:
            signal.raise_signal(int(sys.argv[1]))

# A shell's background processes ignore Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.meta_path.insert(0, Sending())
sys.argv[3:] = []
try:
    main()
finally:
    print("signalled" if "edgese.cli.app" not in sys.modules else "too late")
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("module", ["edgese.scratch", "typer", "edgese.cli.app"])
def test_an_interruption_while_edgese_starts_leaves_no_traceback_and_no_folder(
    number, module, tmp_path
):
    ended = subprocess.run(
        [sys.executable, "-c", AT_START, str(int(number)), module],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.stdout == "signalled\n"
    assert ended.stderr == "edgese: interrupted; nothing unfinished was left behind.\n"
    assert ended.returncode == 130
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [["modes"], ["models", "--nonsense"], ["demo", "x"]])
def test_wrong_arguments_end_in_2_and_name_the_help(capsys, arguments):
    assert __main__.run(arguments) == 2
    assert "--help` tells what it takes" in capsys.readouterr().err

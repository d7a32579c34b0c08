"""What happened becomes an exit code and a message on stderr."""

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


@pytest.mark.parametrize("arguments", [["modes"], ["models", "--nonsense"], ["profile"]])
def test_wrong_arguments_end_in_2_and_name_the_help(capsys, arguments):
    assert __main__.run(arguments) == 2
    assert "--help` tells what it takes" in capsys.readouterr().err

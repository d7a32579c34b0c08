"""The command ``edgese``: runs it and turns what happened into an exit code."""

import os
import sys
import traceback

from edgese.errors import (
    EXIT_BUG,
    EXIT_INTERRUPTED,
    ConfigError,
    EdgeseError,
    MissingDependency,
)


def main() -> None:
    """Runs the command line and exits; see `edgese.errors` for the codes."""
    sys.exit(run())


def run(arguments: list[str] | None = None) -> int:
    """Runs one command and returns its exit code; ``arguments`` default to the process's own."""
    import typer

    from edgese.cli.app import app

    try:
        # Outside standalone mode Typer returns what the command returned, or the code of an Exit.
        code = app(arguments, standalone_mode=False)
        sys.stdout.flush()
    except typer.TyperException as error:
        code = _misused(error)
    except EdgeseError as error:
        code = _failed(error)
    except (KeyboardInterrupt, typer.Abort):
        code = EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader has seen enough (`edgese models | head`). Python would complain again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except ModuleNotFoundError as error:
        code = _bug() if (error.name or "edgese").startswith("edgese") else _lacking(error)
    except Exception:  # noqa: BLE001 - Python would exit with 1, which means "budget missed"
        code = _bug()
    # Typer catches Ctrl-C too, and returns its exit code.
    if code == EXIT_INTERRUPTED:
        _say("edgese: interrupted; nothing unfinished was left behind.")
    return code if isinstance(code, int) else 0


def _failed(error: EdgeseError) -> int:
    _say(f"edgese: {error.message}")
    if error.hint:
        _say(error.hint)
    return error.exit_code


def _lacking(error: ModuleNotFoundError) -> int:
    return _failed(
        MissingDependency(
            f"This command needs {error.name}, which is not installed.",
            hint="pip install 'edgese[train]' brings what every target needs, 'edgese[all]' all of "
            "them; `edgese doctor` tells what is missing.",
        )
    )


def _misused(error: Exception) -> int:
    """Says what was wrong with the arguments, and where the right ones are told."""
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "edgese"
    message = str(error)
    if message.startswith("Usage:"):  # a group without a command: the help is the answer
        _say(message)
    else:
        _say(f"edgese: {message}")
        _say(f"`{command} --help` tells what it takes.")
    return ConfigError.exit_code


def _bug() -> int:
    traceback.print_exc()
    _say("edgese: this is a bug; please report it with the lines above and `edgese doctor`.")
    return EXIT_BUG


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")


if __name__ == "__main__":
    main()

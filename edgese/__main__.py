"""The command ``edgese``: runs it and turns what happened into an exit code."""

import errno
import os
import select
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from edgese.errors import (
    EXIT_BUG,
    EXIT_INTERRUPTED,
    ConfigError,
    EdgeseError,
    InputError,
    MissingDependency,
    OutputError,
)

if TYPE_CHECKING:
    import typer

# Of a path that somebody named, below a folder that may not be searched, or too long for any.
_UNSEEN = (errno.EACCES, errno.ENAMETOOLONG)


def main() -> None:
    """Runs the command line and exits; see `edgese.errors` for the codes."""
    for name in ("stdout", "stderr"):
        # Python has none where it was closed (`>&-`); its number must not become another file's.
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_WRONLY), "w", encoding="utf-8"))
    try:
        # From the start: importing the commands takes longer than some of them.
        with _terminated_like_interrupted():
            # The help makes no temporary file, and must start fast.
            if set(sys.argv[1:]) - {"--help", "-h", "--version"}:
                from edgese import scratch

                # Torch makes a folder when it is imported, and Python's processes make theirs.
                scratch.take_over()
            code = run()
    except KeyboardInterrupt:
        code = _interrupted()
    sys.exit(code)


def run(arguments: list[str] | None = None) -> int:
    """Runs one command and returns its exit code; ``arguments`` default to the process's own."""
    import typer

    from edgese.cli.app import app

    try:
        _check_encoding(sys.argv[1:] if arguments is None else arguments)
        # Outside standalone mode Typer returns what the command returned, or an Exit's code.
        with _terminated_like_interrupted():
            code = app(arguments, standalone_mode=False)
        sys.stdout.flush()
    except typer.TyperException as error:
        code = _misused(error)
    except EdgeseError as error:
        code = _failed(error)
    except (KeyboardInterrupt, typer.Abort):
        code = EXIT_INTERRUPTED
    except (OSError, SystemExit) as error:
        code = _unwritten(error)
    except ModuleNotFoundError as error:
        code = _bug() if (error.name or "edgese").startswith("edgese") else _lacking(error)
    except Exception:  # noqa: BLE001 - Python would exit with 1, which means "budget missed"
        code = _bug()
    # Typer catches Ctrl-C too, and returns its exit code.
    if code == EXIT_INTERRUPTED:
        return _interrupted()
    return code if isinstance(code, int) else 0


def _interrupted() -> int:
    _say("edgese: interrupted; nothing unfinished was left behind.")
    return EXIT_INTERRUPTED


def _check_encoding(arguments: list[str]) -> None:
    """Results name what was asked for, and are UTF-8."""
    for argument in arguments:
        try:
            argument.encode()
        except UnicodeEncodeError as error:
            raise ConfigError(
                f"The argument {argument!a} is not UTF-8.", hint="Rename the file or folder."
            ) from error


@contextmanager
def _terminated_like_interrupted() -> Iterator[None]:
    """SIGTERM and a closed terminal raise KeyboardInterrupt, to clean up as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    signals = (signal.SIGTERM, signal.SIGHUP)
    # `nohup` ignores the terminal's end on purpose.
    wanted = [number for number in signals if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, signal.default_int_handler) for number in wanted}
    try:
        yield
    finally:
        for number, handler in before.items():
            # None stands for a handler that was not installed from Python.
            signal.signal(number, handler or signal.SIG_DFL)


def _unwritten(error: OSError | SystemExit) -> int:
    """Tells output that nobody takes from everything else."""
    # Whether something is there asks the system, and that may refuse to look.
    if isinstance(error, OSError) and error.errno in _UNSEEN and error.filename is not None:
        return _failed(
            InputError(
                f"{os.fsdecode(error.filename)} cannot be read: {error.strerror}.",
                hint="Name a place that you may look into.",
            )
        )
    # Typer leaves with 1, which means "budget missed", where a pipe is broken.
    cause = error.__context__ if isinstance(error, SystemExit) else error
    # Where it is another pipe that broke, such as a worker's, output is still read.
    printed = isinstance(error, SystemExit) or not _is_read(sys.stdout.fileno())
    if isinstance(cause, BrokenPipeError) and printed:
        # The reader has seen enough (`edgese models | head`).
        _drop_output()
        return 0
    if isinstance(error, SystemExit):
        raise error
    # What fails at a path of its own is told where it is written; standard output has none.
    if error.errno == errno.ENOSPC and error.filename is None:
        _drop_output()
        return _failed(
            OutputError(
                "The output cannot be written: the disk is full.",
                hint="Free some space, or send it elsewhere.",
            )
        )
    return _bug()


def _is_read(descriptor: int) -> bool:
    """Whether there is anybody left who reads what is written to a pipe."""
    poll = select.poll()
    poll.register(descriptor, 0)
    return not any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


def _drop_output() -> None:
    # Python would try again at exit, complain, and end in another code.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


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


def _misused(error: "typer.TyperException") -> int:
    """Says what was wrong with the arguments, and where the right ones are told."""
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "edgese"
    message = error.format_message()
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

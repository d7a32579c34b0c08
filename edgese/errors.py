"""Every error that edgese raises on purpose, with the exit code that it ends in.

EdgeseError
|- ConfigError            2   unknown name, bad setting, recipe that a target cannot execute
|- OperatorUnknown        2   a ConfigError: only the real runtime, which is not here, executes it
|- MissingDependency      3   the hint is the install command
|- ConversionError        4   a target refused the program, or the artifact failed its parity check
|- DeviceError            5   not found, timeout, command failed
|- DeviceAbsent           5   a DeviceError: known, and not there
|- MeasurementError       6   too few runs, throttled, unclear
|- Collapsed              6   a MeasurementError: a training or quantization came to nothing
|- StoreError             7   wrong hash, older schema, newer schema
|- InputError             8   weights, pictures or results: missing, truncated, not what they say
|- OutputError            9   a place that cannot be written, or is full

0 is success, 1 a budget that is missed, 70 a bug, 130 an interruption. Python's own exit code for
an uncaught exception is 1, which a gate would read as a clean "no"; the command line maps it to 70.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import ClassVar, Final

EXIT_BUG = 70
EXIT_INTERRUPTED = 130

_PACKAGE: Final = str(Path(__file__).parent) + "/"
# What the interpreter and compiled libraries raise in a frame of whoever calls them. A mistake of
# our own shows as something else: AttributeError, KeyError, TypeError, AssertionError ...
_FROM_OUTSIDE: Final = (OSError, MemoryError, RuntimeError, UnicodeError, EOFError, BufferError)
# These have an answer of their own: a reader that has seen enough, and a package to install.
_ANSWERED: Final = (BrokenPipeError, ModuleNotFoundError)
_LONGEST: Final = 300


class EdgeseError(Exception):
    """What went wrong, in one sentence that names what was asked and what was found.

    Args:
        message: what was asked and what was found.
        hint: what to do about it, as a sentence or a command.
    """

    exit_code: ClassVar[int] = EXIT_BUG

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message

    def __reduce__(self) -> tuple[type["EdgeseError"], tuple[str, str]]:
        # Errors cross process boundaries; the default would lose the hint.
        return type(self), (self.message, self.hint)


class ConfigError(EdgeseError):
    """A name, option or file that asks for something that does not exist or cannot be."""

    exit_code = 2


class OperatorUnknown(ConfigError):
    """An operator that only the real runtime executes, and what stands in for it here does not."""


class MissingDependency(EdgeseError):
    """A package is needed that is not installed; the hint is the command that installs it."""

    exit_code = 3


class ConversionError(EdgeseError):
    """A target could not convert the program, or what it made does not compute the same."""

    exit_code = 4


class DeviceError(EdgeseError):
    """A device was not found, did not answer, or a command on it failed."""

    exit_code = 5


class DeviceAbsent(DeviceError):
    """A device that is known and not there; nothing is wrong, and something may stand in for it."""


class MeasurementError(EdgeseError):
    """A measurement cannot carry the statement that was asked of it."""

    exit_code = 6


class Collapsed(MeasurementError):
    """A training or a quantization came to nothing: chance, one class, a loss that diverged."""


class StoreError(EdgeseError):
    """A stored file does not match its hash, or its schema is of another version."""

    exit_code = 7


class InputError(EdgeseError):
    """Weights, pictures or results that are missing, truncated or not what they say they are."""

    exit_code = 8


class OutputError(EdgeseError):
    """A place that cannot be written, or that is full."""

    exit_code = 9


def error_kind(exit_code: int) -> type[EdgeseError]:
    """Return the kind of error that ends in an exit code; `EdgeseError` where none does."""
    kinds = (kind for kind in EdgeseError.__subclasses__() if kind.exit_code == exit_code)
    return next(kinds, EdgeseError)


@contextmanager
def stage(
    doing: str,
    raises: type[EdgeseError] = InputError,
    *,
    hint: str = "",
    also: tuple[type[Exception], ...] = (),
) -> Iterator[None]:
    """Turn what third parties raise in this block into the error of the stage.

    Nobody can list what a library raises on what it was never tried on. So the place decides: an
    exception that was raised outside edgese becomes a ``raises`` with the original as its cause. So
    do exceptions whose class some library defines, and those of the operating system. Everything
    else is a mistake in edgese and passes, with its traceback.

    Args:
        doing: what is done with what, as in "read the weights of x.pth"; completes "Cannot ...".
        also: built-in exceptions that a compiled library raises in this block, which has no frame.

    Raises:
        EdgeseError: of the type ``raises``.
    """
    try:
        yield
    except (EdgeseError, *_ANSWERED):
        raise
    except Exception as error:
        if not isinstance(error, also) and not is_foreign(error):
            raise
        raise raises(f"Cannot {doing}: {described(error)}.", hint=hint) from error


def is_foreign(error: Exception) -> bool:
    """Return whether an exception was raised by something else than edgese's own code."""
    if isinstance(error, (*_FROM_OUTSIDE, OverflowError)):
        return True
    if type(error).__module__.partition(".")[0] not in ("builtins", "edgese"):
        return True
    frame = _innermost(error)
    return frame is not None and not frame.f_code.co_filename.startswith(_PACKAGE)


def described(error: Exception) -> str:
    """Return what was raised, by whom, and the first line of what it says."""
    if isinstance(error, RecursionError):
        return f"it is nested deeper than {sys.getrecursionlimit()} levels"
    if isinstance(error, MemoryError):
        return "there is not enough memory for it"
    if isinstance(error, OSError) and error.strerror:
        # The file may be another than the one that the stage is about.
        return f"{error.strerror} ({error.filename})" if error.filename else error.strerror
    first = next(iter(str(error).strip().splitlines()), "").rstrip(".")
    where = ""
    frame = _innermost(error)
    if frame is not None and not frame.f_code.co_filename.startswith(_PACKAGE):
        where = f" in {frame.f_globals.get('__name__', '?')}"
    return f"{type(error).__name__}{where}" + (f": {first[:_LONGEST]}" if first else "")


def _innermost(error: Exception) -> FrameType | None:
    traceback, frame = error.__traceback__, None
    while traceback is not None:
        frame, traceback = traceback.tb_frame, traceback.tb_next
    return frame

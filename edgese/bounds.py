"""Opens what is read, within bounds: regular files alone, and no more of them than can be meant.

Each figure stands here once. It lies far above what is ever written, and below what exhausts a
machine. How deep JSON and TOML may nest is the interpreter's own limit (1000 levels), which ends in
a RecursionError before any stack is used up.
"""

import json
import os
import re
import stat
from collections.abc import Callable, Iterable
from io import BufferedReader
from pathlib import Path
from typing import IO, Any, Final

from edgese.errors import EdgeseError, InputError

_MIB: Final = 2**20

# A result holds every sample: 10 000 inferences take 0.2 MB.
JSON_BYTES: Final = 256 * _MIB
# A spec with the 21 841 labels of ImageNet-21k takes 0.6 MB; Python reads about 1 MB a second.
TOML_BYTES: Final = 4 * _MIB
# Parts of one dotted key: reading takes the square of them, 2 s for 10 000.
TOML_PARTS: Final = 32
# 14 million lines of 70 characters, ImageNet-21k as a whole.
LISTING_BYTES: Final = 1024 * _MIB
LABELS_BYTES: Final = 16 * _MIB
# The name of one class.
LABEL_BYTES: Final = 4096
# The largest photograph of ImageNet has 61 million pixels and 15 MB.
IMAGE_BYTES: Final = 1024 * _MIB
IMAGE_PIXELS: Final = 178_956_970
# The format's own bound (github.com/huggingface/safetensors, README.md).
SAFETENSORS_HEADER_BYTES: Final = 100_000_000
# Archives of weights are stored and not compressed; torch's have two members a tensor.
ZIP_MEMBERS: Final = 200_000
ZIP_EXPANSION: Final = 16

_KINDS: Final = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
# What a shell passes on purpose, as in `edgese gate <(...)`: whoever asks for it is there to write.
_DESCRIPTORS: Final = ("/dev/fd/", "/dev/stdin", "/proc/self/fd/")
_QUOTED: Final = re.compile(rb'"(?:[^"\\\n]|\\.)*"|' + rb"'[^'\n]*'")
_DOTTED: Final = re.compile(rb"(?<![\w-])(?:[\w-]+[ \t]*\.[ \t]*){%d}" % TOML_PARTS)


# What Python reads as a number takes the square of its digits; above 4300 it raises.
_DIGITS: Final = 18
# Characters of a name in a message.
_TOLD: Final = 200


def whole(text: str) -> int | None:
    """Return the number that at most 18 decimal digits are; None of any other text.

    `str.isdigit` holds for digits that `int` does not read, such as an exponent's.
    """
    return int(text) if len(text) <= _DIGITS and text.isdecimal() else None


def shortened(names: Iterable[str], most: int = 8) -> str:
    """Return names of a file in a row for a message: a few of them, and none of them at length."""
    every = [*names]
    told = [name if len(name) <= _TOLD else f"{name[:_TOLD]}..." for name in every[:most]]
    more = f" and {len(every) - most} more" if len(every) > most else ""
    return ", ".join(told) + more


def is_there(path: Path) -> bool:
    """Return whether something is at a path that this process can see.

    Unlike `Path.exists`, which raises where a folder above may not be searched or a name is too
    long: what a record names was there for whoever wrote it.
    """
    return os.path.exists(path)  # noqa: PTH110  # as said


def opened(path: Path, what: str, *, hint: str = "") -> BufferedReader:
    """Open a regular file for reading.

    Opening a pipe that nobody writes to would wait for ever, and reading a device may never end.

    Args:
        what: it should be, as in "image" or "budget", for the message.

    Raises:
        InputError: it cannot be opened, or is no regular file.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        # A name with a zero byte is a ValueError.
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise InputError(f"The {what} {path} cannot be read: {reason}.", hint=hint) from error
    if fault := _irregular(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise InputError(f"The {what} {path} cannot be read: it is {fault}, not a file.", hint=hint)
    return os.fdopen(descriptor, "rb")


def content(path: Path, what: str, most: int, *, hint: str = "") -> bytes:
    """Return the bytes of a file, which may also be a descriptor that a shell passes.

    Args:
        most: bytes that it may have.

    Raises:
        InputError: it cannot be read, is no regular file, or has more bytes.
    """
    try:
        file = (
            path.open("rb") if str(path).startswith(_DESCRIPTORS) else opened(path, what, hint=hint)
        )
        with file:
            found = file.read(most + 1)
    except OSError as error:
        raise InputError(
            f"The {what} {path} cannot be read: {error.strerror}.", hint=hint
        ) from error
    if len(found) > most:
        raise InputError(
            f"The {what} {path} is larger than {most / _MIB:.0f} MiB, the most that is read.",
            hint=hint or "It is likely another file than the one that was meant.",
        )
    return found


def check_size(file: IO[bytes], path: Path, what: str, most: int) -> None:
    """Raise where an open file has more than ``most`` bytes.

    Raises:
        InputError: it does.
    """
    size = os.fstat(file.fileno()).st_size
    if size > most:
        raise InputError(
            f"The {what} {path} has {size / _MIB:.0f} MiB; {most / _MIB:.0f} MiB are the most that "
            "are read.",
            hint="It is likely another file than the one that was meant.",
        )


def check_toml(text: str | bytes, source: Path | str) -> None:
    """Raise where TOML would take the parser minutes: the square of a key's parts.

    Raises:
        InputError: a key has too many parts.
    """
    raw = text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text
    if _DOTTED.search(_QUOTED.sub(b"q", raw)):
        raise InputError(
            f"{source} has a key of more than {TOML_PARTS} parts.",
            hint="Mend the key; none that edgese knows has more than five.",
        )


def check_keys(text: str | bytes, source: Path | str) -> None:
    """Raise where an object of some JSON has a key twice, of which a reader would see one.

    Raises:
        InputError: it does; the key is named.
    """
    json.loads(text, object_pairs_hook=unique(source))


def unique(
    source: Path | str, error: type[EdgeseError] = InputError
) -> Callable[[list[tuple[str, Any]]], dict[str, Any]]:
    """Return what makes a dict of a JSON object's pairs, and raises where a key is there twice."""

    def made(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            keys = [key for key, _ in pairs]
            twice = next(key for key in keys if keys.count(key) > 1)
            raise error(
                f"{source} has the key {twice!r} twice in one object.",
                hint="One of the two would be ignored; take the wrong one out.",
            )
        return found

    return made


def _irregular(mode: int) -> str:
    if stat.S_ISREG(mode):
        return ""
    return next((kind for test, kind in _KINDS if test(mode)), "something else")

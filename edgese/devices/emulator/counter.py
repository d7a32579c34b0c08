"""The counter of instructions: built from its source, and its lines read."""

import hashlib
import json
from pathlib import Path
from shutil import which
from typing import Final

import msgspec

from edgese import store
from edgese.errors import DeviceError, MissingDependency
from edgese.lifeline import run
from edgese.records.base import Record
from edgese.records.emulation import InstructionCounts

SOURCE: Final = Path(__file__).with_name("counter.c")
_FLAGS: Final = ("-O2", "-shared", "-fPIC")


class Count(Record, frozen=True):
    """What was executed between two marks.

    Attributes:
        blocks: address, executions, instructions, and how many of each class, in the order of the
            fields of `InstructionCounts` after the total; only where they were asked for.
    """

    counts: InstructionCounts
    blocks: tuple[tuple[int, ...], ...]


def library() -> Path:
    """The built counter, which is named by the hash of its source.

    Raises:
        MissingDependency: no C compiler is installed.
        DeviceError: the compiler refused it.
        OutputError: the cache cannot be written.
    """
    digest = hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:16]
    path = store.cache_folder() / "emulator" / f"counter-{digest}.so"
    if path.is_file():
        return path
    compiler = which("cc") or which("gcc")
    if compiler is None:
        raise MissingDependency(
            "No C compiler is installed; it builds the counter of instructions.",
            hint="sudo apt-get install gcc libc6-dev",
        )
    with store.staging(path) as (part,):
        outcome = run([compiler, *_FLAGS, "-o", part, SOURCE])
        if outcome.returncode != 0:
            raise DeviceError(
                f"{compiler} cannot build the counter of instructions: {outcome.stderr[:300]}",
                hint="sudo apt-get install gcc libc6-dev",
            )
    return path


def parsed(lines: bytes) -> list[Count]:
    """What the counter wrote, one entry for each pair of marks.

    Raises:
        DeviceError: it is not whole.
    """
    try:
        found = [json.loads(line) for line in lines.splitlines()]
        return [
            msgspec.convert({"blocks": one.pop("blocks"), "counts": one}, Count) for one in found
        ]
    except (ValueError, KeyError, TypeError, AttributeError, msgspec.ValidationError) as error:
        raise DeviceError(
            f"The counter of instructions wrote something that cannot be read: {error}.",
            hint="The disk may be full, or QEMU ended in the middle; try again.",
        ) from error

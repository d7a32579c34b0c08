"""The file of a program: its graph as JSON in the header of a safetensors file of its tensors.

Nothing in it can be executed: it has names of operators, which are looked up in a closed list,
numbers, and the bytes of tensors. `write_program` is the one writer, `read_program` the one reader.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from edgese.errors import InputError
from edgese.records.program import GRAPH_SCHEMA, ProgramGraph

if TYPE_CHECKING:
    from torch.export import ExportedProgram

SUFFIX: Final = ".program"
# Of a folder with a program, and with the images and logits that artifacts are compared on.
PROGRAM: Final = f"exported{SUFFIX}"
REFERENCE: Final = "reference.npz"
_KEY: Final = "edgese.program"
# EfficientNetV2-S, quantized, takes 0.6 MB; the header's own limit is 100 MB.
_LONGEST: Final = 2**26
_AGAIN: Final = "Make it again: `edgese quantize MODEL --data PICTURES`."


def write_program(program: "ExportedProgram", path: Path) -> None:
    """Write a program to a file: the same bytes for the same program.

    Raises:
        ConversionError: it has something that no such file holds; the operator or value is named.
        OSError: the file cannot be written.
    """
    from safetensors.torch import save

    from edgese.program.building import taken_apart

    graph, tensors = taken_apart(program)
    text = msgspec.json.encode(graph).decode()
    path.write_bytes(save(tensors, metadata={_KEY: text}))


def read_program(path: Path) -> "ExportedProgram":
    """Read a program from its file; executes nothing of it.

    Raises:
        InputError: it is missing, damaged, or no program.
    """
    from safetensors import SafetensorError, safe_open

    from edgese.program.building import put_together

    graph = _graph(path)
    try:
        with safe_open(path, framework="pt") as file:
            # Copies: some kernels round otherwise where a tensor is not aligned in memory.
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118  # no dict
    except (SafetensorError, OSError, RuntimeError, ValueError) as error:
        raise InputError(f"{path} is not a readable program: {error}", hint=_AGAIN) from error
    return put_together(graph, tensors, str(path))


def _graph(path: Path) -> ProgramGraph:
    """Return the graph in a file's header."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            text = file.read(length) if length <= _LONGEST else b""
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.", hint=_AGAIN) from error
    if not text or len(text) < length:
        raise InputError(f"{path} is not a readable program: it has no whole header.", hint=_AGAIN)
    try:
        header = json.loads(text, object_pairs_hook=_without_doubles)
        held = json.loads(header["__metadata__"][_KEY], object_pairs_hook=_without_doubles)
        if held.get("schema") != GRAPH_SCHEMA:
            raise InputError(
                f"{path} has the schema {held.get('schema')!r}, and this edgese reads "
                f"{GRAPH_SCHEMA}.",
                hint=_AGAIN,
            )
        return msgspec.convert(held, ProgramGraph)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(
            f"{path} is not a readable program: {str(error)[:300]}", hint=_AGAIN
        ) from error


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name occurs twice")
    return found

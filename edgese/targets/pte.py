"""Reads ExecuTorch's program files: what is called, and what a delegate holds.

Sources: executorch 1.4.1, exir/_serialize/program.fbs, schema/extended_header.h,
backends/xnnpack/serialization/{runtime_schema.fbs,xnnpack_graph_serialize.py}. The formats keep
field numbers and union tags; reading them here saves the four seconds of importing their Python.
"""

import struct
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Final

from edgese.targets.batches import unreadable
from edgese.targets.flatbuffer import BrokenFlatbuffer, Table

XNNPACK: Final = "XnnpackBackend"

_MAGIC: Final = b"ET12"
_HEADER_MAGIC: Final = b"eh00"
_HEADER: Final = struct.Struct("<4sIQQQ")  # magic, its length, program, first segment, all segments
_XNNPACK_MAGIC: Final = b"XH00"
_IN_SEGMENT: Final = 1
# The members of XNodeUnion in their order; the tag of the first is 1.
_XNNPACK_NODES: Final = (
    "add",
    "fully_connected",
    "softmax",
    "sigmoid",
    "static_transpose",
    "clamp",
    "conv2d",
    "div",
    "static_resize_bilinear2d",
    "static_constant_pad",
    "avg_pooling2d",
    "minimum",
    "depthwise_conv2d",
    "max_pooling2d",
    "multiply",
    "subtract",
    "floor",
    "convert",
    "global_avg_pooling2d",
    "static_reshape",
    "arg_max_pooling2d",
    "square_root",
    "ceiling",
    "hardswish",
    "leaky_relu",
    "maximum",
    "negate",
    "square",
    "elu",
    "abs",
    "prelu",
    "concatenate2",
    "concatenate3",
    "concatenate4",
    "static_slice",
    "scaled_dot_product_attention",
    "batch_matrix_multiply",
    "concatenate5",
    "conv_transpose2d",
    "reciprocal_square_root",
    "log",
    "gelu",
    "tanh",
    "exp",
    "sin",
    "copy",
    "cos",
)


class Call(IntEnum):
    """Tags of InstructionArguments; the others move values and jump."""

    KERNEL = 1
    DELEGATE = 2


@dataclass(frozen=True)
class Contents:
    """What a program's first method does.

    Attributes:
        kernels: calls of each operator outside a delegate, as in "aten::add.out".
        delegates: the backend of each delegate call, in order.
        inside: nodes of each kind within XNNPACK's graphs.
    """

    kernels: Counter[str]
    delegates: tuple[str, ...]
    inside: Counter[str]


def read(artifact: Path) -> Contents:
    """Reads the file.

    Raises:
        InputError: it is missing, truncated, or no ExecuTorch program.
    """
    data = checked(artifact)
    try:
        return _contents(data)
    except (BrokenFlatbuffer, IndexError, UnicodeDecodeError) as error:
        raise unreadable(artifact, "ExecuTorch", error) from error


def checked(artifact: Path) -> bytes:
    """The file's bytes, once its header says that it is a program and whole.

    Raises:
        InputError: it is missing, truncated, or no ExecuTorch program.
    """
    try:
        data = artifact.read_bytes()
    except OSError as error:
        raise unreadable(artifact, "ExecuTorch", error.strerror) from error
    if data[4:8] != _MAGIC or len(data) < 8 + _HEADER.size:
        raise unreadable(artifact, "ExecuTorch", "it does not begin as an ExecuTorch program does")
    magic, _, program, base, segments = _HEADER.unpack_from(data, 8)
    if magic != _HEADER_MAGIC:
        raise unreadable(artifact, "ExecuTorch", "its header is missing")
    size = max(program, base + segments)
    if len(data) < size:
        raise unreadable(artifact, "ExecuTorch", f"it has {len(data)} of its {size} bytes")
    return data


def _contents(data: bytes) -> Contents:
    program = Table.root(data)
    plan = program.tables(1)[0]
    operators = [f"{op.text(0)}.{op.text(1)}".rstrip(".") for op in plan.tables(6)]
    delegates = plan.tables(7)
    kernels: Counter[str] = Counter()
    called: list[str] = []
    inside: Counter[str] = Counter()
    for chain in plan.tables(5):
        for instruction in chain.tables(2):
            call = instruction.table(1)
            if call is None:
                continue
            match instruction.integer(0, "<B"):
                case Call.KERNEL:
                    kernels[operators[call.integer(0)]] += 1
                case Call.DELEGATE:
                    delegate = delegates[call.integer(0)]
                    called.append(delegate.text(0))
                    inside.update(_nodes(_payload(data, program, delegate)))
    return Contents(kernels=kernels, delegates=tuple(called), inside=inside)


def _payload(data: bytes, program: Table, delegate: Table) -> bytes:
    where = delegate.table(1)
    if where is None:
        return b""
    index = where.integer(1, "<I")
    if where.integer(0, "<b") != _IN_SEGMENT:
        return program.tables(3)[index].content(0)
    segment = program.tables(4)[index]
    start = _HEADER.unpack_from(data, 8)[3] + segment.integer(0, "<Q")
    return data[start : start + segment.integer(1, "<Q")]


def _nodes(payload: bytes) -> Iterator[str]:
    """The kinds of XNNPACK's nodes; nothing for a payload of another backend."""
    if payload[4:8] != _XNNPACK_MAGIC or len(payload) < 18:
        return
    start, size = struct.unpack_from("<II", payload, 10)
    for node in Table.root(payload[start : start + size]).tables(1):
        yield _XNNPACK_NODES[node.integer(0, "<B") - 1]

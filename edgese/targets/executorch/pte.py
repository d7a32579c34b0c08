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
from edgese.targets.executorch.flatbuffer import BrokenFlatbuffer, Table

XNNPACK: Final = "XnnpackBackend"

_MAGIC: Final = b"ET12"
_HEADER_MAGIC: Final = b"eh00"
_HEADER: Final = struct.Struct("<4sIQQQ")  # magic, its length, program, first segment, all segments
_XNNPACK_MAGIC: Final = b"XH00"
_IN_SEGMENT: Final = 1
_FLOATS: Final = (1, 2)  # members of XNNDatatype: 32 and 16 bits
_INTEGERS: Final = (3, 4)  # 8 bits, signed and unsigned
_QUANTIZED: Final = 2  # the tag of a value with scales, in XValueUnion
_GIVEN_BACK: Final = 2  # the flag of a value that the caller gets
_MOVES: Final = ("static_transpose", "static_reshape", "copy")
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
# The field with the number of a node's output, where it is not the second.
_OUTPUTS: Final = {
    **dict.fromkeys(("add", "multiply", "subtract", "div", "minimum", "maximum", "prelu"), 2),
    **dict.fromkeys(("batch_matrix_multiply", "elu", "leaky_relu"), 2),
    **dict.fromkeys(("fully_connected", "static_transpose", "static_reshape"), 3),
    "static_resize_bilinear2d": 3,
    "arg_max_pooling2d": 7,
    **dict.fromkeys(("static_constant_pad", "static_slice"), 4),
    **dict.fromkeys([f"concatenate{parts}" for parts in range(2, 6)], 5),
    "scaled_dot_product_attention": 5,
    **dict.fromkeys(("avg_pooling2d", "max_pooling2d"), 11),
    **dict.fromkeys(("conv2d", "depthwise_conv2d", "conv_transpose2d"), 18),
}


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
        in_floats: those among them that compute in floats although their graph computes in
            integers elsewhere; converting the output for the caller is not computing.
        sizes: nodes of each delegate call's graph, in order; 0 for what is not XNNPACK's.
    """

    kernels: Counter[str]
    delegates: tuple[str, ...]
    inside: Counter[str]
    in_floats: Counter[str]
    sizes: tuple[int, ...]


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
    sizes: list[int] = []
    inside: Counter[str] = Counter()
    in_floats: Counter[str] = Counter()
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
                    nodes = tuple(_nodes(_payload(data, program, delegate)))
                    sizes.append(len(nodes))
                    inside.update(node.kind for node in nodes)
                    if any(node.datatype in _INTEGERS and node.computes for node in nodes):
                        in_floats.update(
                            node.kind
                            for node in nodes
                            if node.datatype in _FLOATS and node.computes and not node.given_back
                        )
    return Contents(
        kernels=kernels,
        delegates=tuple(called),
        inside=inside,
        in_floats=in_floats,
        sizes=tuple(sizes),
    )


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


@dataclass(frozen=True)
class _Node:
    """A node of XNNPACK's, with what it gives.

    Attributes:
        datatype: of its output, a member of XNNDatatype.
        given_back: whether it only converts what the caller gets.
    """

    kind: str
    datatype: int
    given_back: bool

    @property
    def computes(self) -> bool:
        return self.kind not in _MOVES


def _nodes(payload: bytes) -> Iterator[_Node]:
    """XNNPACK's nodes; nothing for a payload of another backend."""
    if payload[4:8] != _XNNPACK_MAGIC or len(payload) < 18:
        return
    start, size = struct.unpack_from("<II", payload, 10)
    graph = Table.root(payload[start : start + size])
    values = {value.integer(6, "<I"): value for value in _values(graph)}
    for node in graph.tables(1):
        kind, union = _XNNPACK_NODES[node.integer(0, "<B") - 1], node.table(1)
        output = values.get(union.integer(_OUTPUTS.get(kind, 1), "<I")) if union else None
        yield _Node(
            kind=kind,
            datatype=output.integer(0, "<h") if output else 0,
            given_back=kind == "convert"
            and output is not None
            and bool(output.integer(5, "<I") & _GIVEN_BACK),
        )


def _values(graph: Table) -> Iterator[Table]:
    for value in graph.tables(2):
        tensor = value.table(1)
        if tensor is not None and value.integer(0, "<B") == _QUANTIZED:
            tensor = tensor.table(0)
        if tensor is not None:
            yield tensor

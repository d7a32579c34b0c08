"""A network's graph as a program's file holds it: operators by name, and plain values."""

from typing import Annotated, Any, Literal

from msgspec import Meta, field

from edgese.records.base import Record

GRAPH_SCHEMA = 1

# Names become parts of Python code that torch.fx writes, so they must not be able to end one.
_IDENTIFIER = r"\A[A-Za-z_][A-Za-z0-9_]{0,999}\Z"
_PATH = r'\A[^\x00-\x1f\x7f"\\]{1,2000}\Z'
Name = Annotated[str, Meta(pattern=_IDENTIFIER)]
Path = Annotated[str, Meta(pattern=_PATH)]
Size = Annotated[int, Meta(ge=0, lt=2**40)]
_Text = Annotated[str, Meta(max_length=2000)]


class HeldTensor(Record, frozen=True, tag="held"):
    """A tensor that the program holds.

    Attributes:
        name: of its value in the graph.
        path: of the attribute in the network.
        persistent: of a buffer, whether a state_dict has it.
        gradient: whether it takes part in training; torch chooses some kernels by it.
        tensor: its name in the file; tied weights have one in common.
        order: its dimensions in the order of their strides, where that is not the usual one.
    """

    name: Name
    path: Path
    kind: Literal["parameter", "buffer", "constant"]
    tensor: Path
    persistent: bool = True
    gradient: bool = False
    order: Annotated[tuple[Size, ...], Meta(max_length=16)] | None = None


class GivenTensor(Record, frozen=True, tag="given"):
    """A tensor that the caller gives."""

    name: Name
    shape: Annotated[tuple[Size, ...], Meta(max_length=16)]
    dtype: _Text


class Step(Record, frozen=True):
    """One operator.

    Attributes:
        name: of its value in the graph.
        operator: as in ``aten.conv2d.default``, or ``getitem``.
        arguments, named: numbers, truth values, nothing, lists of them, and values that JSON lacks
            as an object with one key: node, text, float, dtype, layout, memory_format or device.
        place: index of its module's path in the graph's places; -1 where it has none.
    """

    name: Name
    operator: _Text
    arguments: Annotated[tuple[Any, ...], Meta(max_length=1000)]
    named: dict[Name, Any] = field(default_factory=dict)
    place: Annotated[int, Meta(ge=-1)] = -1


class Result(Record, frozen=True):
    """A value that the program gives, or puts in a tensor's place.

    Attributes:
        node: name of the value.
        mutates: path of the buffer, or name of the input, that has this value afterwards.
    """

    node: Name
    kind: Literal["output", "buffer", "input"] = "output"
    mutates: str = ""


class ProgramGraph(Record, frozen=True):
    """A program without its tensors.

    Attributes:
        dialect: of torch: as exported ("TRAINING"), or decomposed ("ATEN").
        steps: in the order in which they are computed.
        places: of each, the modules from the network to the operator: key, path and type.
    """

    dialect: Literal["TRAINING", "ATEN"]
    inputs: Annotated[tuple[HeldTensor | GivenTensor, ...], Meta(max_length=100_000)]
    steps: Annotated[tuple[Step, ...], Meta(max_length=100_000)]
    results: Annotated[tuple[Result, ...], Meta(max_length=1000)]
    places: tuple[tuple[tuple[_Text, _Text, _Text], ...], ...] = ()
    schema: int = GRAPH_SCHEMA

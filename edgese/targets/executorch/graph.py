"""Writes a graph of XNNPACK's delegate, value by value and node by node.

Source: executorch 1.4.1, backends/xnnpack/serialization/{xnnpack_graph_schema.py,schema.fbs}, and
backends/xnnpack/operators/node_visitor.py for how tensors are told.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from edgese.records.artifact import Grid

if TYPE_CHECKING:
    from torch import Tensor

NO_VALUE: Final = 2**32 - 1
TO_CHANNELS_LAST: Final = (0, 2, 3, 1)
TO_CHANNELS_FIRST: Final = (0, 3, 1, 2)
# Says that a constant lies under its name in the program file, and not behind the graph.
_NAMED: Final = 2**64 - 1
# XNNPACK makes one table of operators in a row, ten at most; beyond it frees memory twice, and with
# ten sums it writes past its own: https://issues.chromium.org/issues/497456778
_LONGEST_ROW: Final = 8
_EXTERNAL_INPUT: Final = 1
_EXTERNAL_OUTPUT: Final = 2


@dataclass(frozen=True)
class Value:
    """A tensor of the graph.

    Attributes:
        number: by which nodes call it.
        shape: as PyTorch has it, channels second.
        channels_last: whether it is stored as (N, H, W, C).
        grid: of its int8 codes; None for floats.
    """

    number: int
    shape: tuple[int, ...]
    channels_last: bool = False
    grid: Grid | None = None

    @property
    def stored_shape(self) -> tuple[int, ...]:
        """The shape in the order in which it is stored."""
        if not self.channels_last:
            return self.shape
        return tuple(self.shape[axis] for axis in TO_CHANNELS_LAST)


@dataclass
class Graph:
    """What has been written so far.

    Attributes:
        values, nodes: records of the schema, in its order.
        constants: records of where the bytes of constants are.
        stored: those bytes, by name.
        inputs, outputs: numbers of the values that the caller gives and gets.
        made: values that hold the same as others, by their number and by what differs.
        numbers: the values that are one constant number each.
        rows: the values that another one decides alone, number by number: which one that is, and
            how many nodes before.
    """

    values: list[Any] = field(default_factory=list)
    nodes: list[Any] = field(default_factory=list)
    constants: list[Any] = field(default_factory=list)
    stored: dict[str, bytes] = field(default_factory=dict)
    inputs: list[int] = field(default_factory=list)
    outputs: list[int] = field(default_factory=list)
    made: dict[tuple[int, object], Value] = field(default_factory=dict)
    numbers: set[int] = field(default_factory=set)
    rows: dict[int, tuple[int, int]] = field(default_factory=dict)

    def value(
        self, shape: Sequence[int], grid: Grid | None, *, channels_last: bool = False
    ) -> Value:
        """A tensor that a node, or the caller, will fill."""
        value = Value(len(self.values), tuple(shape), channels_last, grid)
        self._define(value.stored_shape, grid)
        return value

    def constant(self, tensor: "Tensor", grid: Grid | None) -> Value:
        """A tensor of floats, or of int8 codes on a grid."""
        value = Value(len(self.values), tuple(tensor.shape), grid=grid)
        self._define(value.shape, grid, content=self._keep(tensor))
        if tensor.numel() == 1:
            self.numbers.add(value.number)
        return value

    def channel_codes(self, codes: "Tensor", scales: "Tensor", axis: int) -> int:
        """Weights in int8, or biases in int32, of which each channel has a scale of its own.

        Args:
            axis: of the channels.

        Returns:
            The value's number.
        """
        from executorch.backends.xnnpack.serialization import xnnpack_graph_schema as schema

        bits = 8 * codes.element_size()
        return self._define(
            codes.shape,
            schema.PerChannelQuant([], axis, self._keep(scales), scales.numel()),
            content=self._keep(codes),
            datatype=f"xnn_datatype_qcint{bits}",
        )

    def node(
        self, kind: str, bounds: tuple[float | str, float | str] | None = None, /, **fields: object
    ) -> None:
        """A node of the schema's class ``XNN<kind>``.

        Args:
            bounds: between which its output is held.
        """
        from executorch.backends.xnnpack.serialization import xnnpack_graph_schema as schema

        union = getattr(schema, f"XNN{kind}")(**{"flags": 0, **fields})
        limits = schema.OutputMinMax(*bounds) if bounds else None
        self.nodes.append(schema.XNode(union, debug_handle=0, output_min_max=limits))

    def each(
        self,
        kind: str,
        sources: Sequence[Value],
        result: Value,
        bounds: tuple[float | str, float | str] | None = None,
    ) -> Value:
        """A node that makes each number from those at its place in one or two values."""
        starts = {
            self.rows.get(source.number, (source.number, 0))
            for source in sources
            if source.number not in self.numbers
        }
        if len({start for start, _ in starts}) == 1:
            start, length = max(starts)
            if length == _LONGEST_ROW:
                sources = [self.reshaped(source, source.shape) for source in sources]
            else:
                self.rows[result.number] = start, length + 1
        names = ("input_id",) if len(sources) == 1 else ("input1_id", "input2_id")
        numbers = {name: source.number for name, source in zip(names, sources, strict=True)}
        self.node(kind, bounds, **numbers, output_id=result.number)
        return result

    def on_grid(self, value: Value, grid: Grid | None) -> Value:
        """The same tensor on a grid, or in floats for None."""
        if value.grid == grid:
            return value
        key = value.number, grid
        if key not in self.made:
            new = self.value(value.shape, grid, channels_last=value.channels_last)
            self.made[key] = self.each("Convert", [value], new)
        return self.made[key]

    def reshaped(self, value: Value, shape: Sequence[int]) -> Value:
        """The same numbers in the order in which they are stored, in another shape or a copy."""
        last = value.channels_last and tuple(shape) == value.shape
        new = self.value(shape, value.grid, channels_last=last)
        self.node(
            "StaticReshape",
            num_dims=len(new.shape),
            new_shape=list(new.stored_shape),
            input_id=value.number,
            output_id=new.number,
        )
        return new

    def stored_as(self, value: Value, *, channels_last: bool) -> Value:
        """The same tensor of four dimensions in another order."""
        if value.channels_last == channels_last:
            return value
        key = value.number, channels_last
        if key not in self.made:
            new = self.value(value.shape, value.grid, channels_last=channels_last)
            self.node(
                "StaticTranspose",
                num_dims=4,
                perm=list(TO_CHANNELS_LAST if channels_last else TO_CHANNELS_FIRST),
                input_id=value.number,
                output_id=new.number,
            )
            self.made[key] = new
        return self.made[key]

    def expose(self, value: Value, *, is_input: bool) -> None:
        """Makes a value one that the caller gives or gets."""
        tensor = self.values[value.number].xvalue_union
        tensor = getattr(tensor, "tensor_value", tensor)
        tensor.external_id = len(self.inputs) + len(self.outputs)
        tensor.flags = _EXTERNAL_INPUT if is_input else _EXTERNAL_OUTPUT
        (self.inputs if is_input else self.outputs).append(value.number)

    def serialized(self) -> bytes:
        """What XNNPACK's delegate is given to load; ``stored`` has to be beside it."""
        from executorch.backends.xnnpack.serialization import xnnpack_graph_schema as schema
        from executorch.backends.xnnpack.serialization.xnnpack_graph_serialize import (
            serialize_xnnpack_binary,
        )

        graph = schema.XNNGraph(
            version="0",
            xnodes=self.nodes,
            xvalues=self.values,
            num_externs=len(self.inputs) + len(self.outputs),
            input_ids=self.inputs,
            output_ids=self.outputs,
            # The first stands for "not a constant".
            constant_data=[schema.ConstantDataOffset(0, 0), *self.constants],
        )
        payload: bytes = serialize_xnnpack_binary(graph, bytearray())
        return payload

    def _define(
        self,
        stored_shape: Sequence[int],
        grid: Grid | object | None,
        *,
        content: int = 0,
        datatype: str = "",
    ) -> int:
        from executorch.backends.xnnpack.serialization import xnnpack_graph_schema as schema

        if isinstance(grid, Grid):
            grid = schema.PerTensorQuant(grid.scale, grid.zero_point)
            datatype = "xnn_datatype_qint8"
        number = len(self.values)
        tensor = schema.XNNTensorValue(
            datatype=schema.XNNDatatype[datatype or "xnn_datatype_fp32"],
            num_dims=len(stored_shape),
            dims=list(stored_shape),
            constant_buffer_idx=content,
            external_id=NO_VALUE,
            flags=0,
            id_out=number,
        )
        union = tensor if grid is None else schema.XNNQuantizedTensorValue(tensor, grid)
        self.values.append(schema.XValue(union))
        return number

    def _keep(self, tensor: "Tensor") -> int:
        from executorch.backends.xnnpack.serialization import xnnpack_graph_schema as schema

        content = tensor.detach().contiguous().numpy().tobytes()
        name = hashlib.sha256(content).hexdigest()
        self.stored[name] = content
        self.constants.append(schema.ConstantDataOffset(_NAMED, len(content), name))
        # 0 is taken, see `serialized`.
        return len(self.constants)

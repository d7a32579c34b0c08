"""Writes a TFLite model, tensor by tensor and operator by operator.

Source: tensorflow/lite/schema/schema.fbs, of which ai-edge-litert carries the generated code, and
tensorflow/lite/tools/versioning/op_version.cc for the versions of operators.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from edgese.records.artifact import Grid

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

TO_CHANNELS_LAST: Final = (0, 2, 3, 1)
TO_CHANNELS_FIRST: Final = (0, 3, 1, 2)
_MAGIC: Final = b"TFL3"
_SCHEMA: Final = 3
_SIGNATURE: Final = "serving_default"
# What the schema demands of a buffer (force_align): kernels read constants where they lie.
_ALIGNMENT: Final = 16
# Versions of operators that work on int8; 2 where none is named. With floats most are of version 1.
_INT8_VERSIONS: Final = {
    "CONV_2D": 3,
    "DEPTHWISE_CONV_2D": 3,
    "FULLY_CONNECTED": 4,
    "QUANTIZE": 1,
    "RESHAPE": 1,
}
# The table of options of each operator that has one.
_OPTIONS: Final = {
    "ADD": "AddOptions",
    "CONCATENATION": "ConcatenationOptions",
    "CONV_2D": "Conv2DOptions",
    "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions",
    "DEQUANTIZE": "DequantizeOptions",
    "FULLY_CONNECTED": "FullyConnectedOptions",
    "HARD_SWISH": "HardSwishOptions",
    "MAXIMUM": "MaximumMinimumOptions",
    "MAX_POOL_2D": "Pool2DOptions",
    "MEAN": "ReducerOptions",
    "MINIMUM": "MaximumMinimumOptions",
    "MUL": "MulOptions",
    "PAD": "PadOptions",
    "PADV2": "PadV2Options",
    "QUANTIZE": "QuantizeOptions",
    "RESHAPE": "ReshapeOptions",
    "TRANSPOSE": "TransposeOptions",
}


@dataclass(frozen=True)
class Value:
    """A tensor of the model.

    Attributes:
        number: its place among the tensors.
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
        tensors, operators: records of the schema, in its order.
        buffers: the bytes of constants; the first is nobody's, as the schema has it.
        kinds: name and version of each kind of operator.
        made: values that hold the same as others, by their number and by what differs.
    """

    tensors: list[Any] = field(default_factory=list)
    operators: list[Any] = field(default_factory=list)
    buffers: list[bytes] = field(default_factory=lambda: [b""])
    kinds: list[tuple[str, int]] = field(default_factory=list)
    made: dict[tuple[int, object], Value] = field(default_factory=dict)

    def value(
        self, shape: Sequence[int], grid: Grid | None, *, channels_last: bool = False
    ) -> Value:
        """A tensor that an operator, or the caller, will fill."""
        value = Value(len(self.tensors), tuple(shape), channels_last, grid)
        self._define(value.stored_shape, "INT8" if grid else "FLOAT32", grid)
        return value

    def constant(self, array: "NDArray[np.generic]", grid: Grid | None = None) -> Value:
        """A tensor of floats or int32 numbers, or of int8 codes on a grid, as it is stored."""
        value = Value(len(self.tensors), array.shape, grid=grid)
        self._define(array.shape, array.dtype.name.upper(), grid, array.tobytes())
        return value

    def channel_codes(
        self, codes: "NDArray[np.generic]", scales: "NDArray[np.float32]", axis: int
    ) -> int:
        """Weights in int8, or biases in int32, of which each channel has a scale of its own.

        Args:
            axis: of the channels.

        Returns:
            The tensor's number.
        """
        import numpy as np

        number = self._define(codes.shape, codes.dtype.name.upper(), None, codes.tobytes())
        self.tensors[number].quantization = _quantization(
            scales, np.zeros(len(scales), np.int64), axis
        )
        return number

    def operator(self, kind: str, inputs: Sequence[int], output: int, **options: object) -> None:
        """An operator of the schema's kind ``kind``; other options than these are its defaults."""
        from ai_edge_litert import schema_py_generated as schema

        record = schema.OperatorT()
        record.inputs, record.outputs = list(inputs), [output]
        if (table := _OPTIONS.get(kind)) is not None:
            record.builtinOptionsType = getattr(schema.BuiltinOptions, table)
            record.builtinOptions = getattr(schema, f"{table}T")()
            for name, option in options.items():
                setattr(record.builtinOptions, name, option)
        tensors = [self.tensors[number] for number in (*inputs, output)]
        key = kind, _version(kind, tensors, options)
        if key not in self.kinds:
            self.kinds.append(key)
        record.opcodeIndex = self.kinds.index(key)
        self.operators.append(record)

    def on_grid(self, value: Value, grid: Grid | None) -> Value:
        """The same tensor on a grid, or in floats for None."""
        if value.grid == grid:
            return value
        key = value.number, grid
        if key not in self.made:
            new = self.value(value.shape, grid, channels_last=value.channels_last)
            kind = "DEQUANTIZE" if grid is None else "QUANTIZE"
            self.operator(kind, [value.number], new.number)
            self.made[key] = new
        return self.made[key]

    def stored_as(self, value: Value, *, channels_last: bool) -> Value:
        """The same tensor of four dimensions in another order."""
        if value.channels_last == channels_last:
            return value
        key = value.number, channels_last
        if key not in self.made:
            new = self.value(value.shape, value.grid, channels_last=channels_last)
            axes = TO_CHANNELS_LAST if channels_last else TO_CHANNELS_FIRST
            self.operator("TRANSPOSE", [value.number, self.integers(axes)], new.number)
            self.made[key] = new
        return self.made[key]

    def integers(self, numbers: Sequence[object]) -> int:
        """A constant of int32 numbers, such as axes or a shape.

        Returns:
            The tensor's number.
        """
        import numpy as np

        return self.constant(np.array(numbers, np.int32)).number

    def content(self, inputs: dict[str, Value], outputs: dict[str, Value]) -> bytes:
        """The model, with one signature that has the names given here."""
        import flatbuffers
        from ai_edge_litert import schema_py_generated as schema

        for name, value in (*inputs.items(), *outputs.items()):
            self.tensors[value.number].name = name
        graph = schema.SubGraphT()
        graph.name = "main"
        graph.tensors, graph.operators = self.tensors, self.operators
        graph.inputs = [value.number for value in inputs.values()]
        graph.outputs = [value.number for value in outputs.values()]
        signature = schema.SignatureDefT()
        signature.signatureKey, signature.subgraphIndex = _SIGNATURE, 0
        signature.inputs, signature.outputs = _named(inputs), _named(outputs)
        model = schema.ModelT()
        model.version, model.description = _SCHEMA, "edgese"
        model.operatorCodes = [_code(kind, version) for kind, version in self.kinds]
        model.subgraphs, model.signatureDefs = [graph], [signature]
        model.buffers = [_Buffer(content) for content in self.buffers]
        builder = flatbuffers.Builder(sum(len(content) for content in self.buffers))
        builder.Finish(model.Pack(builder), _MAGIC)
        return bytes(builder.Output())

    def _define(
        self, shape: Sequence[int], kind: str, grid: Grid | None, content: bytes = b""
    ) -> int:
        import numpy as np
        from ai_edge_litert import schema_py_generated as schema

        tensor = schema.TensorT()
        number = len(self.tensors)
        tensor.name, tensor.shape, tensor.hasRank = f"tensor_{number}", list(shape), True
        tensor.type = getattr(schema.TensorType, kind)
        tensor.buffer = 0
        if content:
            tensor.buffer = len(self.buffers)
            self.buffers.append(content)
        if grid is not None:
            tensor.quantization = _quantization(
                np.array([grid.scale], np.float32), np.array([grid.zero_point], np.int64), 0
            )
        self.tensors.append(tensor)
        return number


@dataclass(frozen=True)
class _Buffer:
    """Bytes that are packed as a buffer; the generated class leaves them unaligned."""

    content: bytes

    def Pack(self, builder: Any) -> int:  # noqa: ANN401, N802  # untyped; called by the generated code
        from ai_edge_litert import schema_py_generated as schema

        if not self.content:
            schema.BufferStart(builder)
            return int(schema.BufferEnd(builder))
        builder.StartVector(1, len(self.content), _ALIGNMENT)
        builder.head -= len(self.content)
        builder.Bytes[builder.head : builder.head + len(self.content)] = self.content
        vector = builder.EndVector()
        schema.BufferStart(builder)
        schema.BufferAddData(builder, vector)
        return int(schema.BufferEnd(builder))


def _quantization(
    scales: "NDArray[np.float32]", zero_points: "NDArray[np.int64]", axis: int
) -> Any:  # noqa: ANN401  # untyped
    from ai_edge_litert import schema_py_generated as schema

    record = schema.QuantizationParametersT()
    record.scale, record.zeroPoint, record.quantizedDimension = scales, zero_points, axis
    return record


def _code(kind: str, version: int) -> Any:  # noqa: ANN401  # untyped
    from ai_edge_litert import schema_py_generated as schema

    record = schema.OperatorCodeT()
    record.builtinCode = getattr(schema.BuiltinOperator, kind)
    # Where older readers look for it; what follows the 127th operator they do not know at all.
    record.deprecatedBuiltinCode = min(
        record.builtinCode, schema.BuiltinOperator.PLACEHOLDER_FOR_GREATER_OP_CODES
    )
    record.version = version
    return record


def _named(values: dict[str, Value]) -> list[Any]:
    from ai_edge_litert import schema_py_generated as schema

    records = []
    for name, value in values.items():
        record = schema.TensorMapT()
        record.name, record.tensorIndex = name, value.number
        records.append(record)
    return records


def _version(kind: str, tensors: Sequence[Any], options: Mapping[str, Any]) -> int:
    """The oldest version of an operator that does what is asked.

    Args:
        tensors: its inputs and its output.
    """
    from ai_edge_litert import schema_py_generated as schema

    first, *others = tensors
    codes = first.type == schema.TensorType.INT8
    version = _INT8_VERSIONS.get(kind, 2) if codes else 1
    if kind == "CONV_2D" and first.shape[-1] != others[0].shape[-1]:
        version = 6  # in groups
    elif kind == "DEPTHWISE_CONV_2D" and not codes:
        spread = max(options["dilationHFactor"], options["dilationWFactor"])
        version = 2 if spread > 1 else 1
    elif kind == "DEQUANTIZE" and len(first.quantization.scale) > 1:
        version = 5  # by channels
    elif kind == "TRANSPOSE" and len(first.shape) > 4:
        version = 4 if len(first.shape) == 5 else 6
    elif kind == "MUL" and codes:
        left, right, result = (tensor.quantization.scale[0] for tensor in tensors)
        version = 3 if left * right >= result else 2
    return version

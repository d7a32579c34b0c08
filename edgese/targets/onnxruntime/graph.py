"""Writes an ONNX graph, tensor by tensor and node by node.

Integers are told as every runtime of ONNX understands them: a tensor of codes is turned into floats
by DequantizeLinear in front of each operator and into codes by QuantizeLinear behind it, and the
runtime puts one integer operator in the place of the three.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from edgese.records.artifact import Grid

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# The first with a scale for each channel; everything that a quantized program needs is in it, and
# every ONNX Runtime since 1.7 reads it.
OPSET: Final = 13
_IR_VERSION: Final = 7
# From int8 codes to uint8 codes of the same values.
_UNSIGNED: Final = 128


@dataclass(frozen=True)
class Value:
    """A tensor of the graph.

    Attributes:
        name: by which nodes call it.
        shape: as it lies there; the program's may be another one of as many elements.
        grid: of its codes, as int8 whatever the graph has; None for floats.
    """

    name: str
    shape: tuple[int, ...]
    grid: Grid | None = None


@dataclass
class Graph:
    """What has been written so far.

    Attributes:
        unsigned: whether codes of activations are uint8, which x86 has fast instructions for; else
            they are int8. The steps are the same, 128 apart.
        nodes, initializers: records of ONNX, in their order.
        inputs, outputs: what the caller gives and gets.
        names: that are taken.
    """

    unsigned: bool
    nodes: list[Any] = field(default_factory=list)
    initializers: list[Any] = field(default_factory=list)
    inputs: list[Any] = field(default_factory=list)
    outputs: list[Any] = field(default_factory=list)
    names: set[str] = field(default_factory=set)
    _constants: dict[tuple[str, tuple[int, ...], bytes], str] = field(default_factory=dict)
    _floats: dict[tuple[str, Grid], str] = field(default_factory=dict)

    def grid(self, grid: Grid) -> Grid:
        """A grid of the program as the graph has it."""
        if not self.unsigned:
            return grid
        return Grid(scale=grid.scale, zero_point=grid.zero_point + _UNSIGNED, dtype="uint8")

    def input(self, value: Value) -> None:
        """Makes a tensor one that the caller gives."""
        self.inputs.append(self._described(value))

    def output(self, value: Value, name: str) -> None:
        """Makes a tensor one that the caller gets, under a name of its own."""
        for node in self.nodes:
            for called in (node.input, node.output):
                called[:] = [name if old == value.name else old for old in called]
        self.outputs.append(self._described(replace(value, name=name)))

    def constant(self, content: "NDArray[Any]", name: str) -> str:
        """A tensor that the file holds; equal ones are held once.

        Returns:
            Its name: the given one, or one like it.
        """
        key = content.dtype.str, content.shape, content.tobytes()
        if key not in self._constants:
            self._constants[key] = self._held(content, name)
        return self._constants[key]

    def _held(self, content: "NDArray[Any]", name: str) -> str:
        from onnx import numpy_helper

        new = self._new(name)
        self.initializers.append(numpy_helper.from_array(content, new))
        return new

    def codes(self, content: "NDArray[np.int8]", grid: Grid, name: str) -> Value:
        """Codes of activations that the file holds."""
        import numpy as np

        shifted = content.astype(np.int16) + (_UNSIGNED if self.unsigned else 0)
        stored = self.constant(shifted.astype(self.grid(grid).dtype), name)
        return Value(stored, content.shape, grid)

    def node(
        self,
        operator: str,
        inputs: Sequence[str],
        shape: Sequence[int],
        name: str,
        grid: Grid | None = None,
        **attributes: Any,  # noqa: ANN401  # numbers, lists, strings
    ) -> Value:
        """A node with one output.

        Args:
            inputs: names; "" for one that is left out.
            shape, grid: of the output.
            name: of the node and its output, or one like it.
        """
        from onnx import helper

        new = self._new(name)
        self.nodes.append(helper.make_node(operator, inputs, [new], name=new, **attributes))
        return Value(new, tuple(shape), grid)

    def floats(self, value: Value) -> str:
        """The name of a tensor's floats."""
        if value.grid is None:
            return value.name
        key = value.name, value.grid
        if key not in self._floats:
            made = self.node(
                "DequantizeLinear",
                [value.name, *self._grid_names(value.grid)],
                value.shape,
                f"{value.name}_floats",
            )
            self._floats[key] = made.name
        return self._floats[key]

    def on_grid(self, value: Value, grid: Grid, name: str) -> Value:
        """The same tensor as codes."""
        if value.grid == grid:
            return value
        inputs = [self.floats(value), *self._grid_names(grid)]
        return self.node("QuantizeLinear", inputs, value.shape, name, grid)

    def moved(
        self,
        operator: str,
        value: Value,
        others: Sequence[str],
        shape: Sequence[int],
        name: str,
        **attributes: Any,  # noqa: ANN401  # numbers, lists, strings
    ) -> Value:
        """A node that moves elements and computes none, so that codes stay on their grid.

        It stands between floats like any other: ONNX Runtime's processor takes the pair around it
        away again, and compilers of accelerators know by the pair what codes mean.

        Args:
            others: names of the inputs behind the first.
            shape: of the output.
        """
        made = self.node(operator, [self.floats(value), *others], shape, name, **attributes)
        return made if value.grid is None else self.on_grid(made, value.grid, f"{name}_codes")

    def channel_codes(
        self, content: "NDArray[Any]", scales: "NDArray[np.float32]", name: str
    ) -> str:
        """Floats of weights in int8, or biases in int32, with a scale for each output channel.

        Args:
            content: (out, ...).
            scales: (out,).
        """
        import numpy as np

        # Codes and zero points are each weight's own: where "session.x64quantprecision" makes ONNX
        # Runtime 1.31 rewrite them, it fails at the second weight that has the same ones.
        codes = self._held(content, name)
        steps = self.constant(scales, f"{name}_scale")
        zeros = self._held(np.zeros(len(scales), content.dtype), f"{name}_zero_point")
        made = self.node(
            "DequantizeLinear", [codes, steps, zeros], content.shape, f"{name}_floats", axis=0
        )
        return made.name

    def widened(self, content: "NDArray[np.int8]", scales: "NDArray[np.float32]", name: str) -> str:
        """The same floats for an operator in float: made when the file is loaded.

        DequantizeLinear would stay for an integer operator to be made of it, and with every
        inference turn all weights into floats again.
        """
        import numpy as np
        from onnx import TensorProto

        codes = self.constant(content, name)
        around = scales.reshape(-1, *[1] * (content.ndim - 1)).astype(np.float32)
        steps = self.constant(around, f"{name}_scale")
        whole = self.node("Cast", [codes], content.shape, f"{name}_whole", to=TensorProto.FLOAT)
        return self.node("Mul", [whole.name, steps], content.shape, f"{name}_floats").name

    def model(self, name: str) -> Any:  # noqa: ANN401  # onnx has no types
        """The finished model, checked; what nobody reads is left out."""
        import onnx
        from onnx import helper

        from edgese.version import __version__

        read = {output.name for output in self.outputs}
        nodes = []
        for node in reversed(self.nodes):
            if read.intersection(node.output):
                nodes.append(node)
                read.update(node.input)
        graph = helper.make_graph(
            nodes[::-1],
            name,
            self.inputs,
            self.outputs,
            [tensor for tensor in self.initializers if tensor.name in read],
        )
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=_IR_VERSION,
            producer_name="edgese",
            producer_version=__version__,
        )
        onnx.checker.check_model(model, full_check=True)
        return model

    def _described(self, value: Value) -> Any:  # noqa: ANN401  # onnx has no types
        import numpy as np
        from onnx import helper

        dtype = "float32" if value.grid is None else self.grid(value.grid).dtype
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        return helper.make_tensor_value_info(value.name, kind, value.shape)

    def _grid_names(self, grid: Grid) -> tuple[str, str]:
        import numpy as np

        stored = self.grid(grid)
        return (
            self.constant(np.array(stored.scale, np.float32), "scale"),
            self.constant(np.array(stored.zero_point, stored.dtype), "zero_point"),
        )

    def _new(self, name: str) -> str:
        free, count = name, 1
        while free in self.names:
            count += 1
            free = f"{name}_{count}"
        self.names.add(free)
        return free

"""TFLite, executed by LiteRT's interpreter with XNNPACK.

The artifact takes NHWC, as the format's kernels do. Its one signature is "serving_default" with the
names that the interface tells. Integer programs are written operator by operator; the others go
through litert-torch.
"""

import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from edgese.errors import ConversionError
from edgese.program.forms import (
    INPUT,
    evaluating,
    input_grid,
    input_shape,
    output_grid,
    output_name,
    output_shape,
    shared_provenance,
)
from edgese.program.nodes import is_never_negative
from edgese.protocols import Predictor, Progress
from edgese.records.artifact import (
    Interface,
    ModelCard,
    OperatorReport,
    OutsideOperator,
    Recipe,
    TargetOptions,
    TensorInfo,
)
from edgese.targets.batches import codes, predictor, unreadable, values
from edgese.targets.requests import check_request, known_delegate
from edgese.targets.tflite import quantized as tflquantized

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor, nn
    from torch.export import ExportedProgram

NAME: Final = "tflite"
_TITLE: Final = "TFLite"
_MAGIC: Final = b"TFL3"
_OUTSIDE: Final = "XNNPACK did not take it when the interpreter offered it the graph"
_IN_FLOATS: Final = "it computes in floats among operators on integers"


def prepare() -> None:
    """Imports the converter."""
    import litert_torch  # noqa: F401  # its import is what this is for


def check(card: ModelCard, recipe: Recipe, options: TargetOptions) -> None:
    """Raises ConfigError where TFLite cannot do what is asked."""
    check_request(NAME, card, recipe, options)


def convert(
    program: "ExportedProgram",
    card: ModelCard,
    recipe: Recipe,
    options: TargetOptions,
    dest: Path,
    progress: Progress,
) -> Interface:
    """Writes a flatbuffer.

    With "fp16" its weights are halves that XNNPACK widens at load, with "int8_weights" int8 codes
    that it widens as well. With "int8" it computes in integers from the input's quantization to the
    output's.

    Raises:
        ConfigError: int8 codes were asked for at the ends of a program that has floats there.
        ConversionError: the program has an operator that cannot be converted.
    """
    check(card, recipe, options)
    name = output_name(card)
    batch, channels, height, width = input_shape(program)
    shape = (batch, height, width, channels)
    io_codes = options.io == "int8"
    if recipe.is_integer:
        progress("write the operators", 0.1)
        content = tflquantized.model(program, name, io_codes=io_codes)
    else:
        progress("load litert-torch", 0.0)
        prepare()
        progress("lower to TFLite", 0.2)
        content = _lowered(program, shape, name)
    if recipe.precision == "fp16":
        progress("halve the weights", 0.9)
        content = _with_half_weights(content)
    progress("write", 0.95)
    dest.write_bytes(content)
    dtype = "int8" if io_codes else "float32"
    return Interface(
        input=TensorInfo(
            name=INPUT, shape=shape, layout="NHWC", dtype=dtype, grid=input_grid(program)
        ),
        output=TensorInfo(
            name=name,
            shape=output_shape(program),
            layout="NC",
            dtype=dtype,
            grid=output_grid(program),
        ),
    )


def deviation(*_: object) -> None:
    """Nothing: the file has the program's own numbers."""


def inspect(artifact: Path, delegate: str) -> OperatorReport:
    """Counts the operators, and those that XNNPACK takes when the interpreter offers them.

    In an artifact with integer arithmetic, what computes in floats all the same counts as outside.

    Raises:
        ConfigError: another delegate than XNNPACK.
        InputError: not a readable artifact.
    """
    name = known_delegate(NAME, delegate)
    interpreter = _interpreter(artifact, threads=1)
    # The one place where the runtime tells what it made of the graph.
    nodes = interpreter._get_ops_details()  # noqa: SLF001  # no public one
    taken = [node for node in nodes if node["op_name"] == "DELEGATE"]
    own = [node for node in nodes if node["op_name"] != "DELEGATE"]
    groups = [_inside(node, own) for node in taken]
    inside = set().union(*groups)
    in_floats = _float_islands(interpreter, own)
    outside = Counter(
        (node["op_name"], _IN_FLOATS if node["index"] in inside else _OUTSIDE)
        for node in own
        if node["index"] not in inside or node["index"] in in_floats
    )
    return OperatorReport(
        operators=dict(Counter(node["op_name"] for node in own)),
        delegate=name,
        partitions=len(taken),
        outside=tuple(
            OutsideOperator(operator=operator, count=count, reason=reason)
            for (operator, reason), count in outside.items()
        ),
        partition_sizes=tuple(map(len, groups)),
    )


def unavailable() -> str:
    """LiteRT runs on every system that edgese does."""
    return ""


def stand_in() -> str:
    """Nothing: the runtime itself executes artifacts here."""
    return ""


def load(artifact: Path, interface: Interface, *, threads: int) -> Predictor:
    """The artifact in LiteRT's interpreter, with XNNPACK on ``threads`` threads.

    Raises:
        InputError: not a readable artifact.
    """
    interpreter = _interpreter(artifact, threads=threads)
    source = interpreter.get_input_details()[0]["index"]
    result = interpreter.get_output_details()[0]["index"]
    given, made = interface.input, interface.output

    def run(pictures: "NDArray[np.float32]") -> "NDArray[np.float32]":
        stored: NDArray[Any] = pictures.transpose(0, 2, 3, 1)
        if given.grid is not None and given.dtype == "int8":
            stored = codes(stored, given.grid)
        interpreter.set_tensor(source, stored)
        interpreter.invoke()
        logits: NDArray[Any] = interpreter.get_tensor(result)
        if made.grid is not None and made.dtype == "int8":
            logits = values(logits, made.grid)
        return logits

    batch, height, width, channels = given.shape
    return predictor(run, (channels, height, width), batch)


def _lowered(program: "ExportedProgram", shape: tuple[int, ...], output: str) -> bytes:
    import litert_torch
    import torch

    network = program.module(check_guards=False)
    _pad_pools_with_zeros(network)
    module = _channels_last(network, output)
    try:
        with shared_provenance():
            converted = litert_torch.convert(module, sample_kwargs={INPUT: torch.zeros(shape)})
            content: bytes = converted.model_content()
    except (RuntimeError, ValueError, TypeError, NotImplementedError, KeyError) as error:
        operator = re.search(r"Lowering not found: (\S+)", str(error))
        told = str(error).strip().splitlines()
        raise ConversionError(
            f"litert-torch has no lowering for {operator[1]}."
            if operator
            else f"litert-torch refused the program: {told[0] if told else type(error).__name__}",
            hint="Write the operator as others that mean the same, or leave the target out.",
        ) from error
    return content


def _channels_last(network: "nn.Module", output: str) -> "nn.Module":
    """Takes NHWC under the name of the input, and gives the output its name.

    The transposition goes into the first convolution when the layouts are optimised.
    """
    from torch import nn

    class ChannelsLast(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, input: "Tensor") -> "dict[str, Tensor]":  # noqa: A002  # becomes the name
            return {output: self.network(input.permute(0, 3, 1, 2))}

    return evaluating(ChannelsLast())


def _pad_pools_with_zeros(network: Any) -> None:  # noqa: ANN401  # a torch.fx.GraphModule
    """Pads before a max pool with zeros, in place, where nothing below zero comes in.

    torch pads with minus infinity, for which XNNPACK has no operator; over values from zero up both
    are the same. A pool that rounds its size up places its last window otherwise, and stays.
    """
    import torch

    aten = torch.ops.aten
    graph = network.graph
    for pool in graph.find_nodes(op="call_function", target=aten.max_pool2d.default):
        source, kernel, stride, padding, *rest = (*pool.args, None, None, None)[:6]
        if not padding or not any(padding) or any(rest) or not is_never_negative(source):
            continue
        high, wide = padding if len(padding) == 2 else (*padding, *padding)
        with graph.inserting_before(pool):
            around = [wide, wide, high, high]
            padded = graph.call_function(aten.constant_pad_nd.default, (source, around, 0.0))
        pool.args = (padded, kernel, stride)
    network.recompile()


def _with_half_weights(content: bytes) -> bytes:
    """The same model with each weight as a half behind a DEQUANTIZE."""
    from ai_edge_quantizer import algorithm_manager, qtyping, quantizer

    halving = quantizer.Quantizer(content)
    halving.add_weight_only_config(
        regex=".*",
        operation_name=qtyping.TFLOperationName.ALL_SUPPORTED,
        num_bits=16,
        granularity=qtyping.QuantGranularity.TENSORWISE,
        algorithm_key=algorithm_manager.AlgorithmName.FLOAT_CASTING,
    )
    return bytes(halving.quantize().quantized_model)


def _interpreter(artifact: Path, *, threads: int) -> Any:  # noqa: ANN401  # an untyped library's
    from ai_edge_litert.interpreter import Interpreter

    try:
        with artifact.open("rb") as file:
            magic = file.read(8)[4:]
    except OSError as error:
        raise unreadable(artifact, _TITLE, error.strerror) from error
    if magic != _MAGIC:
        raise unreadable(artifact, _TITLE, "it does not begin as a TFLite flatbuffer does")
    try:
        interpreter = Interpreter(str(artifact), num_threads=threads)
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise unreadable(artifact, _TITLE, error) from error
    return interpreter


def _inside(delegate: dict[str, Any], nodes: list[dict[str, Any]]) -> set[int]:
    """The nodes that a delegate's node stands for: what leads from its inputs to its outputs."""
    makers = {int(tensor): node for node in nodes for tensor in node["outputs"]}
    given = {int(tensor) for tensor in delegate["inputs"]}
    wanted = [int(tensor) for tensor in delegate["outputs"]]
    found: set[int] = set()
    while wanted:
        tensor = wanted.pop()
        node = makers.get(tensor)
        if node is None or tensor in given or node["index"] in found:
            continue
        found.add(node["index"])
        wanted.extend(int(tensor) for tensor in node["inputs"])
    return found


def _float_islands(interpreter: Any, nodes: list[dict[str, Any]]) -> set[int]:  # noqa: ANN401  # untyped
    """The nodes that compute in floats where others compute in integers; none where none does.

    Turning the codes of the output into floats is no computing.
    """
    import numpy as np

    kinds = {tensor["index"]: tensor["dtype"] for tensor in interpreter.get_tensor_details()}
    outputs = {tensor["index"] for tensor in interpreter.get_output_details()}
    made = {node["index"]: {int(tensor) for tensor in node["outputs"]} for node in nodes}
    if not any(kinds.get(tensor) == np.int8 for tensors in made.values() for tensor in tensors):
        return set()
    ends = {
        node["index"]
        for node in nodes
        if node["op_name"] == "DEQUANTIZE" and made[node["index"]] <= outputs
    }
    return {
        index
        for index, tensors in made.items()
        if index not in ends and any(kinds.get(tensor) == np.float32 for tensor in tensors)
    }

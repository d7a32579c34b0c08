"""TFLite, executed by LiteRT's interpreter with XNNPACK.

The artifact takes NHWC, as the format's kernels do. Its one signature is "serving_default" with the
names that the interface tells.
"""

import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from edgese.errors import ConversionError
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
from edgese.targets.batches import predictor, unreadable
from edgese.targets.programs import (
    INPUT,
    evaluating,
    input_shape,
    output_name,
    output_shape,
    shared_provenance,
)
from edgese.targets.requests import check_request, known_delegate

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor, nn
    from torch.export import ExportedProgram

NAME: Final = "tflite"
_TITLE: Final = "TFLite"
_MAGIC: Final = b"TFL3"
_OUTSIDE: Final = "XNNPACK did not take it when the interpreter offered it the graph"


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
    """Writes a flatbuffer; with "fp16" its weights are halves that XNNPACK widens at load.

    Raises:
        ConversionError: litert-torch refused the program.
    """
    check(card, recipe, options)
    progress("load litert-torch", 0.0)
    prepare()
    progress("lower to TFLite", 0.2)
    batch, channels, height, width = input_shape(program)
    content = _lowered(program, (batch, height, width, channels), output_name(card))
    if recipe.precision == "fp16":
        progress("halve the weights", 0.9)
        content = _with_half_weights(content)
    progress("write", 0.95)
    dest.write_bytes(content)
    return Interface(
        input=TensorInfo(
            name=INPUT, shape=(batch, height, width, channels), layout="NHWC", dtype="float32"
        ),
        output=TensorInfo(
            name=output_name(card), shape=output_shape(program), layout="NC", dtype="float32"
        ),
    )


def inspect(artifact: Path, delegate: str) -> OperatorReport:
    """Counts the operators, and those that XNNPACK takes when the interpreter offers them.

    Raises:
        ConfigError: another delegate than XNNPACK.
        InputError: not a readable artifact.
    """
    name = known_delegate(NAME, delegate)
    # The one place where the runtime tells what it made of the graph.
    nodes = _interpreter(artifact, threads=1)._get_ops_details()  # noqa: SLF001  # no public one
    taken = [node for node in nodes if node["op_name"] == "DELEGATE"]
    own = [node for node in nodes if node["op_name"] != "DELEGATE"]
    inside = {index for node in taken for index in _inside(node, own)}
    outside = Counter(node["op_name"] for node in own if node["index"] not in inside)
    return OperatorReport(
        operators=dict(Counter(node["op_name"] for node in own)),
        delegate=name,
        partitions=len(taken),
        outside=tuple(
            OutsideOperator(operator=operator, count=count, reason=_OUTSIDE)
            for operator, count in outside.items()
        ),
    )


def unavailable() -> str:
    """LiteRT runs on every system that edgese does."""
    return ""


def load(artifact: Path, interface: Interface, *, threads: int) -> Predictor:
    """The artifact in LiteRT's interpreter, with XNNPACK on ``threads`` threads.

    Raises:
        InputError: not a readable artifact.
    """
    interpreter = _interpreter(artifact, threads=threads)
    source = interpreter.get_input_details()[0]["index"]
    result = interpreter.get_output_details()[0]["index"]

    def run(pictures: "NDArray[np.float32]") -> "NDArray[np.float32]":
        interpreter.set_tensor(source, pictures.transpose(0, 2, 3, 1))
        interpreter.invoke()
        logits: NDArray[np.float32] = interpreter.get_tensor(result)
        return logits

    batch, height, width, channels = interface.input.shape
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
        if not padding or not any(padding) or any(rest) or not _from_zero(source):
            continue
        high, wide = padding if len(padding) == 2 else (*padding, *padding)
        with graph.inserting_before(pool):
            around = [wide, wide, high, high]
            padded = graph.call_function(aten.constant_pad_nd.default, (source, around, 0.0))
        pool.args = (padded, kernel, stride)
    network.recompile()


def _from_zero(node: Any) -> bool:  # noqa: ANN401  # a torch.fx.Node
    """Whether an operator gives nothing below zero."""
    import torch

    aten = torch.ops.aten
    if node.target in (aten.hardtanh.default, aten.hardtanh_.default):
        return len(node.args) > 1 and node.args[1] >= 0
    return node.target in (aten.relu.default, aten.relu_.default, aten.sigmoid.default)


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

"""ONNX, executed by ONNX Runtime's CPU execution provider.

Integer programs are written node by node: torch's exporter takes longer than all else together,
and what it makes of them ONNX Runtime leaves in float at every bias.
"""

import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from edgese.errors import ConversionError, InputError
from edgese.machine import is_x86_without_vnni
from edgese.program.forms import (
    INPUT,
    halved,
    input_grid,
    input_shape,
    output_grid,
    output_name,
    output_shape,
    shared_provenance,
)
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
from edgese.scratch import temporary
from edgese.targets.batches import codes, predictor, unreadable, values
from edgese.targets.onnxruntime.operators import check_float, lowered
from edgese.targets.requests import check_request, known_delegate

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from onnxruntime import InferenceSession, SessionOptions
    from torch.export import ExportedProgram

NAME: Final = "onnxruntime"
_TITLE: Final = "ONNX"
# torch's exporter writes this version of the operators natively, and every ONNX Runtime since 1.14
# reads it.
OPSET: Final = 18
_ERRORS: Final = 3  # of log severities
_FATAL: Final = 4  # the same
_OUTSIDE: Final = (
    "ONNX Runtime computes it in float: it has no integer form of it as it stands here"
)
# On x86, where uint8 is faster, it would leave activations of int8 in float.
_ALLOW_INT8: Final = ("session.qdqisint8allowed", "1")
# On x86 without VNNI the kernels for uint8 by int8 add pairs of products in 16 bits, which
# saturates; with this they are uint8 by uint8, slower and exact
# (https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html).
_EXACT_INT8: Final = ("session.x64quantprecision", "1")

# Else importing it starts a thread that tells its makers of its use, and computes meanwhile.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


def prepare() -> None:
    """Imports the exporter."""
    import onnx  # noqa: F401  # its import is what this is for
    import onnxscript  # noqa: F401  # the same
    import torch.onnx  # noqa: F401  # the same


def check(card: ModelCard, recipe: Recipe, options: TargetOptions) -> None:
    """Raises ConfigError where ONNX Runtime cannot do what is asked."""
    check_request(NAME, card, recipe, options)


def convert(
    program: "ExportedProgram",
    card: ModelCard,
    recipe: Recipe,
    options: TargetOptions,
    dest: Path,
    progress: Progress,
) -> Interface:
    """Writes one ONNX file; with "fp16" weights and arithmetic are halves, the interface is not.

    Raises:
        ConversionError: an operator, or the whole program, cannot be written as ONNX.
    """
    check(card, recipe, options)
    if recipe.is_integer:
        return _integer(program, card, options, dest, progress)
    check_float(program)
    import torch

    progress("load the exporter", 0.0)
    prepare()
    shape, result = input_shape(program), output_shape(program)
    from torch.onnx import OnnxExporterError

    try:
        with shared_provenance():
            if recipe.precision == "fp16":
                progress("halve the program", 0.1)
                program = halved(program, float_io=True)
            progress("export to ONNX", 0.3)
            exported = torch.onnx.export(
                program,
                (),
                dynamo=True,
                opset_version=OPSET,
                input_names=[INPUT],
                output_names=[output_name(card)],
                verbose=False,
            )
        if exported is None:
            raise ConversionError("torch.onnx.export made no model.", hint="Try another target.")
        progress("write", 0.9)
        exported.save(str(dest), external_data=False)
    except (OnnxExporterError, RuntimeError, ValueError, TypeError) as error:
        told = str(error).strip().splitlines()
        raise ConversionError(
            f"torch.onnx.export refused the program: {told[0] if told else type(error).__name__}",
            hint="Write the operator that it names as others that mean the same.",
        ) from error
    return Interface(
        input=TensorInfo(name=INPUT, shape=shape, layout="NCHW", dtype="float32"),
        output=TensorInfo(name=output_name(card), shape=result, layout="NC", dtype="float32"),
    )


def _integer(
    program: "ExportedProgram",
    card: ModelCard,
    options: TargetOptions,
    dest: Path,
    progress: Progress,
) -> Interface:
    progress("load ONNX", 0.0)
    import onnx

    progress("write the operators", 0.2)
    io_codes = options.io == "int8"
    name = output_name(card)
    graph = lowered(program, unsigned=options.activations != "int8", io_codes=io_codes, result=name)
    progress("check", 0.8)
    model = graph.model(card.name)
    progress("write", 0.9)
    onnx.save(model, str(dest))
    given, made = (
        grid and graph.grid(grid) for grid in (input_grid(program), output_grid(program))
    )
    return Interface(
        input=TensorInfo(
            name=INPUT,
            shape=input_shape(program),
            layout="NCHW",
            dtype=given.dtype if io_codes and given else "float32",
            grid=given,
        ),
        output=TensorInfo(
            name=name,
            shape=output_shape(program),
            layout="NC",
            dtype=made.dtype if io_codes and made else "float32",
            grid=made,
        ),
    )


def deviation(*_: object) -> None:
    """Nothing: the file has the program's own numbers."""


def inspect(artifact: Path, delegate: str) -> OperatorReport:
    """Counts the nodes of the graph; the CPU provider executes every one, so it is one piece.

    Outside is what an artifact with integer arithmetic computes in float all the same. The file
    does not tell it, since there every operator stands between floats: it is read off the graph
    that ONNX Runtime makes of the file on this host.

    Raises:
        ConfigError: another delegate than the CPU provider.
        InputError: not a readable artifact.
    """
    name = known_delegate(NAME, delegate)
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # has no types

    try:
        # Of the file alone: its hash covers nothing beside it.
        model = onnx.load(str(artifact), load_external_data=False)
        onnx.checker.check_model(model)
    except OSError as error:
        raise unreadable(artifact, _TITLE, error.strerror) from error
    except (DecodeError, onnx.checker.ValidationError) as error:
        raise unreadable(artifact, _TITLE, error) from error
    return OperatorReport(
        operators=dict(Counter(node.op_type for node in model.graph.node)),
        delegate=name,
        partitions=1,
        outside=_in_float(artifact) if _is_integer(model) else (),
        partition_sizes=(len(model.graph.node),),
    )


def _is_integer(model: Any) -> bool:  # noqa: ANN401  # onnx has no types
    return any(node.op_type == "QuantizeLinear" for node in model.graph.node)


def _is_float(value: Any) -> bool:  # noqa: ANN401  # onnx has no types
    import onnx

    return bool(value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT)


def _in_float(artifact: Path) -> tuple[OutsideOperator, ...]:
    """What computes floats in ONNX Runtime's own graph, but for turning the result into them."""
    import onnx

    options = _session_options(1)
    # It would warn that the graph is this host's own.
    options.log_severity_level = _ERRORS
    with temporary("onnx") as folder:
        optimized = folder / "optimized.onnx"
        options.optimized_model_filepath = str(optimized)
        _session(artifact, options)
        graph = onnx.load(str(optimized), load_external_data=False).graph
    results = {value.name for value in graph.output}
    floats = {value.name for value in graph.input if _is_float(value)}
    outside: Counter[str] = Counter()
    for node in graph.node:
        if node.op_type == "DequantizeLinear" or floats.intersection(node.input):
            if node.op_type == "QuantizeLinear":
                continue
            floats.update(node.output)
            if node.op_type != "DequantizeLinear" or not results.intersection(node.output):
                outside[node.op_type] += 1
    return tuple(
        OutsideOperator(operator=operator, count=count, reason=_OUTSIDE)
        for operator, count in sorted(outside.items())
    )


def unavailable() -> str:
    """ONNX Runtime runs on every system that edgese does."""
    return ""


def stand_in() -> str:
    """Nothing: the runtime itself executes artifacts here."""
    return ""


def load(artifact: Path, interface: Interface, *, threads: int) -> Predictor:
    """The artifact in an inference session with ``threads`` threads.

    Raises:
        InputError: not a readable artifact.
    """
    session = _exact_session(artifact, threads)
    given, made = (
        info.grid if info.dtype in ("int8", "uint8") else None
        for info in (interface.input, interface.output)
    )

    def run(pictures: "NDArray[np.float32]") -> "NDArray[np.float32]":
        feed = pictures if given is None else codes(pictures, given)
        (logits,) = session.run(None, {interface.input.name: feed})
        result: NDArray[np.float32] = logits if made is None else values(logits, made)
        return result

    batch, channels, height, width = interface.input.shape
    return predictor(run, (channels, height, width), batch)


def _exact_session(artifact: Path, threads: int) -> "InferenceSession":
    """A session whose sums of int8 products are exact on every processor."""
    from onnxruntime.capi.onnxruntime_pybind11_state import NotImplemented as NoKernel

    if is_x86_without_vnni():
        options = _session_options(threads)
        options.add_session_config_entry(*_EXACT_INT8)
        options.log_severity_level = _FATAL
        try:
            return _session(artifact, options)
        except InputError as error:
            # Activations of int8 have kernels of their own, which are exact without it.
            if not isinstance(error.__cause__, NoKernel):
                raise
    return _session(artifact, _session_options(threads))


def _session_options(threads: int) -> "SessionOptions":
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry(*_ALLOW_INT8)
    return options


def _session(artifact: Path, options: "SessionOptions") -> "InferenceSession":
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as errors

    try:
        return onnxruntime.InferenceSession(
            str(artifact), options, providers=["CPUExecutionProvider"]
        )
    except (
        errors.Fail,
        errors.InvalidArgument,
        errors.InvalidGraph,
        errors.InvalidProtobuf,
        errors.NoSuchFile,
        errors.NotImplemented,
        errors.RuntimeException,
    ) as error:
        raise unreadable(artifact, _TITLE, error) from error

"""ONNX, executed by ONNX Runtime's CPU execution provider."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Final

from edgese.errors import ConversionError
from edgese.protocols import Predictor, Progress
from edgese.records.artifact import (
    Interface,
    ModelCard,
    OperatorReport,
    Recipe,
    TargetOptions,
    TensorInfo,
)
from edgese.targets.batches import predictor, unreadable
from edgese.targets.programs import (
    INPUT,
    halved,
    input_shape,
    output_name,
    output_shape,
    shared_provenance,
)
from edgese.targets.requests import check_request, known_delegate

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch.export import ExportedProgram

NAME: Final = "onnxruntime"
_TITLE: Final = "ONNX"
# torch's exporter writes this version of the operators natively, and every ONNX Runtime since 1.14
# reads it.
OPSET: Final = 18


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
        ConversionError: the exporter refused the program.
    """
    import torch

    check(card, recipe, options)
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


def inspect(artifact: Path, delegate: str) -> OperatorReport:
    """Counts the nodes of the graph; the CPU provider executes every one, so it is one piece.

    Raises:
        ConfigError: another delegate than the CPU provider.
        InputError: not a readable artifact.
    """
    name = known_delegate(NAME, delegate)
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # has no types

    try:
        model = onnx.load(str(artifact))
        onnx.checker.check_model(model)
    except OSError as error:
        raise unreadable(artifact, _TITLE, error.strerror) from error
    except (DecodeError, onnx.checker.ValidationError) as error:
        raise unreadable(artifact, _TITLE, error) from error
    return OperatorReport(
        operators=dict(Counter(node.op_type for node in model.graph.node)),
        delegate=name,
        partitions=1,
    )


def unavailable() -> str:
    """ONNX Runtime runs on every system that edgese does."""
    return ""


def load(artifact: Path, interface: Interface, *, threads: int) -> Predictor:
    """The artifact in an inference session with ``threads`` threads.

    Raises:
        InputError: not a readable artifact.
    """
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as errors

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(
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

    def run(pictures: "NDArray[np.float32]") -> "NDArray[np.float32]":
        (logits,) = session.run(None, {interface.input.name: pictures})
        result: NDArray[np.float32] = logits
        return result

    batch, channels, height, width = interface.input.shape
    return predictor(run, (channels, height, width), batch)

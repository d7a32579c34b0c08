"""ExecuTorch, with XNNPACK or with its portable kernels; the delegate is fixed at conversion.

With the recipe "fp16" input and output are fp16 too: XNNPACK's delegate has no cast, so an fp32
interface would leave two operators outside it. Its file is hardly smaller, as ExecuTorch 1.4.1
stores the weights of convolutions in fp32.

A quantized program goes another way than one of floats: its graph is written for XNNPACK directly.
Weights in int8 alone are not offered: XNNPACK multiplies them with floats in linear layers only, so
that the convolutions, and with them the file, would stay as large as they are.
"""

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from edgese.errors import ConfigError, ConversionError
from edgese.program.forms import (
    INPUT,
    evaluating,
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
from edgese.targets.batches import codes, predictor, unreadable, values
from edgese.targets.executorch import pte
from edgese.targets.requests import check_request, known_delegate

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor
    from torch.export import ExportedProgram

NAME: Final = "executorch"
_TITLE: Final = "ExecuTorch"
_METHOD: Final = "forward"
_PORTABLE: Final = "portable"
_OUTSIDE: Final = "XNNPACK's partitioner did not take it in this form"
_IN_FLOATS: Final = "XNNPACK computes it in floats, between integers"
# Source: executorch 1.4.1, backends/xnnpack/serialization/xnnpack_graph_serialize.py.
_CONSTANT_ALIGNMENT: Final = 16


def prepare() -> None:
    """Imports the compiler and XNNPACK's part of it."""
    # In this order: the compiler parses a long YAML file when it is imported, and takes 3 s more
    # where XNNPACK's package, from deep within its own imports, is what imports it.
    for module in ("executorch.exir", "executorch.backends.xnnpack.partition.xnnpack_partitioner"):
        importlib.import_module(module)


def check(card: ModelCard, recipe: Recipe, options: TargetOptions) -> None:
    """Raises ConfigError where ExecuTorch cannot do what is asked."""
    check_request(NAME, card, recipe, options)
    if recipe.precision == "int8" and options.delegate == _PORTABLE:
        raise ConfigError(
            f"ExecuTorch's portable kernels cannot execute the recipe {recipe.name!r} in integers.",
            hint="Leave the delegate out: XNNPACK can.",
        )


def convert(
    program: "ExportedProgram",
    card: ModelCard,
    recipe: Recipe,
    options: TargetOptions,
    dest: Path,
    progress: Progress,
) -> Interface:
    """Writes a program file, compiled for the delegate that the options name.

    Raises:
        ConfigError: int8 codes were asked for at the ends of a program that has floats there.
        ConversionError: the compiler refused the program, or XNNPACK lacks one of its operators.
    """
    check(card, recipe, options)
    progress("load ExecuTorch", 0.0)
    prepare()
    shape, result = input_shape(program), output_shape(program)
    grids = input_grid(program), output_grid(program)
    dtype = "float32"
    if recipe.precision == "int8":
        dtype = "int8" if options.io == "int8" else dtype
        progress("lower to ExecuTorch", 0.6)
        content = _quantized(program, io_codes=options.io == "int8")
    else:
        with shared_provenance():
            if recipe.precision == "fp16":
                dtype = "float16"
                progress("halve the program", 0.25)
                program = halved(program, float_io=False)
            progress("lower to ExecuTorch", 0.3)
            content = _lowered(program, known_delegate(NAME, options.delegate))
    progress("write", 0.95)
    dest.write_bytes(content)
    return Interface(
        input=TensorInfo(name=INPUT, shape=shape, layout="NCHW", dtype=dtype, grid=grids[0]),
        output=TensorInfo(
            name=output_name(card), shape=result, layout="NC", dtype=dtype, grid=grids[1]
        ),
    )


def deviation(*_: object) -> None:
    """Nothing: the file has the program's own numbers."""


def inspect(artifact: Path, delegate: str) -> OperatorReport:
    """Counts the calls of the program, and XNNPACK's nodes behind them.

    Where XNNPACK computes in integers, what it computes in floats all the same counts as outside.

    Raises:
        ConfigError: the program was compiled for another delegate.
        InputError: not a readable artifact.
    """
    name = known_delegate(NAME, delegate)
    contents = pte.read(artifact)
    compiled = "xnnpack" if pte.XNNPACK in contents.delegates else _PORTABLE
    if name != compiled:
        raise ConfigError(
            f"{artifact} was compiled for the delegate {compiled!r}, not for {name!r}.",
            hint=f"`edgese convert MODEL --target executorch --delegate {name}` makes one that is.",
        )
    return OperatorReport(
        operators=dict(contents.kernels + contents.inside),
        delegate=name,
        partitions=1 if name == _PORTABLE else len(contents.delegates),
        outside=tuple(
            OutsideOperator(operator=operator, count=count, reason=reason)
            for counted, reason in ((contents.kernels, _OUTSIDE), (contents.in_floats, _IN_FLOATS))
            for operator, count in counted.items()
            if name != _PORTABLE
        ),
        partition_sizes=(contents.kernels.total(),) if name == _PORTABLE else contents.sizes,
    )


def unavailable() -> str:
    """ExecuTorch's Python runtime is there on every system that edgese runs on."""
    return ""


def stand_in() -> str:
    """Nothing: the runtime itself executes artifacts here."""
    return ""


def load(artifact: Path, interface: Interface, *, threads: int) -> Predictor:
    """The artifact in ExecuTorch's runtime.

    ``threads`` sets the process's one pool, as the runtime has no other: what was loaded before is
    taken to it too.

    Raises:
        InputError: not a readable artifact.
    """
    # The runtime reads beyond a file that only pretends to be a program.
    pte.checked(artifact)
    import torch

    # `executorch.runtime` says the same in more words, after importing the whole compiler for
    # seconds; it has no way to set the threads either. torch has to be imported first.
    from executorch.extension.pybindings import _portable_lib as runtime

    runtime._unsafe_reset_threadpool(threads)  # noqa: SLF001  # the runtime offers no other way
    try:
        method = runtime._load_program(str(artifact)).load_method(_METHOD)  # noqa: SLF001  # same
    except RuntimeError as error:
        raise unreadable(artifact, _TITLE, error) from error
    given, made = interface.input, interface.output
    dtype = torch.float16 if given.dtype == "float16" else torch.float32

    def run(pictures: "NDArray[np.float32]") -> "NDArray[np.float32]":
        if given.dtype == "int8" and given.grid and made.grid:
            (logits,) = method((torch.from_numpy(codes(pictures, given.grid)),))
            return values(logits.numpy(), made.grid)
        (logits,) = method((torch.from_numpy(pictures).to(dtype),))
        result: NDArray[np.float32] = logits.float().numpy()
        return result

    batch, channels, height, width = interface.input.shape
    return predictor(run, (channels, height, width), batch)


def _quantized(program: "ExportedProgram", *, io_codes: bool) -> bytes:
    """A program file that does nothing but call XNNPACK's delegate with one graph."""
    import torch
    from executorch.exir import to_edge
    from executorch.exir._serialize._named_data_store import NamedDataStore
    from executorch.exir.lowered_backend_module import LoweredBackendModule
    from torch import nn

    from edgese.targets.executorch import xnnpack

    graph = xnnpack.lowered(program, io_codes=io_codes)
    constants = NamedDataStore()
    for name, content in graph.stored.items():
        constants.add_named_data(name, content, alignment=_CONSTANT_ALIGNMENT)
    dtype = torch.int8 if io_codes else torch.float32
    result = output_shape(program)

    class Shaped(nn.Module):
        """Tells what goes into the delegate and comes out, and nothing of what is between."""

        def forward(self, _: "Tensor") -> "Tensor":
            return torch.zeros(result, dtype=dtype)

    class Delegated(nn.Module):
        def __init__(self, delegate: nn.Module) -> None:
            super().__init__()
            self.delegate = delegate

        def forward(self, x: "Tensor") -> "Tensor":
            y: Tensor = self.delegate(x)
            return y

    example = (torch.zeros(input_shape(program), dtype=dtype),)
    delegate = LoweredBackendModule(
        edge_program=torch.export.export(Shaped(), example),
        backend_id=pte.XNNPACK,
        processed_bytes=graph.serialized(),
        compile_specs=[],
        named_data_store_output=constants.get_named_data_store_output(),
    )
    edge = to_edge(torch.export.export(evaluating(Delegated(delegate)), example))
    file: bytes = edge.to_executorch().buffer
    return file


def _lowered(program: "ExportedProgram", delegate: str) -> bytes:
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import EdgeCompileConfig, to_edge_transform_and_lower
    from executorch.exir.error import ExportError, InternalError

    # XNNPACK's own configuration switches the verifier off as well: it makes operators that the
    # verifier does not know. What comes out is verified by running it.
    config = EdgeCompileConfig(_check_ir_validity=False)
    partitioner = [] if delegate == _PORTABLE else [XnnpackPartitioner()]
    try:
        with _without_absent_patterns(program):
            edge = to_edge_transform_and_lower(
                _delegatable(program), partitioner=partitioner, compile_config=config
            )
            content: bytes = edge.to_executorch().buffer
    except (
        ExportError,
        InternalError,
        RuntimeError,
        ValueError,
        TypeError,
        AssertionError,
        IndexError,
        KeyError,
        NotImplementedError,
    ) as error:
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        told = str(cause).strip().splitlines()
        raise ConversionError(
            f"ExecuTorch refused the program: {told[0] if told else type(cause).__name__}",
            hint="Write the operator that it names as others that mean the same"
            + ("." if delegate == _PORTABLE else ", or try --delegate portable."),
        ) from error
    return content


def _delegatable(program: "ExportedProgram") -> "ExportedProgram":
    """The program in a form of which XNNPACK takes every operator; the same one where it is so.

    A hard-sigmoid is decomposed with the integers 3 and 6, which become integer tensors and casts
    that XNNPACK does not have; with floats it has neither. A max pool that leaves its stride to the
    default (its kernel) makes XNNPACK's visitor fail with an IndexError.
    """
    import torch

    aten = torch.ops.aten
    targets = {node.target for node in program.graph.nodes}
    if not targets & {aten.hardsigmoid.default, aten.hardsigmoid_.default, aten.max_pool2d.default}:
        return program
    program = program.run_decompositions({aten.hardsigmoid.default: _hard_sigmoid})
    for node in program.graph.nodes:
        if node.target == aten.max_pool2d.default and len(node.args) == 2:
            node.args = (*node.args, node.args[1])
    return program


def _hard_sigmoid(x: "Tensor") -> "Tensor":
    import torch.nn.functional as F

    return F.hardtanh(x + 3.0, 0.0, 6.0) * (1 / 6)


@contextmanager
def _without_absent_patterns(program: "ExportedProgram") -> Iterator[None]:
    """Spares XNNPACK the patterns of attention and bilinear resizing where a program has neither.

    It exports and lowers six networks to have their graphs to look for: 2.7 s of processor time, a
    third of what lowering EfficientNet-B0 takes. Where the names have gone, nothing is spared.
    """
    from executorch.backends.xnnpack.partition.graphs import bilinear_2d, sdpa

    operators = " ".join(str(node.target) for node in program.graph.nodes)
    absent = [
        (module, finder, nothing)
        for module, finder, nothing, operator in (
            (sdpa, "get_graphs", list, "scaled_dot_product_attention"),
            (bilinear_2d, "get_graphs_dict", dict, "upsample"),
        )
        if operator not in operators and hasattr(module, finder)
    ]
    before = [getattr(module, finder) for module, finder, _ in absent]
    try:
        for module, finder, nothing in absent:
            setattr(module, finder, nothing)
        yield
    finally:
        for (module, finder, _), found in zip(absent, before, strict=True):
            setattr(module, finder, found)

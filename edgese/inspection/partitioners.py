"""Asks ExecuTorch's partitioners for other delegates about the model that an artifact was made of.

A .pte file is lowered for one delegate already. So the network is built again from its spec, with
random weights, which do not matter to what a delegate takes, and lowered for the other one.
"""

import io
import logging
import re
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from importlib import metadata
from typing import TYPE_CHECKING, Any, Final

from edgese.errors import ConfigError, ConversionError
from edgese.inspection.rules import Cause, left_out
from edgese.protocols import Progress
from edgese.records.artifact import Manifest
from edgese.records.conversion import DelegateFacts
from edgese.records.inspection import DelegateReport, LeftOut

if TYPE_CHECKING:
    from torch.export import ExportedProgram

NAMES: Final = ("vulkan", "coreml")
_REBUILT: Final = (
    "The partitioner was asked about the network as its spec builds it, lowered anew; the file "
    "itself is lowered for another delegate."
)
_VULKAN: Final = re.compile(r"Due to \[(?P<reason>.*?)\], skipping .*? = (?P<operator>[\w.]+)\(")
_COREML: Final = re.compile(r"because it is not supported by CoreML: (?P<operator>\S+)")
_NO_KERNEL: Final = "no operator implementation"


def unaskable(manifest: Manifest) -> str:
    """Why partitioners cannot be asked about an artifact; "" where they can."""
    if manifest.spec is None:
        return "it was made from a module, so there is no spec to build the network from again"
    if manifest.recipe.is_integer:
        return (
            "an integer program is written for XNNPACK's graph directly; these partitioners are "
            "asked about programs of floats"
        )
    return ""


def asked(manifest: Manifest, facts: DelegateFacts, *, progress: Progress) -> DelegateReport:
    """What a partitioner of ExecuTorch takes of the model of an artifact.

    Args:
        facts: of the delegate; one of `NAMES`.

    Raises:
        ConfigError: the network cannot be built again.
        ConversionError: the delegate's own compiler fails on what its partitioner takes.
    """
    if why := unaskable(manifest):
        raise ConfigError(
            f"ExecuTorch's partitioner of {facts.title} cannot be asked about {manifest.artifact}: "
            f"{why}.",
            hint="Convert the model with the recipe fp32 or fp16, and inspect that.",
        )
    progress("build the network again", 0.0)
    program = _program(manifest)
    progress(f"ask {facts.title}'s partitioner", 0.3)
    return asked_about(program, facts)


def asked_about(program: "ExportedProgram", facts: DelegateFacts) -> DelegateReport:
    """What a partitioner of ExecuTorch takes of an exported program.

    Raises:
        ConversionError: the delegate's own compiler fails on what its partitioner takes.
    """
    with _heard() as lines:
        lowered = _lowered(program, facts)
    return report(facts, *lowered, lines)


def report(
    facts: DelegateFacts,
    groups: tuple[tuple[str, ...], ...],
    outside: dict[str, int],
    lines: list[str],
) -> DelegateReport:
    """A report of what lowering made; pure.

    Args:
        groups: the operators of each piece that was delegated.
        outside: how many of each kind were not.
        lines: what the partitioner logged.
    """
    reasons = reasons_in(lines)
    taken = sum(map(len, groups))
    return DelegateReport(
        delegate=facts.name,
        title=facts.title,
        basis="asked",
        by=f"executorch {metadata.version('executorch')}, its partitioner",
        operators=taken + sum(outside.values()),
        taken=taken,
        partitions=len(groups),
        partition_sizes=tuple(map(len, groups)),
        left_out=tuple(
            _left_out(facts.name, operator, count, reasons.get(operator, ""))
            for operator, count in sorted(outside.items())
        ),
        notes=(_REBUILT,),
    )


def reasons_in(lines: list[str]) -> dict[str, str]:
    """A partitioner's reason for each kind of operator that it skips; pure.

    Source of the wording: executorch 1.4.1, backends/vulkan/partitioner/vulkan_partitioner.py and
    backends/apple/coreml/partition/coreml_partitioner.py.
    """
    found: dict[str, str] = {}
    for line in lines:
        if vulkan := _VULKAN.search(line):
            found[vulkan["operator"]] = vulkan["reason"]
        elif coreml := _COREML.search(line):
            found[coreml["operator"]] = "coremltools has no conversion of it that ExecuTorch trusts"
    return found


def _left_out(delegate: str, operator: str, count: int, reason: str) -> LeftOut:
    cause: Cause = "ARGUMENTS"
    if not reason or reason == _NO_KERNEL or "no conversion" in reason:
        cause = "OP-UNSUPPORTED"
    said = reason or "the partitioner did not say"
    return left_out("executorch", delegate, operator, count, cause, said)


def _program(manifest: Manifest) -> "ExportedProgram":
    from edgese.models.builder import build
    from edgese.program.export import exported
    from edgese.program.forms import halved

    assert manifest.spec is not None  # noqa: S101 - held before
    shape = manifest.interface.input.shape
    program = exported(build(manifest.spec).eval(), manifest.model.name, shape)
    return halved(program, float_io=False) if manifest.recipe.precision == "fp16" else program


def _lowered(
    program: "ExportedProgram", facts: DelegateFacts
) -> tuple[tuple[tuple[str, ...], ...], dict[str, int]]:
    from executorch.exir import EdgeCompileConfig, to_edge_transform_and_lower

    try:
        edge = to_edge_transform_and_lower(
            program,
            partitioner=[_partitioner(facts.name)],
            compile_config=EdgeCompileConfig(_check_ir_validity=False),
        )
    except (RuntimeError, ValueError, TypeError, NotImplementedError, AssertionError) as error:
        lines = str(error).strip().splitlines()
        raise ConversionError(
            f"ExecuTorch cannot lower the program for {facts.title}: "
            f"{lines[0] if lines else type(error).__name__}",
            hint="Its partitioner took operators that its compiler refuses: a fault between the "
            "two, worth a report to ExecuTorch with the model's spec.",
        ) from error
    graph = edge.exported_program().graph_module
    groups = [
        tuple(map(_name, _calls(module.original_module.graph)))
        for _, module in graph.named_children()
        if hasattr(module, "original_module")
    ]
    outside = Counter(_name(node) for node in _calls(graph.graph))
    return tuple(groups), dict(outside)


def _partitioner(name: str) -> Any:  # noqa: ANN401  # executorch has no types
    if name == "vulkan":
        from executorch.backends.vulkan.partitioner.vulkan_partitioner import VulkanPartitioner

        return VulkanPartitioner()
    from executorch.backends.apple.coreml.partition import CoreMLPartitioner

    return CoreMLPartitioner()


def _calls(graph: Any) -> Iterator[Any]:  # noqa: ANN401  # a torch.fx.Graph
    """The nodes that compute: no calls of delegates, and no taking apart of tuples."""
    for node in graph.nodes:
        if node.op == "call_function" and hasattr(node.target, "_schema"):
            yield node


def _name(node: Any) -> str:  # noqa: ANN401  # a torch.fx.Node
    return str(node.target.__name__)


@contextmanager
def _heard() -> Iterator[list[str]]:
    """What is logged meanwhile; nothing of it reaches the screen."""
    lines: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    listener = Listener(logging.INFO)
    root, torch = logging.getLogger(), logging.getLogger("torch")
    before = root.level, root.handlers[:], torch.level
    root.setLevel(logging.INFO)
    root.handlers[:] = [listener]
    # It writes to the screen itself, and says nothing here that matters.
    torch.setLevel(logging.ERROR)
    try:
        with redirect_stderr(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield lines
    finally:
        root.setLevel(before[0])
        root.handlers[:] = before[1]
        torch.setLevel(before[2])

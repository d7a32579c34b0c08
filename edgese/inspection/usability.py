"""Asks ONNX Runtime's own check for phones how NNAPI and Core ML would divide a graph.

It does what the providers' partitioning does, on a graph after the basic optimizations, by the
lists of operators that come with the package. Conditions on attributes it tells and does not check.
Source: onnxruntime 1.31.0, tools/mobile_helpers/usability_checker.py.
"""

from importlib import metadata
from pathlib import Path
from typing import Any, Final

from edgese.inspection.graphs import onnx_nodes
from edgese.inspection.pieces import Node
from edgese.inspection.reports import refusals
from edgese.inspection.rules import Cause, left_out
from edgese.records.conversion import DelegateFacts
from edgese.records.inspection import DelegateReport, LeftOut
from edgese.scratch import temporary

NEURAL_NETWORK: Final = "coreml-neuralnetwork"
NAMES: Final = ("nnapi", "coreml", NEURAL_NETWORK)
_TITLES: Final = {NEURAL_NETWORK: "Core ML provider, neural networks"}
_LISTS: Final = {
    "coreml": "coreml_supported_mlprogram_ops.md",
    NEURAL_NETWORK: "coreml_supported_neuralnetwork_ops.md",
}
_OPTIMIZED: Final = "The graph is the one after ONNX Runtime's basic optimizations."
_NOT_CHECKED: Final = "Conditions that were not checked: "
_DEPRECATED: Final = "NNAPI is deprecated from Android 15 on."


def checked(artifact: Path, facts: dict[str, DelegateFacts]) -> dict[str, DelegateReport]:
    """The reports of `NAMES`, of a .onnx file that a target has read before.

    Args:
        facts: of the target's delegates, by name.
    """
    from onnxruntime.tools.mobile_helpers import usability_checker as checker
    from onnxruntime.tools.onnx_model_utils import ModelProtoWithShapeInfo, optimize_model

    with temporary("onnx") as folder:
        # The check's own order of steps; calling them gives the answer itself instead of a log.
        optimized = folder / artifact.name
        optimize_model(artifact, optimized, use_external_initializers=True)
        described = ModelProtoWithShapeInfo(optimized)
        model = described.model_with_shape_info
        nodes = onnx_nodes(model.graph)
        found = {"nnapi": checker.check_nnapi_partitions(model, True)}
        for each, file in _LISTS.items():
            found[each] = checker.check_coreml_partitions(model, True, file)
    by = f"onnxruntime {metadata.version('onnxruntime')}, usability_checker"
    return {
        each: report(each, _TITLES.get(each) or facts[each].title, answer, nodes, by)
        for each, answer in found.items()
    }


def report(
    delegate: str,
    title: str,
    answer: Any,  # noqa: ANN401  # usability_checker.PartitioningInfo, which has no types
    nodes: tuple[Node, ...],
    by: str,
) -> DelegateReport:
    """What the check found, as a report; pure.

    Args:
        answer: its PartitioningInfo.
        nodes: of the graph that it was found in, in order.
    """
    refused: dict[str, tuple[Cause, str]] = {
        name.partition(":")[2]: ("OP-UNSUPPORTED", "it is not in the provider's list")
        for name in answer.unsupported_ops
    }
    others = [
        *_uncounted(delegate, "a dynamic shape", answer.nodes_unsupported_due_to_dynamic_input),
        *_uncounted(delegate, "a rank above 5", answer.num_unsupported_nodes_due_to_rank),
    ]
    caveats = answer.supported_ops_checker.get_caveats()
    notes = [_OPTIMIZED, *([_DEPRECATED] if delegate == "nnapi" else [])]
    if caveats:
        notes.append(_NOT_CHECKED + " ".join(map(_caveat, caveats)))
    return DelegateReport(
        delegate=delegate,
        title=title,
        basis="checked",
        by=by,
        operators=answer.num_nodes,
        taken=answer.num_supported_nodes,
        partitions=answer.num_partitions,
        partition_sizes=tuple(len(group) for group in answer.supported_groups),
        left_out=(*refusals("onnxruntime", delegate, nodes, refused), *others),
        notes=tuple(notes),
    )


def _uncounted(delegate: str, what: str, count: int) -> list[LeftOut]:
    if not count:
        return []
    reason = f"an input of it has {what}"
    return [left_out("onnxruntime", delegate, "any", count, "SHAPE", reason)]


def _caveat(line: str) -> str:
    """A line such as "ai.onnx:Conv:Only 2D Conv is supported." without the namespace."""
    _, name, text = line.split(":", 2)
    return f"{name}: {text.strip().rstrip('.')}."

"""Asks Core ML on a Mac which unit executes which operator: its compute plan.

NOT TESTED: there was no Mac to run it on. What reads the plan is written from coremltools 9.0,
models/compute_plan.py; what makes a report of it is pure, and tested.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from edgese.errors import DeviceError
from edgese.inspection.pieces import Node, pieces
from edgese.inspection.rules import left_out
from edgese.records.inspection import DelegateReport
from edgese.targets.coreml import target as coreml
from edgese.targets.coreml.package import import_coremltools

if TYPE_CHECKING:
    from collections.abc import Iterator

NEURAL_ENGINE: Final = "neural-engine"
_UNITS: Final = {
    "MLNeuralEngineComputeDevice": NEURAL_ENGINE,
    "MLGPUComputeDevice": "gpu",
    "MLCPUComputeDevice": "cpu",
}
_CONSTANTS: Final = ("const", "constexpr_")
_OF_THIS_MAC: Final = (
    "An iPhone's plan may be another: it is made on the device that loads the model."
)


def asked(artifact: Path) -> DelegateReport:
    """What the Neural Engine of this Mac takes of a .mlpackage, which a target has read before.

    Raises:
        DeviceError: this is no Mac, or Core ML makes no plan.
    """
    if coreml.stand_in():
        raise DeviceError(
            "Which operators the Neural Engine takes is told by Core ML's compute plan, which "
            "needs a Mac.",
            hint="Inspect it on a Mac with macOS 14.4 or newer, or look at Xcode's performance "
            "report of the package.",
        )
    import_coremltools()
    import coremltools
    from coremltools.models.compute_plan import MLComputePlan

    try:
        compiled = coremltools.models.utils.compile_model(str(artifact))
        plan = MLComputePlan.load_from_path(compiled)
    except (RuntimeError, ValueError, OSError) as error:
        raise DeviceError(
            f"Core ML makes no compute plan of {artifact}: {error}",
            hint="Compute plans need macOS 14.4 or newer.",
        ) from error
    program = plan.model_structure.program
    if program is None:
        raise DeviceError(
            f"{artifact} holds no ML program, so there is no plan of its operators.",
            hint="Convert it again: `edgese convert MODEL --target coreml`.",
        )
    nodes, units = [], []
    for operation in program.functions["main"].block.operations:
        if operation.operator_name.split(".")[-1].startswith(_CONSTANTS):
            continue
        usage = plan.get_compute_device_usage_for_mlprogram_operation(operation)
        nodes.append(
            Node(
                operator=operation.operator_name.split(".")[-1],
                inputs=tuple(_bindings(operation.inputs)),
                outputs=tuple(output.name for output in operation.outputs),
            )
        )
        preferred = type(usage.preferred_compute_device).__name__ if usage else ""
        units.append(_UNITS.get(preferred, "unknown"))
    return report(nodes, units, f"coremltools {coremltools.__version__}, compute plan of this Mac")


def report(nodes: Sequence[Node], units: Sequence[str], by: str) -> DelegateReport:
    """A plan as a report; pure.

    Args:
        units: the preferred one of each node: "neural-engine", "gpu", "cpu" or "unknown".
    """
    taken = [unit == NEURAL_ENGINE for unit in units]
    groups = pieces(nodes, taken)
    kinds: dict[tuple[str, str], int] = {}
    for node, unit in zip(nodes, units, strict=True):
        if unit != NEURAL_ENGINE:
            kinds[node.operator, unit] = kinds.get((node.operator, unit), 0) + 1
    return DelegateReport(
        delegate=NEURAL_ENGINE,
        title="Neural Engine",
        basis="asked",
        by=by,
        operators=len(nodes),
        taken=sum(taken),
        partitions=len(groups),
        partition_sizes=tuple(map(len, groups)),
        left_out=tuple(
            left_out(
                "coreml", NEURAL_ENGINE, operator, count, "OUTSIDE", f"Core ML prefers: {unit}"
            )
            for (operator, unit), count in sorted(kinds.items())
        ),
        notes=(_OF_THIS_MAC,),
    )


def _bindings(inputs: object) -> "Iterator[str]":
    """The names that an operation's arguments are bound to; constants have none."""
    arguments = inputs.values() if isinstance(inputs, dict) else ()
    for argument in arguments:
        for binding in argument.bindings:
            if binding.name:
                yield binding.name

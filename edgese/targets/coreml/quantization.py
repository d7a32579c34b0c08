"""What is quantized in an ML program: read back from a package, and as its program has it.

Scales are halves in a package that computes in fp16, since an operator takes them in the type of
what it reads.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from edgese.program.forms import held_tensors, pair_grid
from edgese.program.nodes import DEQUANTIZE_CHANNELS, QUANTIZE
from edgese.targets.coreml.package import Package, argument

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import fx
    from torch.export import ExportedProgram

_SUM: Final = "aten.add.Tensor"
_PAIR: Final = ("quantize", "dequantize")
# What holds a weight's codes, up to iOS17 and from iOS18 on.
_WEIGHTS: Final = {
    "constexpr_affine_dequantize": "quantized_data",
    "constexpr_blockwise_shift_scale": "data",
}
# The zero point of int8 is so much less than that of uint8 for the same values.
_SHIFT: Final = 128

# A scale, rounded to a half, and the zero point of int8.
Step = tuple[float, int]
# Codes and scales of a weight, as bytes.
Weight = tuple[bytes, bytes]


@dataclass(frozen=True)
class Quantization:
    """What a package must hold.

    Attributes:
        weights: each with how often it occurs.
        steps: scales and zero points that it must have.
        others: those that it may have: around a sum coremltools divides the scales by that of the
            second summand (`distributive_quantized_binary_op_scale_normalization`).
    """

    weights: Counter[Weight]
    steps: frozenset[Step]
    others: frozenset[Step]


def expected(program: "ExportedProgram") -> Quantization:
    """What a package must hold that is made of a program with folded weights."""
    held = held_tensors(program)
    weights: Counter[Weight] = Counter()
    steps: set[Step] = set()
    others: set[Step] = set()
    for node in program.graph.nodes:
        kind = str(node.target)
        if kind == DEQUANTIZE_CHANNELS:
            codes, scales = (held[source.name].detach().numpy() for source in node.args[:2])
            weights[codes.tobytes(), _halves(scales).tobytes()] += 1
        elif kind == _SUM:
            others.update(_around(node))
        elif kind == QUANTIZE and str(node.args[0].target) != _SUM:
            steps.update(_steps(node))
    return Quantization(weights, frozenset(steps), frozenset(others))


def faults(package: Package, wanted: Quantization) -> Iterator[str]:
    """What a package holds otherwise than it must."""
    if missing := (wanted.weights - Counter(weights(package))).total():
        yield f"{missing} of {wanted.weights.total()} weights that are not the program's codes"
    found = {step for _, step in steps(package)}
    if foreign := sorted(found - wanted.steps - wanted.others):
        yield f"a scale and zero point {foreign[0]} that the program does not have"
    if lost := sorted(wanted.steps - found):
        yield f"no pair with the program's scale and zero point {lost[0]}"


def weights(package: Package) -> Iterator[Weight]:
    """The weights that are kept as codes, in the program's order."""
    for op in package.block.operations:
        if op.type in _WEIGHTS:
            codes, scales = (argument(package, op, name) for name in (_WEIGHTS[op.type], "scale"))
            yield codes.tobytes(), _halves(scales).tobytes()


def steps(package: Package) -> Iterator[tuple[str, Step]]:
    """Kind, scale and zero point of each quantize and dequantize, in the program's order."""
    from coremltools.proto import MIL_pb2

    kinds = {
        op.outputs[0].name: op.outputs[0].type.tensorType.dataType
        for op in package.block.operations
    }
    for op in package.block.operations:
        if op.type in _PAIR:
            codes = op.outputs[0] if op.type == "quantize" else op.inputs["input"].arguments[0]
            zero = int(argument(package, op, "zero_point")) if "zero_point" in op.inputs else 0
            if kinds[codes.name] == MIL_pb2.DataType.UINT8:
                zero -= _SHIFT
            yield op.type, (float(argument(package, op, "scale")), zero)


def _around(node: "fx.Node") -> Iterator[Step]:
    """The steps of the pairs around a sum, as they are and divided."""
    second = pair_grid(node.all_input_nodes[-1])
    for each in (*node.all_input_nodes, *node.users):
        yield from _steps(each)
        if second is not None:
            yield from _steps(each, second.scale)


def _steps(node: "fx.Node", divisor: float = 1.0) -> Iterator[Step]:
    import numpy as np

    if (grid := pair_grid(node)) is not None:
        scale = np.float32(grid.scale) / np.float32(divisor)
        yield float(np.float16(scale)), grid.zero_point


def _halves(scales: "NDArray[Any]") -> "NDArray[Any]":
    """Scales as halves; one that is too small for a half is the smallest.

    coremltools does so too in arrays of less than 400, and makes it 0 in larger ones.
    """
    import numpy as np

    with np.errstate(under="ignore"):
        return np.maximum(scales.astype(np.float16), np.nextafter(np.float16(0), np.float16(1)))

"""Why operators are left out: stable codes, and advice. Pure.

A code is ``<format>-<delegate>-<cause>``. The cause is one of `CAUSES`, or the operator's name
where there is advice for just this operator. Codes are never reused for something else.
"""

import re
from typing import Final, Literal

from edgese.records.inspection import Fault, LeftOut

Cause = Literal[
    "OP-UNSUPPORTED",
    "ARGUMENTS",
    "SMALLER-PIECE",
    "IN-FLOATS",
    "PRECISION",
    "SHAPE",
    "OUTSIDE",
    "ENDS",
    "NO-GRID",
    "NOT-LOADED",
    "STRIDE",
]

# Causes that lie in the operator itself.
_OF_OPERATORS: Final = ("OP-UNSUPPORTED", "ARGUMENTS", "OUTSIDE")
_FORMATS: Final = {"tflite": "TFL", "executorch": "ET", "coreml": "CML", "onnxruntime": "ORT"}

CAUSES: Final[dict[Cause, str]] = {
    "OP-UNSUPPORTED": "Write the operator as others that mean the same, or leave it to the "
    "processor where it stands at an end of the network.",
    "ARGUMENTS": "The delegate has the operator, but not with these attributes or types; change "
    "them, or write it as others that mean the same.",
    "SMALLER-PIECE": "The delegate executes one piece, the largest. What splits the graph is told "
    "beside this; with that gone, this is taken too.",
    "IN-FLOATS": "Quantize it too: `edgese quantize` gives every operator integers; this file was "
    "made in another way.",
    "PRECISION": "Convert the model with a recipe that the delegate executes.",
    "SHAPE": "Convert it with a fixed batch, and with tensors of at most the rank that is told.",
    "OUTSIDE": "Write the operator as others that mean the same.",
    "ENDS": "The processor quantizes the input and dequantizes the output, which divides nothing; "
    "`edgese convert --io int8` leaves both to whoever calls the artifact.",
    "NO-GRID": "Codes come to it without their scale: put it between a dequantize and a quantize, "
    "which runtimes take away again. edgese writes it so: convert the model again.",
    "STRIDE": "It computes a 1x1 convolution of integers without its stride, so what comes out is "
    "wrong: convert with the recipe fp32 or fp16 for a GPU. A window of 1x2 with zeros in its "
    "second column gives the same integers and is computed right.",
    "NOT-LOADED": "The runtime loads none of the file with this delegate because of what else is "
    "left out here; with that gone, this is taken.",
}

_HARD_SIGMOID: Final = (
    'Give the gates a sigmoid (gate = "sigmoid" in the spec) and train them: delegates take it '
    "nearly everywhere. Or take the recipe int8, which writes a hard-sigmoid as a convolution and "
    "a clamp."
)
_HARD_SWISH: Final = (
    'Take SiLU or ReLU6 (activation = "silu" or "relu6" in the spec) and train the network again.'
)
_MEAN: Final = (
    "Pool with the spatial dimensions kept (adaptive_avg_pool2d(x, 1), then flatten): delegates "
    "take this form where they refuse a mean that drops them."
)
_CAST: Final = (
    "Keep one data type throughout: constants written as whole numbers (3, 6) become integer "
    "tensors and casts; write 3.0 and 6.0."
)
_INTEGERS: Final = (
    "This delegate computes no integer graphs in this format: give it the recipe fp32 or fp16, or "
    "convert for a target that has it with integers."
)
_ENDS: Final = (
    "`edgese convert --io int8` leaves quantizing the input and dequantizing the output to whoever "
    "calls the artifact."
)
# By the operator's name in letters and digits alone.
_ADVICE: Final = {
    "HARDSIGMOID": _HARD_SIGMOID,
    "HARDSWISH": _HARD_SWISH,
    "MEAN": _MEAN,
    "REDUCEMEAN": _MEAN,
    "CAST": _CAST,
    "TODIMORDERCOPY": _CAST,
    "TOCOPY": _CAST,
    "QUANTIZE": _ENDS,
    "DEQUANTIZE": _ENDS,
    "QUANTIZELINEAR": _INTEGERS,
    "DEQUANTIZELINEAR": _INTEGERS,
    "ERF": "Take the GELU that is made with tanh, or another activation.",
}


def left_out(
    target: str,
    delegate: str,
    operator: str,
    count: int | None,
    cause: Cause,
    reason: str,
    splits: tuple[int, int] | None = None,
) -> LeftOut:
    """The record of operators that are left out, with its code and advice.

    Args:
        splits: how many pieces there are, and how many there were if these operators were taken.
    """
    bare = _bare(operator)
    special = cause in _OF_OPERATORS and bare in _ADVICE
    advice = _ADVICE[bare] if special else CAUSES[cause]
    now, then = splits or (0, 0)
    # Where others split the graph as well, taking this alone would change little.
    if now > 1 and 2 * then <= now:
        advice = (
            f"This {operator} splits the graph in {now}; were it taken, there would be {then}. "
            f"{advice}"
        )
    prefix = _FORMATS.get(target, target.upper())
    return LeftOut(
        operator=operator,
        count=count,
        code=f"{prefix}-{_plain(delegate)}-{bare if special else cause}",
        reason=reason,
        advice=advice,
    )


def fault(
    target: str, delegate: str, operator: str, count: int, cause: Cause, reason: str
) -> Fault:
    """The record of operators that are taken and computed wrongly, with its code and advice."""
    return Fault(**left_out(target, delegate, operator, count, cause, reason).to_dict())


def _plain(name: str) -> str:
    return re.sub(r"[^A-Z0-9]", "", name.upper())


def _bare(operator: str) -> str:
    """An operator's name without its namespace, overload and punctuation, in capitals."""
    name = re.sub(r"^(aten|dim_order_ops|edge|ai\.onnx|com\.microsoft)(::|[.:])", "", operator)
    return _plain(name.split(".")[0])

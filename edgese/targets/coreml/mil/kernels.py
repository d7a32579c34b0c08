"""The literal table of kernels, by the operators' names."""

from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from edgese.targets.coreml.mil import elementwise, shapes, windows


def _of_x(operator: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """A function of one tensor, under the name that the reference has for it."""

    def kernel(x: Tensor) -> Tensor:
        return operator(x)

    return kernel


# Each takes an operator's parameters by their names, and gives its only result.
KERNELS: Final[dict[str, Callable[..., Tensor]]] = {
    "abs": _of_x(torch.abs),
    "add": elementwise.add,
    "avg_pool": windows.avg_pool,
    "batch_norm": windows.batch_norm,
    "cast": elementwise.cast,
    "clip": elementwise.clip,
    "concat": shapes.concat,
    "conv": windows.conv,
    "dequantize": elementwise.dequantize,
    "elu": elementwise.elu,
    "erf": _of_x(torch.erf),
    "exp": _of_x(torch.exp),
    "expand_dims": shapes.expand_dims,
    "gelu": elementwise.gelu,
    "identity": lambda x: x,
    "inverse": elementwise.inverse,
    "layer_norm": windows.layer_norm,
    "leaky_relu": elementwise.leaky_relu,
    "linear": windows.linear,
    "linear_activation": elementwise.linear_activation,
    "matmul": windows.matmul,
    "max_pool": windows.max_pool,
    "maximum": elementwise.maximum,
    "minimum": elementwise.minimum,
    "mul": elementwise.mul,
    "pad": windows.pad,
    "pow": elementwise.pow,
    "prelu": elementwise.prelu,
    "quantize": elementwise.quantize,
    "real_div": elementwise.real_div,
    "reduce_max": shapes.reduce_max,
    "reduce_mean": shapes.reduce_mean,
    "reduce_min": shapes.reduce_min,
    "reduce_sum": shapes.reduce_sum,
    "relu": _of_x(torch.relu),
    "relu6": _of_x(functional.relu6),
    "reshape": shapes.reshape,
    "rsqrt": elementwise.rsqrt,
    "sigmoid": _of_x(torch.sigmoid),
    "sigmoid_hard": elementwise.sigmoid_hard,
    "silu": _of_x(functional.silu),
    "softmax": shapes.softmax,
    "softplus": _of_x(functional.softplus),
    "softsign": _of_x(functional.softsign),
    "sqrt": _of_x(torch.sqrt),
    "square": _of_x(torch.square),
    "squeeze": shapes.squeeze,
    "sub": elementwise.sub,
    "tanh": _of_x(torch.tanh),
    "thresholded_relu": elementwise.thresholded_relu,
    "transpose": shapes.transpose,
}
# Those whose outputs hold no numbers of the network.
_NAMING: Final = "classify"
_CONSTANT: Final = ("const", "constexpr_")


def is_constant(operator: str) -> bool:
    """Whether an operator holds a constant, as it is or compressed."""
    return operator.startswith(_CONSTANT)


def has_kernel(operator: str) -> bool:
    """Whether an operator can be executed, or need not be."""
    return operator in KERNELS or operator == _NAMING or is_constant(operator)

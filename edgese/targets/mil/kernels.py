"""The literal table of kernels, by the operators' names."""

from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from edgese.targets.mil import elementwise, shapes, windows

# Each takes an operator's parameters by their names, and gives its only result.
KERNELS: Final[dict[str, Callable[..., Tensor]]] = {
    "abs": lambda x: torch.abs(x),
    "add": elementwise.add,
    "avg_pool": windows.avg_pool,
    "batch_norm": windows.batch_norm,
    "cast": elementwise.cast,
    "clip": elementwise.clip,
    "concat": shapes.concat,
    "conv": windows.conv,
    "dequantize": elementwise.dequantize,
    "elu": elementwise.elu,
    "erf": lambda x: torch.erf(x),
    "exp": lambda x: torch.exp(x),
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
    "relu": lambda x: torch.relu(x),
    "relu6": lambda x: functional.relu6(x),
    "reshape": shapes.reshape,
    "rsqrt": elementwise.rsqrt,
    "sigmoid": lambda x: torch.sigmoid(x),
    "sigmoid_hard": elementwise.sigmoid_hard,
    "silu": lambda x: functional.silu(x),
    "softmax": shapes.softmax,
    "softplus": lambda x: functional.softplus(x),
    "softsign": lambda x: functional.softsign(x),
    "sqrt": lambda x: torch.sqrt(x),
    "square": lambda x: torch.square(x),
    "squeeze": shapes.squeeze,
    "sub": elementwise.sub,
    "tanh": lambda x: torch.tanh(x),
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

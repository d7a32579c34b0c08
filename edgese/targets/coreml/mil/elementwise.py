"""Operators that look at each value alone, or at two: activations, arithmetic, grids.

Parameters have the names that the reference gives them. Tensors are all of one type, float32 or
float64, whatever the file's type is; who calls rounds what comes out to that type.
"""

from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

# What a constant of the program can be beside a tensor.
Number = Tensor | float

# Codes of the types that `quantize` can make.
_CODES: Final = {"int8": (-128, 127), "uint8": (0, 255)}
_FLOATS: Final = ("fp16", "fp32")


class UnknownForm(ValueError):
    """A form of an operator that has no kernel; the message says which."""


def cast(x: Tensor, dtype: str) -> Tensor:
    """Changes the type between floats; the rounding to it is the caller's.

    Raises:
        UnknownForm: another type than a float's.
    """
    if dtype not in _FLOATS:
        raise UnknownForm(f"to {dtype}")
    return x


def clip(x: Tensor, alpha: float, beta: float) -> Tensor:
    """Clamps to [alpha, beta]."""
    return x.clamp(alpha, beta)


def sigmoid_hard(x: Tensor, alpha: float, beta: float) -> Tensor:
    """min(max(alpha x + beta, 0), 1)."""
    return (x * alpha + beta).clamp(0, 1)


def thresholded_relu(x: Tensor, alpha: float) -> Tensor:
    """X where it is at least alpha, and 0 elsewhere."""
    return torch.where(x >= alpha, x, 0.0)


def leaky_relu(x: Tensor, alpha: float) -> Tensor:
    """X, and alpha x below 0."""
    return functional.leaky_relu(x, alpha)


def elu(x: Tensor, alpha: float) -> Tensor:
    """X, and alpha (exp(x) - 1) below 0."""
    return functional.elu(x, alpha)


def prelu(x: Tensor, alpha: Tensor) -> Tensor:
    """As `leaky_relu`, with an alpha for each channel."""
    return functional.prelu(x, alpha)


def gelu(x: Tensor, mode: str) -> Tensor:
    """GELU, exact or by one of the two approximations that the reference has.

    Raises:
        UnknownForm: another mode.
    """
    if mode == "EXACT":
        return functional.gelu(x)
    if mode == "TANH_APPROXIMATION":
        return functional.gelu(x, approximate="tanh")
    if mode == "SIGMOID_APPROXIMATION":
        return x * torch.sigmoid(1.702 * x)
    raise UnknownForm(f"with mode {mode}")


def linear_activation(x: Tensor, alpha: float, beta: float) -> Tensor:
    """Alpha x + beta."""
    return x * alpha + beta


def rsqrt(x: Tensor, epsilon: float) -> Tensor:
    """1 / sqrt(x + epsilon)."""
    return torch.rsqrt(x + epsilon)


def inverse(x: Tensor, epsilon: float) -> Tensor:
    """1 / (x + epsilon)."""
    return 1 / (x + epsilon)


def _of_two(operator: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Number, Number], Tensor]:
    def kernel(x: Number, y: Number) -> Tensor:
        return operator(torch.as_tensor(x), torch.as_tensor(y))

    return kernel


add: Final = _of_two(torch.add)
sub: Final = _of_two(torch.sub)
mul: Final = _of_two(torch.mul)
real_div: Final = _of_two(torch.div)
maximum: Final = _of_two(torch.maximum)
minimum: Final = _of_two(torch.minimum)
pow: Final = _of_two(torch.pow)  # noqa: A001  # named as the operator is


def quantize(  # the operator's own
    input: Tensor,  # noqa: A002  # the same
    scale: Number,
    output_dtype: str,
    zero_point: "tuple[int, ...] | int" = 0,
    axis: int | None = None,
) -> Tensor:
    """clip(round(input / scale) + zero_point): codes, as floats.

    The reference does not say how a tie is rounded. coremltools' own evaluation of constants takes
    the even one (`quantize_by_scale_and_zp` in coremltools 9, optimize/_utils.py, by numpy.round),
    and so does this. The quotient is not rounded to fp16 before, which would make ties.
    """
    lowest, highest = _CODES[output_dtype]
    codes = torch.round(input / _along(scale, input, axis)) + _along(zero_point, input, axis)
    return codes.clamp_(lowest, highest)


def dequantize(
    input: Tensor,  # noqa: A002  # the operator's own
    scale: Number,
    zero_point: "tuple[int, ...] | int" = 0,
    axis: int | None = None,
) -> Tensor:
    """Scale (input - zero_point)."""
    return (input - _along(zero_point, input, axis)) * _along(scale, input, axis)


def _along(value: "Number | tuple[int, ...]", x: Tensor, axis: int | None) -> Number:
    """A number as it is; one for each place of an axis in the shape that broadcasts so."""
    if isinstance(value, int | float):
        return value
    held = torch.as_tensor(value, dtype=x.dtype)
    shape = [1] * x.ndim
    shape[axis or 0] = -1
    return held.reshape(shape)

"""Operators that slide a window over pictures, and those of whole layers."""

from collections.abc import Sequence
from math import ceil, inf
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from edgese.targets.coreml.mil.elementwise import UnknownForm

_CONVOLUTIONS: Final = {
    3: functional.conv1d,
    4: functional.conv2d,
    5: functional.conv3d,
}
_MODES: Final = {"constant": "constant", "reflect": "reflect", "replicate": "replicate"}
_OF_PICTURES: Final = 4


def conv(  # the operator's own
    x: Tensor,
    weight: Tensor,
    strides: Sequence[int],
    pad_type: str,
    pad: Sequence[int],
    dilations: Sequence[int],
    groups: int,
    bias: Tensor | None = None,
) -> Tensor:
    """Cross-correlation; ``pad`` counts only with the type "custom" (reference, conv)."""
    reach = [(k - 1) * d + 1 for k, d in zip(weight.shape[2:], dilations, strict=True)]
    amounts = padding(pad_type, pad, x.shape[2:], reach, strides)
    # Even padding is the kernel's own work, which spares a copy of the picture.
    inside = [before for before, after in amounts if before == after]
    if len(inside) < len(amounts):
        x, inside = functional.pad(x, _flat(amounts)), [0] * len(amounts)
    return _CONVOLUTIONS[x.ndim](x, weight, bias, list(strides), inside, list(dilations), groups)


def padding(
    kind: str,
    pad: Sequence[int],
    sizes: Sequence[int],
    reach: Sequence[int],
    strides: Sequence[int],
) -> list[tuple[int, int]]:
    """What is added before and after each spatial dimension.

    Args:
        kind: "valid", "custom", "same" or "same_lower". The last two give ceil(size / stride)
            places; an odd amount has its larger half after, and before with "same_lower".
        pad: before and after each dimension in turn, for "custom".
        sizes: of the dimensions.
        reach: of the window, dilation included.

    Raises:
        UnknownForm: another kind.
    """
    if kind == "valid":
        return [(0, 0)] * len(sizes)
    if kind == "custom":
        return list(zip(pad[::2], pad[1::2], strict=True))
    if kind not in ("same", "same_lower"):
        raise UnknownForm(f"with pad_type {kind}")
    amounts = []
    for size, window, stride in zip(sizes, reach, strides, strict=True):
        total = max((ceil(size / stride) - 1) * stride + window - size, 0)
        less, more = total // 2, total - total // 2
        amounts.append((less, more) if kind == "same" else (more, less))
    return amounts


def _flat(amounts: Sequence[tuple[int, int]]) -> list[int]:
    """As PyTorch's pad takes them: the last dimension first."""
    return [amount for pair in reversed(amounts) for amount in pair]


def max_pool(  # the operator's own
    x: Tensor,
    kernel_sizes: Sequence[int],
    strides: Sequence[int],
    pad_type: str,
    pad: Sequence[int],
    *,
    ceil_mode: bool = False,
) -> Tensor:
    """The largest value of each window; what is padded is never it."""
    _check_pictures(x)
    amounts = padding(pad_type, pad, x.shape[2:], kernel_sizes, strides)
    inside = [before for before, _ in amounts]
    # With ceil_mode padding is even, and where the last window may begin hangs on it.
    if not ceil_mode:
        x, inside = functional.pad(x, _flat(amounts), value=-inf), [0] * len(amounts)
    return functional.max_pool2d(
        x, list(kernel_sizes), list(strides), padding=inside, ceil_mode=ceil_mode
    )


def avg_pool(  # the operator's own
    x: Tensor,
    kernel_sizes: Sequence[int],
    strides: Sequence[int],
    pad_type: str,
    pad: Sequence[int],
    *,
    exclude_padding_from_average: bool = False,
    ceil_mode: bool = False,
) -> Tensor:
    """The mean of each window; padded zeros count, unless they are excluded."""
    _check_pictures(x)
    amounts = padding(pad_type, pad, x.shape[2:], kernel_sizes, strides)
    if ceil_mode or all(before == after for before, after in amounts):
        return functional.avg_pool2d(
            x,
            list(kernel_sizes),
            list(strides),
            padding=[before for before, _ in amounts],
            ceil_mode=ceil_mode,
            count_include_pad=not exclude_padding_from_average,
        )
    sums = _means(functional.pad(x, _flat(amounts)), kernel_sizes, strides)
    if not exclude_padding_from_average:
        return sums
    ones = functional.pad(torch.ones_like(x[:1, :1]), _flat(amounts))
    return sums / _means(ones, kernel_sizes, strides)


def _means(x: Tensor, kernel_sizes: Sequence[int], strides: Sequence[int]) -> Tensor:
    return functional.avg_pool2d(x, list(kernel_sizes), list(strides))


def _check_pictures(x: Tensor) -> None:
    if x.ndim != _OF_PICTURES:
        raise UnknownForm(f"over {x.ndim - 2} dimensions")


def pad(x: Tensor, pad: Sequence[int], mode: str, constant_val: float) -> Tensor:
    """Adds to the last dimensions, before and after each in turn.

    Raises:
        UnknownForm: another mode, or one that PyTorch has for fewer dimensions only.
    """
    if mode not in _MODES:
        raise UnknownForm(f"with mode {mode}")
    amounts = list(zip(pad[::2], pad[1::2], strict=True))
    while amounts and not any(amounts[0]):
        amounts = amounts[1:]
    if mode == "constant":
        return functional.pad(x, _flat(amounts), value=constant_val)
    if len(amounts) > x.ndim - 2:
        raise UnknownForm(f"with mode {mode} over {len(amounts)} of {x.ndim} dimensions")
    return functional.pad(x, _flat(amounts), mode=_MODES[mode]) if amounts else x


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """X times the transposed weight (outputs, inputs), plus the bias."""
    return functional.linear(x, weight, bias)


def matmul(x: Tensor, y: Tensor, *, transpose_x: bool = False, transpose_y: bool = False) -> Tensor:
    """The product of the last two dimensions."""
    left = x.transpose(-1, -2) if transpose_x else x
    right = y.transpose(-1, -2) if transpose_y else y
    return left @ right


def batch_norm(  # the operator's own
    x: Tensor,
    mean: Tensor,
    variance: Tensor,
    epsilon: float,
    gamma: Tensor | None = None,
    beta: Tensor | None = None,
) -> Tensor:
    """Gamma (x - mean) / sqrt(variance + epsilon) + beta, for each channel."""
    return functional.batch_norm(x, mean, variance, gamma, beta, eps=epsilon)


def layer_norm(
    x: Tensor,
    axes: Sequence[int],
    epsilon: float,
    gamma: Tensor | None = None,
    beta: Tensor | None = None,
) -> Tensor:
    """Gamma (x - mean) / sqrt(variance + epsilon) + beta over the last dimensions.

    Raises:
        UnknownForm: over others than the last ones.
    """
    last = [axis % x.ndim for axis in axes]
    if sorted(last) != [*range(x.ndim - len(last), x.ndim)]:
        raise UnknownForm(f"over the dimensions {tuple(axes)}")
    return functional.layer_norm(x, x.shape[-len(last) :], gamma, beta, epsilon)

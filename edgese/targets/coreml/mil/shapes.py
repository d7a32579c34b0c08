"""Operators that reduce, move and join values."""

from collections.abc import Callable, Sequence
from typing import Final

import torch
from torch import Tensor

from edgese.targets.coreml.mil.elementwise import UnknownForm


def reshape(x: Tensor, shape: Sequence[int]) -> Tensor:
    """The same values in another shape; one size may be -1.

    Raises:
        UnknownForm: a size of 0, which means another one's.
    """
    if 0 in shape:
        raise UnknownForm(f"to {tuple(shape)}")
    return x.reshape(list(shape))


def transpose(x: Tensor, perm: Sequence[int]) -> Tensor:
    """The dimensions in another order."""
    return x.permute(list(perm))


def expand_dims(x: Tensor, axes: Sequence[int]) -> Tensor:
    """Adds dimensions of 1, at these places of the result."""
    rank = x.ndim + len(axes)
    for axis in sorted(axis % rank for axis in axes):
        x = x.unsqueeze(axis)
    return x


def squeeze(x: Tensor, axes: Sequence[int] | None = None) -> Tensor:
    """Removes dimensions of 1: these, or all."""
    return x.squeeze() if axes is None else x.squeeze(tuple(axes))


def concat(values: Sequence[Tensor], axis: int, *, interleave: bool = False) -> Tensor:
    """Joins tensors along one dimension.

    Raises:
        UnknownForm: interleaved.
    """
    if interleave:
        raise UnknownForm("interleaved")
    return torch.cat(list(values), axis)


def softmax(x: Tensor, axis: int) -> Tensor:
    """Shares of exp(x) along one dimension."""
    return torch.softmax(x, axis)


def _reduction(
    operator: "Callable[[Tensor, list[int], bool], Tensor]",
) -> "Callable[..., Tensor]":
    def kernel(x: Tensor, axes: Sequence[int] | None = None, *, keep_dims: bool = False) -> Tensor:
        return operator(x, [*range(x.ndim)] if axes is None else list(axes), keep_dims)

    return kernel


reduce_mean: Final = _reduction(lambda x, axes, kept: x.mean(axes, keepdim=kept))
reduce_sum: Final = _reduction(lambda x, axes, kept: x.sum(axes, keepdim=kept))
reduce_max: Final = _reduction(lambda x, axes, kept: x.amax(axes, keepdim=kept))
reduce_min: Final = _reduction(lambda x, axes, kept: x.amin(axes, keepdim=kept))

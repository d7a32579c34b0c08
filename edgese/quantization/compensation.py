"""Weights that make up for what the grids in front of a layer did to its input.

Where the float network's layer reads x, the quantized one reads some x' beside it. The weights W'
that bring its output closest to W x minimise |W' x' - W x|^2 over pictures and places: a linear
system for each layer, whose solution averages the errors of channels that carry the same signal
(Li et al., "GPTAQ: Efficient Finetuning-Free Quantization for Asymmetric Calibration",
arXiv:2504.02692, call the aim asymmetric calibration). Few pictures say little of many weights, so
a ridge holds W' near W, as strongly as serves pictures best that were not solved for.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor, fx
from torch.nn import functional as F

from edgese.targets.nodes import arguments

if TYPE_CHECKING:
    from collections.abc import Sequence

# Parts of the pictures; each judges once what the others were solved for.
_FOLDS: Final = 4
# Strengths of the ridge, as shares of the mean square of an input.
_RIDGES: Final = (1e-3, 1e-2, 1e-1, 1.0, 1e1, 1e2)
# Places of a layer that are looked at, all pictures together: at least, and for each weight of an
# output. More tell nothing new; a first layer has millions.
_PLACES: Final = 4096
_PLACES_PER_WEIGHT: Final = 40
# Fewer of them for each weight of an output tell too little, whatever the ridge: places of one
# picture are alike. (A layer that sees one place of each has as many errors as pictures.)
_FEWEST_PER_WEIGHT: Final = 4
# A layer whose outputs sum up more inputs stays as it is: errors average out in the sum, and the
# time for the system grows with the cube.
_MOST_WEIGHTS: Final = 2048


def compensated(
    node: fx.Node, weight: Tensor, wanted: Tensor, found: Tensor, generator: torch.Generator
) -> Tensor:
    """The weight that gives with ``found`` about what ``weight`` gives with ``wanted``.

    Args:
        node: a convolution (N, C, H, W) or a linear layer (N, C).
        weight: (out, in a group, ...), in float.
        wanted: what the layer reads in the float network.
        found: what it reads behind the grids; as many pictures.
        generator: draws the places that are looked at.

    Returns:
        As ``weight``; the same where no change serves pictures that it was not found with.
    """
    folds = min(_FOLDS, len(found))
    if folds < 2 or weight[0].numel() > _MOST_WEIGHTS:
        return weight
    window = _Window(node, weight)
    seen = [
        window.moments(wanted[part::folds], found[part::folds], len(found), generator)
        for part in range(folds)
    ]
    count = sum(moments.count for moments in seen)
    if len(found) < count < _FEWEST_PER_WEIGHT * window.weights:
        return weight
    shaped = weight.double().view(window.groups, len(weight) // window.groups, -1)
    costs = torch.zeros(len(_RIDGES), dtype=torch.double)
    for part in range(folds):
        others = _Covariances.over(seen[:part] + seen[part + 1 :])
        own = _Covariances.over([seen[part]])
        for index, ridge in enumerate(_RIDGES):
            costs[index] += own.cost(shaped, others.change(shaped, ridge))
    best = int(costs.argmin())
    if not costs[best] < 0:
        return weight
    change = _Covariances.over(seen).change(shaped, _RIDGES[best])
    return (shaped + change).view(weight.shape).float()


@dataclass(frozen=True)
class _Moments:
    """Sums over pictures and places, for each group.

    Attributes:
        read: (groups, in, in): of products of what is read with itself.
        lost: (groups, in, in): of what is missing from it, with what is read.
        sums: (2, groups, in): of what is read, and of what is missing.
        count: how many are summed.
    """

    read: Tensor
    lost: Tensor
    sums: Tensor
    count: int


@dataclass(frozen=True)
class _Covariances:
    """What is left of moments without the means, which are the bias's to take back.

    Attributes:
        read, lost: (groups, in, in), as in `_Moments`.
    """

    read: Tensor
    lost: Tensor

    @classmethod
    def over(cls, parts: "Sequence[_Moments]") -> "_Covariances":
        count = sum(part.count for part in parts)
        found, missing = torch.stack([part.sums for part in parts]).sum(0) / count
        return cls(
            torch.stack([part.read for part in parts]).sum(0) / count
            - found[:, :, None] * found[:, None, :],
            torch.stack([part.lost for part in parts]).sum(0) / count
            - missing[:, :, None] * found[:, None, :],
        )

    def change(self, weight: Tensor, ridge: float) -> Tensor:
        """What is best added to a weight, (groups, out, in), at one strength of the ridge."""
        held = ridge * self.read.diagonal(dim1=1, dim2=2).mean(1).clamp_min(1e-12)
        system = self.read + torch.diag_embed(held[:, None].expand(-1, self.read.shape[1]))
        lost = (weight @ self.lost).transpose(1, 2)
        return torch.cholesky_solve(lost, torch.linalg.cholesky(system)).transpose(1, 2)

    def cost(self, weight: Tensor, change: Tensor) -> float:
        """What a change adds to the mean squared error of the outputs, summed over them."""
        return float(((change @ self.read) * change - 2 * (weight @ self.lost) * change).sum())


class _Window:
    """Which inputs each output of a layer reads."""

    def __init__(self, node: fx.Node, weight: Tensor) -> None:
        how: list[Any] = arguments(node)[3:] if weight.ndim > 2 else [[1, 1], [0, 0], [1, 1], 1]
        self.stride, self.padding, self.dilation, self.groups = how
        self.kernel = tuple(weight.shape[2:]) or (1, 1)
        self.weights = weight[0].numel()

    def moments(
        self, wanted: Tensor, found: Tensor, pictures: int, generator: torch.Generator
    ) -> _Moments:
        """Of some of the pictures, ``pictures`` being how many there are in all."""
        if found.ndim == 2:
            wanted, found = wanted[:, :, None, None], found[:, :, None, None]
        places = self._places(found, pictures, generator)
        read = self._patches(found, places)
        missing = self._patches(wanted, places) - read
        flipped = read.transpose(1, 2)
        return _Moments(
            (flipped @ read).double(),
            (missing.transpose(1, 2) @ read).double(),
            torch.stack([read.double().sum(1), missing.double().sum(1)]),
            read.shape[1],
        )

    def _places(self, x: Tensor, pictures: int, generator: torch.Generator) -> Tensor:
        """Where some outputs read in the padded input, (places, kernel's): indices into H x W."""
        height, width = (
            side + 2 * padding for side, padding in zip(x.shape[2:], self.padding, strict=True)
        )
        reach = [d * (k - 1) for d, k in zip(self.dilation, self.kernel, strict=True)]
        tops = torch.arange(0, height - reach[0], self.stride[0])
        lefts = torch.arange(0, width - reach[1], self.stride[1])
        corners = (tops[:, None] * width + lefts).flatten()
        enough = -(-max(_PLACES, _PLACES_PER_WEIGHT * self.weights) // pictures)
        some = torch.randperm(len(corners), generator=generator)[:enough].sort().values
        within = (
            torch.arange(self.kernel[0])[:, None] * self.dilation[0] * width
            + torch.arange(self.kernel[1]) * self.dilation[1]
        ).flatten()
        places: Tensor = corners[some][:, None] + within
        return places

    def _patches(self, x: Tensor, places: Tensor) -> Tensor:
        """(groups, pictures x places, in)."""
        rows, columns = self.padding
        padded = F.pad(x, (columns, columns, rows, rows)).flatten(2)
        split = padded[:, :, places].view(len(x), self.groups, -1, *places.shape)
        ordered: Tensor = split.permute(1, 0, 3, 2, 4)
        return ordered.reshape(self.groups, len(x) * len(places), self.weights)

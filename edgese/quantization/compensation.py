"""Weights that make up for what the grids in front of a layer did to its input.

Where the float network's layer reads x, the quantized one reads some x' beside it. The weights W'
that bring its output closest to W x minimise |W' x' - W x|^2 over pictures and places: a linear
system for each layer, whose solution averages the errors of channels that carry the same signal
(Li et al., "GPTAQ: Efficient Finetuning-Free Quantization for Asymmetric Calibration",
arXiv:2504.02692, call the aim asymmetric calibration). Few pictures say little of many weights, so
a ridge holds W' near W, as strongly as serves pictures best that were not solved for.
"""

from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from torch import Tensor, fx
from torch.nn import functional as F

from edgese.parallel import Lanes
from edgese.program.nodes import arguments

if TYPE_CHECKING:
    from collections.abc import Sequence

# Parts of the images; each judges once what the others were solved for.
FOLDS: Final = 4
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
MOST_WEIGHTS: Final = 2048


@dataclass(frozen=True)
class Moments:
    """Sums over images and places, for each group.

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

    def __add__(self, other: "Moments") -> "Moments":
        """Return the sums over both."""
        return Moments(
            self.read + other.read,
            self.lost + other.lost,
            self.sums + other.sums,
            self.count + other.count,
        )


def compensated(
    window: "Window", weight: Tensor, folds: "Sequence[Moments]", images: int, lanes: Lanes
) -> Tensor:
    """Return the weight that gives behind the grids about what ``weight`` gives in float.

    Args:
        window: of the layer.
        weight: (out, in a group, ...), in float.
        folds: what the layer reads, for each part of the images.
        images: how many all parts are of.

    Returns:
        As ``weight``; the same where no change serves images that it was not found with.
    """
    count = sum(moments.count for moments in folds)
    if len(folds) < 2 or images < count < _FEWEST_PER_WEIGHT * window.weights:
        return weight
    shaped = weight.double().view(window.groups, len(weight) // window.groups, -1)
    parts = range(len(folds))
    own = [_Covariances.over([moments]) for moments in folds]
    others = [_Covariances.over([*folds[:part], *folds[part + 1 :]]) for part in parts]
    costs = lanes.map(
        lambda tried: own[tried[0]].cost(shaped, others[tried[0]].change(shaped, tried[1])),
        product(parts, _RIDGES),
    )
    by_ridge = np.fromiter(costs, np.float64).reshape(len(folds), len(_RIDGES)).sum(0)
    best = int(by_ridge.argmin())
    if not by_ridge[best] < 0:
        return weight
    change = _Covariances.over(folds).change(shaped, _RIDGES[best])
    return (shaped + change).view(weight.shape).float()


@dataclass(frozen=True)
class _Covariances:
    """What is left of moments without the means, which are the bias's to take back.

    Attributes:
        read, lost: (groups, in, in), as in `Moments`.
    """

    read: Tensor
    lost: Tensor

    @classmethod
    def over(cls, parts: "Sequence[Moments]") -> "_Covariances":
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


class Window:
    """Which inputs each output of a layer reads.

    Args:
        node: a convolution (N, C, H, W) or a linear layer (N, C).
        weight: of that layer, (out, in a group, ...).
    """

    def __init__(self, node: fx.Node, weight: Tensor) -> None:
        how: list[Any] = arguments(node)[3:] if weight.ndim > 2 else [[1, 1], [0, 0], [1, 1], 1]
        self.stride, self.padding, self.dilation, self.groups = how
        self.kernel = tuple(weight.shape[2:]) or (1, 1)
        self.weights = weight[0].numel()

    def places(self, shape: "Sequence[int]", images: int, generator: torch.Generator) -> Tensor:
        """Return where some outputs read in the padded input: indices into H x W.

        Args:
            shape: of the input, (N, C, H, W) or (N, C).
            images: how many the places are looked at in.
            generator: draws the places.

        Returns:
            (places, kernel's).
        """
        sides = shape[2:] or (1, 1)
        height, width = (
            side + 2 * padding for side, padding in zip(sides, self.padding, strict=True)
        )
        reach = [d * (k - 1) for d, k in zip(self.dilation, self.kernel, strict=True)]
        tops = torch.arange(0, height - reach[0], self.stride[0])
        lefts = torch.arange(0, width - reach[1], self.stride[1])
        corners = (tops[:, None] * width + lefts).flatten()
        enough = -(-max(_PLACES, _PLACES_PER_WEIGHT * self.weights) // images)
        some = torch.randperm(len(corners), generator=generator)[:enough].sort().values
        within = (
            torch.arange(self.kernel[0])[:, None] * self.dilation[0] * width
            + torch.arange(self.kernel[1]) * self.dilation[1]
        ).flatten()
        places: Tensor = corners[some][:, None] + within
        return places

    def moments(self, wanted: Tensor, found: Tensor, places: Tensor) -> Moments:
        """Return the sums over some images.

        Args:
            wanted: what the layer reads in the float network.
            found: what it reads behind the grids; as many images.
            places: as `places` gives them.
        """
        if found.ndim == 2:
            wanted, found = wanted[:, :, None, None], found[:, :, None, None]
        read = self._patches(found, places)
        missing = self._patches(wanted, places) - read
        flipped = read.transpose(1, 2)
        return Moments(
            (flipped @ read).double(),
            (missing.transpose(1, 2) @ read).double(),
            torch.stack([read.double().sum(1), missing.double().sum(1)]),
            read.shape[1],
        )

    def _patches(self, x: Tensor, places: Tensor) -> Tensor:
        """(groups, pictures x places, in)."""
        rows, columns = self.padding
        padded = F.pad(x, (columns, columns, rows, rows)).flatten(2)
        split = padded[:, :, places].view(len(x), self.groups, -1, *places.shape)
        ordered: Tensor = split.permute(1, 0, 3, 2, 4)
        return ordered.reshape(self.groups, len(x) * len(places), self.weights)

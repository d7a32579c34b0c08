"""What values a network's tensors have on calibration pictures, and what an error in them costs."""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from torch import Tensor, fx

from edgese.errors import InputError
from edgese.quantization.layout import Layout
from edgese.quantization.ranges import BINS, Histogram
from edgese.records.quantization import RangeMethod

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Of a larger tensor, evenly spread values are counted: enough for a histogram, and much faster.
_COUNTED: Final = 2**18


def observe(
    module: fx.GraphModule,
    layout: Layout,
    pictures: "NDArray[np.float32]",
    method: RangeMethod,
    *,
    batch: int,
    seed: int,
    on_progress: Callable[[float], None] = lambda _: None,
) -> dict[str, Histogram]:
    """A histogram for each point of the layout.

    The first pass finds the smallest and the largest value of each tensor, the second counts. For
    "fisher" each value counts by the square of the gradient that the log-likelihood of a class has
    there, the class drawn from what the network itself predicts: the diagonal of the Fisher
    information, which is to second order what a small error there adds to the KL divergence at the
    output (Martens, "New insights and perspectives on the natural gradient method",
    arXiv:1412.1193, section 5).

    Args:
        module: canonical, fp32; its batch is fixed at ``batch``.
        pictures: (count, 3, H, W); what does not fill a batch is filled up with the first ones.
        on_progress: is told the share that is done.

    Raises:
        InputError: a tensor is NaN or infinite.
    """
    members = {member: point.name for point in layout.points for member in point.members}
    batches = list(_batches(pictures, batch))
    lows: dict[str, float] = {}
    highs: dict[str, float] = {}
    passes = 1 if method == "min_max" else 2
    for index, part in enumerate(batches):
        with torch.no_grad():
            for name, value in _Taps(module, members).values(part):
                point = members[name]
                low, high = (float(bound) for bound in torch.aminmax(value))
                _check(low, high, name)
                lows[point] = min(low, lows.get(point, low))
                highs[point] = max(high, highs.get(point, high))
        on_progress((index + 1) / len(batches) / passes)
    counts = {point: np.zeros(BINS) for point in lows}
    if method != "min_max":
        generator = torch.Generator().manual_seed(seed)
        for index, part in enumerate(batches):
            for name, value, gradient in _weighed(module, members, part, method, generator):
                point = members[name]
                counts[point] += _counted(value, gradient, lows[point], highs[point])
            on_progress((1 + (index + 1) / len(batches)) / passes)
    return {
        point: Histogram(low=lows[point], high=highs[point], weights=counts[point])
        for point in lows
    }


class _Taps(fx.Interpreter):
    """Runs a module and hands out what certain nodes give."""

    def __init__(self, module: fx.GraphModule, wanted: dict[str, str]) -> None:
        super().__init__(module)
        self.wanted = wanted
        self.tapped: list[tuple[str, Tensor]] = []
        self.result: object = None

    def run_node(self, n: fx.Node) -> object:
        result = super().run_node(n)
        if n.name in self.wanted and isinstance(result, Tensor):
            self.tapped.append((n.name, result))
        return result

    def values(self, picture: Tensor) -> Sequence[tuple[str, Tensor]]:
        """Names and tensors of the wanted nodes, for one batch."""
        self.tapped = []
        self.result = self.run(picture)
        return self.tapped


def _weighed(
    module: fx.GraphModule,
    members: dict[str, str],
    part: Tensor,
    method: RangeMethod,
    generator: torch.Generator,
) -> Iterator[tuple[str, Tensor, Tensor | None]]:
    """Name, values and their gradients (None: an error costs the same everywhere)."""
    if method != "fisher":
        with torch.no_grad():
            for name, value in _Taps(module, members).values(part):
                yield name, value, None
        return
    taps = _Taps(module, members)
    with torch.enable_grad():
        tapped = taps.values(part.requires_grad_())
        logits = taps.result
        assert isinstance(logits, Tensor)  # noqa: S101  # one output, as the program has
        drawn = torch.multinomial(logits.detach().softmax(1), 1, generator=generator)
        likelihood = logits.log_softmax(1).gather(1, drawn).sum()
        gradients = torch.autograd.grad(
            likelihood, [value for _, value in tapped], allow_unused=True
        )
    for (name, value), gradient in zip(tapped, gradients, strict=True):
        if gradient is not None:
            yield name, value.detach(), gradient


def _counted(
    value: Tensor, gradient: Tensor | None, low: float, high: float
) -> "NDArray[np.float64]":
    if high <= low:
        return np.zeros(BINS)
    # An odd step visits all channels and places.
    step = max(1, value.numel() // _COUNTED) | 1
    taken = value.flatten()[::step]
    place = ((taken - low) * (BINS / (high - low))).to(torch.int32).clamp_(0, BINS - 1)
    weights = None if gradient is None else gradient.flatten()[::step].square()
    counted: NDArray[np.float64] = torch.bincount(place, weights, minlength=BINS).double().numpy()
    return counted


def _batches(pictures: "NDArray[np.float32]", batch: int) -> Iterator[Tensor]:
    for start in range(0, len(pictures), batch):
        part = pictures[start : start + batch]
        missing = batch - len(part)
        filled = np.concatenate([part, np.resize(pictures, (missing, *pictures.shape[1:]))])
        yield torch.from_numpy(filled)


def _check(low: float, high: float, name: str) -> None:
    if not (np.isfinite(low) and np.isfinite(high)):
        raise InputError(
            f"The network computes NaN or infinity at {name}.",
            hint="Its weights, or the mean and std of its preprocessing, are out of range; "
            "`edgese evaluate` shows what it computes in float.",
        )

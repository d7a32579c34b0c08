"""What values a network's tensors have on calibration pictures, and what an error in them costs."""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from torch import Tensor, fx

from edgese.errors import InputError
from edgese.parallel import Lanes, batches
from edgese.program.memory import running_mb
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
    passes = 1 if method == "min_max" else 2
    steps = -(-len(pictures) // batch) * passes
    lows: dict[str, float] = {}
    highs: dict[str, float] = {}
    memory_mb = running_mb(module.graph, batch, gradients=method == "fisher")
    with Lanes(memory_mb) as lanes:
        found = lanes.map(lambda part: _ends(module, members, part), batches(pictures, batch))
        for index, ends in enumerate(found):
            for name, (low, high) in ends.items():
                _check(low, high, name)
                point = members[name]
                lows[point] = min(low, lows.get(point, low))
                highs[point] = max(high, highs.get(point, high))
            on_progress((index + 1) / steps)
        counts = {point: np.zeros(BINS) for point in lows}
        if method != "min_max":
            # Each batch has random numbers of its own, whichever is computed first.
            generator = torch.Generator().manual_seed(seed)
            seeds = torch.randint(2**31, (steps // passes,), generator=generator).tolist()
            counted = lanes.map(
                lambda given: _histograms(module, members, given, method, lows, highs),
                zip(batches(pictures, batch), seeds, strict=True),
            )
            for index, more in enumerate(counted):
                for point, weights in more.items():
                    counts[point] += weights
                on_progress((steps // passes + index + 1) / steps)
    return {
        point: Histogram(low=lows[point], high=highs[point], weights=counts[point])
        for point in lows
    }


def _ends(
    module: fx.GraphModule, members: dict[str, str], part: Tensor
) -> dict[str, tuple[float, float]]:
    """The smallest and the largest value of each tensor that is a member of a point."""
    with torch.no_grad():
        tapped = _Taps(module, members).values(part)
        ends = {name: torch.aminmax(value) for name, value in tapped}
    return {name: (float(low), float(high)) for name, (low, high) in ends.items()}


def _histograms(
    module: fx.GraphModule,
    members: dict[str, str],
    given: tuple[Tensor, int],
    method: RangeMethod,
    lows: dict[str, float],
    highs: dict[str, float],
) -> "dict[str, NDArray[np.float64]]":
    """The counts of each point in one batch, which comes with the seed of what it draws."""
    part, seed = given
    generator = torch.Generator().manual_seed(seed)
    counts: dict[str, NDArray[np.float64]] = {}
    for name, value, gradient in _weighed(module, members, part, method, generator):
        point = members[name]
        more = _counted(value, gradient, lows[point], highs[point])
        counts[point] = counts[point] + more if point in counts else more
    return counts


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


def _check(low: float, high: float, name: str) -> None:
    if not (np.isfinite(low) and np.isfinite(high)):
        raise InputError(
            f"The network computes NaN or infinity at {name}.",
            hint="Its weights, or the mean and std of its preprocessing, are out of range; "
            "`edgese evaluate` shows what it computes in float.",
        )

"""From logits to classes, and from classes to accuracies."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from edgese.records.base import Interval
from edgese.records.evaluation import Prediction, Proportion
from edgese.statistics import wilson

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

TOP: Final = 5


def likeliest(
    logits: "NDArray[np.float32]", count: int = TOP
) -> tuple[tuple[tuple[int, ...], tuple[float, ...]], ...]:
    """For each row the ``count`` likeliest classes, the likeliest first, and softmax of each.

    Of equal logits the lower index comes first, so that a tie is one in every runtime.

    Args:
        logits: (N, classes), finite.
    """
    import numpy as np

    order = np.argsort(-logits, axis=1, kind="stable")[:, :count]
    wide = logits.astype(np.float64)
    powers = np.exp(wide - wide.max(axis=1, keepdims=True))
    shares = np.take_along_axis(powers / powers.sum(axis=1, keepdims=True), order, axis=1)
    return tuple(
        (tuple(classes), tuple(probabilities))
        for classes, probabilities in zip(order.tolist(), shares.tolist(), strict=True)
    )


def top1(predictions: Sequence[Prediction], unread: int = 0) -> Proportion:
    """Return the share of images whose likeliest class is the true one.

    Args:
        unread: images that were asked for and could not be read.
    """
    return _proportion([p.classes[0] == p.label for p in predictions], unread)


def top5(predictions: Sequence[Prediction], classes: int, unread: int = 0) -> Proportion | None:
    """The share whose true class is among the five likeliest; None where that is true of any."""
    if classes <= TOP:
        return None
    return _proportion([p.label in p.classes for p in predictions], unread)


def _proportion(right: Sequence[bool], unread: int) -> Proportion:
    """Unread images count as wrong; the interval reaches to where all of them would be right."""
    count, n = sum(right), len(right) + unread
    low, high = wilson(count, n), wilson(count + unread, n)
    return Proportion(
        count=count,
        of=n,
        share=count / n,
        interval=Interval(low=low.low, high=high.high, confidence=low.confidence),
    )

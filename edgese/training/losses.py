"""What a step minimises."""

from typing import NamedTuple

from torch import Tensor
from torch.nn import functional as F

from edgese.records.training import Distillation


class Mixed(NamedTuple):
    """Pictures mixed with others, and what of each is in them.

    Attributes:
        others: indices of the other pictures' classes.
        share: of the first pictures; the others have the rest.
    """

    pictures: Tensor
    others: Tensor
    share: float


def mixed(pictures: Tensor, labels: Tensor, share: float) -> Mixed:
    """Each picture with the one at the other end of the batch, which is as random as any.

    Source: Zhang et al., "mixup", arXiv:1710.09412. Where processes share a step, each mixes its
    own pictures.

    Args:
        pictures: (N, 3, H, W).
        share: of each picture itself, in 0..1.
    """
    return Mixed(pictures.lerp(pictures.flip(0), 1 - share), labels.flip(0), share)


def label_loss(logits: Tensor, labels: Tensor, mix: Mixed | None, label_smoothing: float) -> Tensor:
    """Cross-entropy with the labels, of both pictures where they were mixed.

    Args:
        logits: (N, classes).
        labels: (N,).
    """
    loss = F.cross_entropy(logits, labels, label_smoothing=label_smoothing)
    if mix is None:
        return loss
    other = F.cross_entropy(logits, mix.others, label_smoothing=label_smoothing)
    return mix.share * loss + (1 - mix.share) * other


def teacher_loss(logits: Tensor, taught: Tensor, settings: Distillation) -> Tensor:
    """The KL divergence from the teacher's softened classes, times the temperature's square.

    The square keeps the gradients at the size that they have without softening (arXiv:1503.02531,
    section 2).

    Args:
        logits, taught: of the student and the teacher: (N, classes).
    """
    temperature = settings.temperature
    divergence = F.kl_div(
        F.log_softmax(logits / temperature, 1),
        F.log_softmax(taught / temperature, 1),
        log_target=True,
        reduction="batchmean",
    )
    return divergence * temperature**2

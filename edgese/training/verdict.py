"""Whether a training has come to anything; pure.

A loss that is NaN ends a run at once. Whatever else can be wrong shows at its end: the loss is
where it was, or above what equal shares for all classes give, or the answers are no better than
those of somebody who always names the most common class. The last is a test, and says nothing where
the images are too few to tell.
"""

import math
from typing import Final

from edgese.errors import Collapsed
from edgese.records.training import TrainingLog
from edgese.statistics import binomial_tails

# Of each test.
_LEVEL: Final = 0.05
# A network is useful where it goes this share of the way from the majority's rate to all right.
_USEFUL: Final = 0.25
# Of the loss that equal shares for all classes give: what counts as no less, and as more.
_FLAT: Final = 0.99
_DIVERGED: Final = 1.1


class Diverged(Collapsed):
    """The network computes NaN or infinity; the loop ends with its last sound weights."""


def collapse(log: TrainingLog, majority: float | None) -> str:
    """Return why the weights of a finished training must not be used; "" where nothing shows it.

    Args:
        majority: share of the training images that are of their most common class; None without
            labels.
    """
    if not log.epochs:
        return ""
    return "; ".join(reason for reason in (_of_loss(log), _of_answers(log, majority)) if reason)


def better_than_majority(right: int, images: int, majority: float) -> bool | None:
    """Return whether answers are better than always naming the most common class; None if unknown.

    They are where so many right ones would be unlikely (5 %, one-sided exact binomial test) at the
    majority's rate. They are not where so few would be as unlikely for a network that goes a
    quarter of the way from that rate to all right. In between the images are too few.

    Args:
        right: images that were answered rightly.
        majority: share of the images that are of their most common class.
    """
    if majority >= 1 or not images:
        return None
    if binomial_tails(right, images, majority)[1] <= _LEVEL:
        return True
    useful = majority + _USEFUL * (1 - majority)
    return False if binomial_tails(right, images, useful)[0] <= _LEVEL else None


def _of_loss(log: TrainingLog) -> str:
    """Why the loss says that nothing was learnt.

    The loss of a distillation has another scale; its student is judged by its answers.
    """
    first, last, answers = log.epochs[0], log.epochs[-1], log.answers
    if log.recipe.distillation is not None or answers is None or last.val_loss is None:
        return ""
    ignorant = math.log(answers.classes)
    if len(log.epochs) < 2 or not ignorant:
        return ""
    reached = min(last.train_loss, last.val_loss)
    told = (
        f"{first.train_loss:.4g} in the first epoch and {last.train_loss:.4g} in the last, "
        f"{last.val_loss:.4g} on the validation images, where equal shares for all "
        f"{answers.classes} classes give {ignorant:.4g}"
    )
    if reached >= _DIVERGED * ignorant:
        return f"the loss diverged: {told}"
    if reached >= _FLAT * ignorant and last.train_loss >= _FLAT * first.train_loss:
        return f"the loss is flat: {told}"
    return ""


def _of_answers(log: TrainingLog, majority: float | None) -> str:
    """Why the answers say that nothing was learnt."""
    answers = log.answers
    better: bool | None = None
    if answers is not None:
        if answers.given == 1 and _cannot_be_luck(answers.images - answers.majority):
            return (
                f"it answers one class for all {answers.images} validation images, which are of "
                f"{answers.expected}"
            )
        better = better_than_majority(
            answers.right, answers.images, answers.majority / answers.images
        )
        if better is False:
            return (
                f"it answers {answers.right} of {answers.images} validation images rightly, and "
                f"always naming the most common class would {answers.majority}"
            )
    last, before = log.epochs[-1], log.epochs[-2].step if len(log.epochs) > 1 else 0
    if better is not None or last.train_top1 is None or majority is None:
        return ""
    images = (last.step - before) * log.recipe.batch
    right = round(last.train_top1 * images)
    if better_than_majority(right, images, majority) is False:
        return (
            f"it answers {right} of {images} training images rightly in the last epoch, and always "
            f"naming the most common class would {round(majority * images)}"
        )
    return ""


def _cannot_be_luck(others: int) -> bool:
    """Whether a network that knows half of the other classes' images would have named one."""
    return 0.5**others <= _LEVEL

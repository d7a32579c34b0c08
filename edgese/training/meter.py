"""The losses of an epoch, looked at without making a GPU wait for each."""

import math

import torch
from torch import Tensor

from edgese.records.base import Record
from edgese.training.processes import Processes
from edgese.training.verdict import Diverged


class Sums(Record, frozen=True):
    """What an epoch has come to so far.

    Attributes:
        loss: sum over its steps.
        right: pictures whose likeliest class was the true one.
        labelled: pictures with a class; 0 where the teacher alone is followed.
        seconds: of the steps.
    """

    loss: float = 0.0
    steps: int = 0
    right: int = 0
    labelled: int = 0
    seconds: float = 0.0


class Meter:
    """Collects the losses of an epoch's steps where they are computed.

    Attributes:
        sums: of what has been looked at.
    """

    def __init__(self, processes: Processes, sums: Sums) -> None:
        self.processes = processes
        self.sums = sums
        self._waiting: list[tuple[int, float, Tensor, Tensor, int]] = []

    def add(self, step: int, lr: float, loss: Tensor, right: Tensor, labelled: int) -> None:
        """Takes in a step.

        Args:
            step: from 0.
            loss: mean over this process's pictures.
            right: how many of them were classified rightly.
            labelled: how many of them have a class.
        """
        self._waiting.append((step, lr, loss, right, labelled))

    def look(self, wishes: tuple[bool, bool], *, seconds: float) -> tuple[bool, bool]:
        """Adds up what waits, and tells which of two wishes any of the processes has.

        All processes look after the same steps, so that they agree, and end together.

        Args:
            seconds: that the steps since the last look took.

        Raises:
            Diverged: a loss is NaN or infinite.
        """
        steps, lrs, losses, rights, labelled = zip(*self._waiting, strict=True)
        self._waiting = []
        device = self.processes.device
        told = torch.cat(
            [
                torch.stack(losses).float(),
                torch.stack(rights).float(),
                torch.tensor([sum(labelled), *wishes], dtype=torch.float32, device=device),
            ]
        )
        values = self.processes.total(told).tolist()
        count, size = len(steps), self.processes.size
        means = [loss / size for loss in values[:count]]
        for step, lr, loss in zip(steps, lrs, means, strict=True):
            if not math.isfinite(loss):
                raise Diverged(
                    f"the loss is {loss} in step {step + 1}, at a learning rate of {lr:g}"
                )
        self.sums = Sums(
            loss=self.sums.loss + sum(means),
            steps=self.sums.steps + count,
            right=self.sums.right + round(sum(values[count : 2 * count])),
            labelled=self.sums.labelled + round(values[2 * count]),
            seconds=self.sums.seconds + seconds,
        )
        first, second = values[2 * count + 1 :]
        return first > 0, second > 0

"""Batches of pictures, read and varied by other processes while the network computes."""

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from typing import Final, TypeVar

import numpy as np
import torch
from torch import Tensor

from edgese.data.sources import Pictures
from edgese.records.model import Preprocessing
from edgese.training.plan import Plan
from edgese.training.views import Arrays, Draw, Prepared, Varied
from edgese.workers import in_order

# Batches that each worker keeps ready.
_AHEAD: Final = 2
# What random numbers are for; `edgese.training.loop` has the others.
_ORDER: Final = 1
_VARIATION: Final = 2

Batch = tuple[Tensor, Tensor]
Item = TypeVar("Item")


def training_batches(
    pictures: Pictures,
    plan: Plan,
    preprocessing: Preprocessing,
    *,
    seed: int,
    start: int,
    rank: int = 0,
    size: int = 1,
    workers: int = 0,
    pin: bool = False,
) -> Generator[Batch]:
    """This process's share of every step from ``start`` on.

    The same for the same plan and seed, whatever the number of workers and wherever it starts.
    Close it, or exhaust it: its workers end with it.

    Args:
        start: the first step, from 0.
        rank, size: this process among those that share each step.
        pin: keeps the batches where a GPU can fetch them.

    Yields:
        Pictures (N, 3, H, W) of bytes, channels last in memory, and the indices of their classes.

    Raises:
        InputError: a picture that cannot be read.
    """
    varied = Varied(pictures, plan.recipe.augmentation, preprocessing)
    draws = _Draws(plan, seed, start, rank, size)
    for batch, labels in _loaded(varied, draws, workers=workers, pin=pin):
        yield batch.permute(0, 3, 1, 2), labels


def validation_batches(
    pictures: Pictures,
    preprocessing: Preprocessing,
    *,
    batch: int,
    rank: int = 0,
    size: int = 1,
    workers: int = 0,
    pin: bool = False,
) -> Generator[Batch]:
    """This process's share of all pictures, in order, as `evaluate` prepares them.

    Yields:
        Pictures (N, 3, H, W) as the network takes them, and the indices of their classes.

    Raises:
        InputError: a picture that cannot be read.
    """
    mine = range(rank, len(pictures.labels), size)
    parts = [list(mine[i : i + batch]) for i in range(0, len(mine), batch)]
    yield from _loaded(Prepared(pictures, preprocessing), parts, workers=workers, pin=pin)


class _Draws(Iterable[list[Draw]]):
    """What each step from ``start`` on draws; see `Plan`."""

    def __init__(self, plan: Plan, seed: int, start: int, rank: int, size: int) -> None:
        self.plan = plan
        self.seed = seed
        self.start = start
        self.rank = rank
        self.size = size

    def __iter__(self) -> Iterator[list[Draw]]:
        """One list a step."""
        batch, count = self.plan.recipe.batch, self.plan.pictures
        shuffled, order = -1, np.arange(0)
        for step in range(self.start, self.plan.steps):
            phase = self.plan.phase(step)
            draws = []
            for place in range(step * batch + self.rank, (step + 1) * batch, self.size):
                epoch, position = divmod(place, count)
                if epoch != shuffled:
                    shuffled = epoch
                    order = np.random.default_rng((self.seed, _ORDER, epoch)).permutation(count)
                draws.append(Draw(int(order[position]), (self.seed, _VARIATION, place), phase))
            yield draws


def _loaded(
    make: Callable[[Item], Arrays],
    batches: Iterable[Item],
    *,
    workers: int,
    pin: bool,
) -> Generator[Batch]:
    device = torch.cuda.current_device() if pin else None

    def received(arrays: Arrays) -> Batch:
        images, labels = (torch.from_numpy(array) for array in arrays)
        if device is None:
            return images, labels
        # The device of a thread is its own.
        torch.cuda.set_device(device)
        return images.pin_memory(), labels.pin_memory()

    if not workers:
        for batch in batches:
            yield received(make(batch))
        return
    made = in_order(
        make,
        batches,
        workers=workers,
        ahead=_AHEAD,
        doing="prepare images for training",
        receive=received,
    )
    with closing(made):
        yield from made

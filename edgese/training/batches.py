"""Batches of pictures, read and varied by other processes while the network computes."""

import multiprocessing
import signal
from collections.abc import Generator, Iterable, Iterator
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from edgese.data.augmentation import augmented
from edgese.data.preprocessing import preprocess
from edgese.data.sources import Pictures
from edgese.errors import EdgeseError, InputError
from edgese.records.model import Preprocessing
from edgese.records.training import Augmentation
from edgese.training.plan import Phase, Plan

# Batches that each worker keeps ready.
_AHEAD: Final = 2
# What random numbers are for; `edgese.training.loop` has the others.
_ORDER: Final = 1
_VARIATION: Final = 2

Batch = tuple[Tensor, Tensor]


class _Draw(NamedTuple):
    """One picture of a step, and all that decides how it is varied.

    Attributes:
        key: seeds its own random numbers, so that it does not matter which process varies it.
    """

    picture: int
    key: tuple[int, int, int]
    phase: Phase


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
    varied = _Varied(pictures, plan.recipe.augmentation, preprocessing)
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
    yield from _loaded(_Prepared(pictures, preprocessing), parts, workers=workers, pin=pin)


class _Draws(Iterable[list[_Draw]]):
    """What each step from ``start`` on draws; see `Plan`."""

    def __init__(self, plan: Plan, seed: int, start: int, rank: int, size: int) -> None:
        self.plan = plan
        self.seed = seed
        self.start = start
        self.rank = rank
        self.size = size

    def __iter__(self) -> Iterator[list[_Draw]]:
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
                draws.append(_Draw(int(order[position]), (self.seed, _VARIATION, place), phase))
            yield draws


class _Varied(Dataset[Any]):
    """Training pictures, whole batches at once."""

    def __init__(
        self, pictures: Pictures, augmentation: Augmentation, preprocessing: Preprocessing
    ) -> None:
        self.pictures = pictures
        self.augmentation = augmentation
        self.preprocessing = preprocessing

    def __getitems__(self, draws: list[_Draw]) -> Batch | EdgeseError:
        """The batch, or what is wrong with it: torch would make one long text of an exception."""
        try:
            views = np.stack([self._view(draw) for draw in draws])
        except EdgeseError as error:
            return error
        labels = self.pictures.labels[[draw.picture for draw in draws]]
        return torch.from_numpy(views), torch.from_numpy(labels)

    def _view(self, draw: _Draw) -> "np.ndarray[Any, np.dtype[np.uint8]]":
        image = self.pictures.read(draw.picture)
        size = msgspec.structs.replace(
            self.preprocessing, height=draw.phase.height, width=draw.phase.width
        )
        augmentation = msgspec.structs.replace(
            self.augmentation, randaugment=draw.phase.randaugment
        )
        try:
            return augmented(image, augmentation, size, np.random.default_rng(draw.key))
        except InputError as error:
            raise _named(error, self.pictures.name(draw.picture)) from error


class _Prepared(Dataset[Any]):
    """Validation pictures, whole batches at once."""

    def __init__(self, pictures: Pictures, preprocessing: Preprocessing) -> None:
        self.pictures = pictures
        self.preprocessing = preprocessing

    def __getitems__(self, indices: list[int]) -> Batch | EdgeseError:
        """As `_Varied`'s."""
        try:
            values = np.stack([self._values(index) for index in indices])
        except EdgeseError as error:
            return error
        return torch.from_numpy(values), torch.from_numpy(self.pictures.labels[indices])

    def _values(self, index: int) -> "np.ndarray[Any, np.dtype[np.float32]]":
        image = self.pictures.read(index)
        try:
            return preprocess(image, self.preprocessing)
        except InputError as error:
            raise _named(error, self.pictures.name(index)) from error


def _named(error: InputError, name: str) -> InputError:
    return InputError(f"{name}: {error.message}", hint=error.hint)


def _loaded(
    dataset: Dataset[Any], batches: Iterable[list[Any]], *, workers: int, pin: bool
) -> Generator[Batch]:
    loader = DataLoader(
        dataset,
        batch_sampler=batches,
        num_workers=workers,
        prefetch_factor=_AHEAD if workers else None,
        collate_fn=_as_it_is,
        pin_memory=pin,
        worker_init_fn=_leave_signals,
        multiprocessing_context=_fresh_processes() if workers else None,
    )
    for loaded in loader:
        if isinstance(loaded, EdgeseError):
            raise loaded
        yield loaded


def _fresh_processes() -> Any:  # noqa: ANN401  # a context of multiprocessing has no public type
    """Workers from a process without threads: a fork of one with threads may inherit a held lock.

    Whoever has loaded a runtime or JAX beside torch has many.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


def _as_it_is(batch: Any) -> Any:  # noqa: ANN401  # torch types it as a list of examples
    return batch


def _leave_signals(_worker: int) -> None:
    """Leaves interruptions, which reach all of a group, to the process that trains.

    It needs its workers until the step is done, and tells them when to end; they also end where
    they find it gone.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)

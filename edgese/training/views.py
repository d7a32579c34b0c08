"""Images of a batch, read and varied; without torch, so that a process for it starts at once."""

from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgese.data.augmentation import augmented
from edgese.data.preprocessing import preprocess
from edgese.data.sources import Pictures
from edgese.errors import InputError
from edgese.records.model import Preprocessing
from edgese.records.training import Augmentation
from edgese.training.plan import Phase

Arrays = tuple[NDArray[Any], NDArray[np.int64]]


class Draw(NamedTuple):
    """One picture of a step, and all that decides how it is varied.

    Attributes:
        key: seeds its own random numbers, so that it does not matter which process varies it.
    """

    picture: int
    key: tuple[int, int, int]
    phase: Phase


class Varied:
    """Makes whole batches of training images, varied."""

    def __init__(
        self, pictures: Pictures, augmentation: Augmentation, preprocessing: Preprocessing
    ) -> None:
        self.pictures = pictures
        self.augmentation = augmentation
        self.preprocessing = preprocessing

    def __call__(self, draws: list[Draw]) -> Arrays:
        """Return images (N, H, W, 3) of bytes, and the indices of their classes.

        Raises:
            InputError: an image that cannot be read; it is named.
        """
        views = np.stack([self._view(draw) for draw in draws])
        return views, self.pictures.labels[[draw.picture for draw in draws]]

    def _view(self, draw: Draw) -> NDArray[np.uint8]:
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


class Prepared:
    """Makes whole batches of validation images."""

    def __init__(self, pictures: Pictures, preprocessing: Preprocessing) -> None:
        self.pictures = pictures
        self.preprocessing = preprocessing

    def __call__(self, indices: list[int]) -> Arrays:
        """Return images (N, 3, H, W) as the network takes them, and the indices of their classes.

        Raises:
            InputError: an image that cannot be read; it is named.
        """
        values = np.stack([self._values(index) for index in indices])
        return values, self.pictures.labels[indices]

    def _values(self, index: int) -> NDArray[np.float32]:
        image = self.pictures.read(index)
        try:
            return preprocess(image, self.preprocessing)
        except InputError as error:
            raise _named(error, self.pictures.name(index)) from error


def _named(error: InputError, name: str) -> InputError:
    return InputError(f"{name}: {error.message}", hint=error.hint)

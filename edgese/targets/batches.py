"""Any number of pictures through an artifact whose batch is fixed."""

from pathlib import Path
from typing import TYPE_CHECKING

from edgese.errors import InputError
from edgese.parallel import Lanes
from edgese.protocols import Predictor
from edgese.records.artifact import Grid

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    import numpy as np
    from numpy.typing import NDArray


def predictor(
    run: "Callable[[NDArray[np.float32]], NDArray[np.float32]]",
    picture_shape: tuple[int, ...],
    batch: int,
) -> Predictor:
    """Feeds ``run`` one batch at a time; what is missing in the last one is filled with zeros.

    Args:
        run: (batch, 3, H, W) to (batch, classes); what it returns may change with its next call.
        picture_shape: (3, H, W) that the artifact takes.
        batch: examples in the artifact's first dimension.
    """
    import numpy as np

    def predict(pictures: "NDArray[np.float32]") -> "NDArray[np.float32]":
        rows = []
        for start in range(0, len(pictures), batch):
            part = np.zeros((batch, *picture_shape), np.float32)
            part[: len(pictures) - start] = pictures[start : start + batch]
            rows.append(np.array(run(part), np.float32)[: len(pictures) - start])
        return np.concatenate(rows)

    return checked(predict, picture_shape)


def checked(run: Predictor, picture_shape: tuple[int, ...]) -> Predictor:
    """The same, and pictures of another shape than (N, 3, H, W) are an InputError."""

    def predict(pictures: "NDArray[np.float32]") -> "NDArray[np.float32]":
        if pictures.ndim != 4 or pictures.shape[1:] != picture_shape or not len(pictures):
            raise InputError(
                f"The artifact takes pictures of shape (N, {', '.join(map(str, picture_shape))}); "
                f"these are {pictures.shape}.",
                hint="Preprocess them as the manifest says.",
            )
        return run(pictures)

    return predict


def dealt(compute: Predictor, threads: int) -> Predictor:
    """Deals images out to threads that compute alone, with PyTorch.

    Sharing each operator among them instead, as torch does, makes them wait for each other actively
    at every operator, which on a machine with other work to do is many times slower.

    Each image is computed by itself, so that neither the threads nor the other images change a
    number.
    """
    import numpy as np

    def predict(pictures: "NDArray[np.float32]") -> "NDArray[np.float32]":
        with Lanes(count=threads) as lanes:
            return np.concatenate(list(lanes.map(compute, np.split(pictures, len(pictures)))))

    return predict


def codes(floats: "NDArray[np.float32]", grid: Grid) -> "NDArray[Any]":
    """Floats as codes of a grid: the nearest, the even one of two, and the last for what is beyond.

    Returns:
        Integers of the grid's type, in the same shape.
    """
    import numpy as np

    limits = np.iinfo(grid.dtype)
    steps = np.rint(floats / np.float32(grid.scale)) + np.float32(grid.zero_point)
    result: NDArray[Any] = np.clip(steps, limits.min, limits.max).astype(grid.dtype)
    return result


def values(integers: "NDArray[Any]", grid: Grid) -> "NDArray[np.float32]":
    """What codes of a grid stand for, in the same shape."""
    import numpy as np

    steps = integers.astype(np.float32) - np.float32(grid.zero_point)
    return steps * np.float32(grid.scale)


def unreadable(artifact: Path, title: str, reason: object) -> InputError:
    """The error for a file that is missing, truncated or not what its name says."""
    found = str(reason).strip().splitlines()
    return InputError(
        f"{artifact} is not a readable {title} artifact: {found[0] if found else 'no reason told'}",
        hint="It may be truncated or of another kind; convert the model again.",
    )

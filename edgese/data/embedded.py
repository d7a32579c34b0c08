"""Real photographs that are on every machine: the two that scikit-learn ships."""

from importlib.util import find_spec
from math import sqrt
from pathlib import Path
from typing import TYPE_CHECKING, Final

from edgese.data.pictures import read_picture
from edgese.data.preprocessing import preprocess
from edgese.errors import MissingDependency
from edgese.records.model import Preprocessing

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

# A temple under trees and a dahlia, 640 x 427 px each (CC-BY 2.0, see the README beside them).
SAMPLES: Final = ("china.jpg", "flower.jpg")

# Multiples of these fractions spread evenly over the unit cube however many are taken: inverse
# powers of the root of x^4 = x + 1, the golden ratio's analogue in three dimensions (Roberts, "The
# unreasonable effectiveness of quasirandom sequences", 2018).
_SPREAD: Final = (0.8191725133961645, 0.6710436067037893, 0.5497004779019703)


def sample_pictures() -> tuple[tuple[str, "Image"], ...]:
    """File name and picture of each of the two photographs.

    Raises:
        MissingDependency: scikit-learn is not installed, or came without them.
        InputError: a file that is there is broken.
    """
    folder = _folder()
    return tuple((name, read_picture(folder / name)) for name in SAMPLES)


def parity_pictures(p: Preprocessing, count: int = 8) -> "NDArray[np.float32]":
    """Prepared pictures to compare runtimes on: different crops and flips of real photographs.

    Random noise would leave most of a network's channels silent, and so hide what they compute. The
    first two are the photographs whole; the rest are cut at spread-out places, with half to all of
    the height and width kept, every other pair mirrored. The same for the same arguments.

    Returns:
        (count, 3, height, width).

    Raises:
        MissingDependency: scikit-learn is not installed, or came without them.
    """
    import numpy as np

    pictures = [picture for _, picture in sample_pictures()]
    return np.stack(
        [
            preprocess(_piece(pictures[i % len(pictures)], i // len(pictures)), p)
            for i in range(count)
        ]
    )


def _piece(picture: "Image", i: int) -> "Image":
    from PIL.Image import Transpose

    size, x, y = (i * step % 1 for step in _SPREAD)
    # The square root keeps the areas, not the sides, evenly spread.
    side = sqrt(1 - 0.75 * size)
    width, height = round(picture.width * side), round(picture.height * side)
    left, top = round((picture.width - width) * x), round((picture.height - height) * y)
    piece = picture.crop((left, top, left + width, top + height))
    return piece.transpose(Transpose.FLIP_LEFT_RIGHT) if i % 2 else piece


def _folder() -> Path:
    # Finding a top-level package does not import it; importing scikit-learn takes a second.
    spec = find_spec("sklearn")
    roots = (spec.submodule_search_locations or ()) if spec else ()
    for root in roots:
        folder = Path(root) / "datasets" / "images"
        if all((folder / name).is_file() for name in SAMPLES):
            return folder
    raise MissingDependency(
        f"The photographs {' and '.join(SAMPLES)} come with scikit-learn, which is not installed.",
        hint="pip install 'edgese[train]'",
    )

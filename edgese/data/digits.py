"""A small labelled set that is on every machine: the handwritten digits that scikit-learn ships."""

import hashlib
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final

from edgese.data.classes import ClassNames
from edgese.errors import InputError, MissingDependency
from edgese.records.data import PicturesInfo

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

DIGITS: Final = "digits"

_SIDE: Final = 8
_WHITE: Final = 16
_CLASSES: Final = tuple("0123456789")
# Every fifth is for validation; the file goes round all classes, so each has its part.
_EVERY: Final = 5


@dataclass(frozen=True)
class DigitPictures:
    """Digits of 8 x 8 px, white on black, the same in all three channels.

    Attributes:
        greys: (pictures, 8, 8), from 0 to 255.
    """

    info: PicturesInfo
    labels: "NDArray[np.int64]"
    class_names: tuple[str, ...]
    greys: "NDArray[np.uint8]"

    def name(self, index: int) -> str:
        """See `edgese.data.sources.Pictures`."""
        return f"digit {index} of {self.info.part}"

    def read(self, index: int) -> "Image":
        """See `edgese.data.sources.Pictures`."""
        from PIL.Image import fromarray

        return fromarray(self.greys[index]).convert("RGB")


def digit_pictures(names: ClassNames) -> tuple[DigitPictures, DigitPictures]:
    """The training and the validation part: 1438 and 359 digits, the same each time.

    Source: the test set of "Optical Recognition of Handwritten Digits", UCI (CC-BY 4.0), as
    scikit-learn's ``load_digits`` has it.

    Args:
        names: the classes of the model, which must be ten.

    Raises:
        MissingDependency: scikit-learn is not installed, or came without them.
        InputError: the model has another number of classes.
    """
    import numpy as np

    if names.classes != len(_CLASSES):
        raise InputError(
            f"The digits have {len(_CLASSES)} classes, and the model {names.classes}.",
            hint=f"Give --classes {len(_CLASSES)}, or --data with pictures of the model's classes.",
        )
    rows = np.loadtxt(_file(), delimiter=",", dtype=np.int64)
    values = rows[:, :-1].reshape(-1, _SIDE, _SIDE)
    greys = (values * 255 // _WHITE).astype(np.uint8)
    held = np.arange(len(rows)) % _EVERY == _EVERY - 1
    train, val = (
        DigitPictures(
            info=PicturesInfo(
                source=DIGITS,
                part=part,
                pictures=int(taken.sum()),
                labelled_by="name",
                sha256=hashlib.sha256(rows[taken].tobytes()).hexdigest(),
            ),
            labels=rows[taken, -1],
            class_names=_CLASSES,
            greys=greys[taken],
        )
        for part, taken in (("four of five", ~held), ("every fifth", held))
    )
    return train, val


def _file() -> Path:
    # Finding a top-level package does not import it; importing scikit-learn takes a second.
    spec = find_spec("sklearn")
    for root in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(root) / "datasets" / "data" / "digits.csv.gz"
        if path.is_file():
            return path
    raise MissingDependency(
        "The digits come with scikit-learn, which is not installed.",
        hint="pip install 'edgese[train]'",
    )

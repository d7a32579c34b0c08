"""The pictures that grids are found with."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from edgese import store
from edgese.data import listing
from edgese.errors import ConfigError, InputError
from edgese.records.model import Preprocessing
from edgese.records.quantization import Calibration, CalibrationPicture

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

EMBEDDED: Final = "embedded"
# Fewer say little of the values that others will bring.
FEWEST: Final = 8
# Crops of two photographs; more of them would show nothing new.
_CROPS: Final = 32


@dataclass(frozen=True, kw_only=True)
class CalibrationSet:
    """Calibration pictures that were found and not read yet.

    Attributes:
        files: absolute or as the source was named; empty for the embedded ones.
    """

    calibration: Calibration
    files: tuple[Path, ...]

    def identity(self) -> str:
        """What stands for these pictures in a key: their contents, in order."""
        hashes = "".join(picture.sha256 for picture in self.calibration.pictures)
        return hashlib.sha256(hashes.encode()).hexdigest() if self.files else EMBEDDED


def calibration_set(source: str | Path, count: int, split: str = "") -> CalibrationSet:
    """At most ``count`` pictures of a folder or CSV, evenly spread over the list.

    Args:
        source: a folder, a CSV with a column file, or "embedded": crops of the two photographs that
            scikit-learn brings, which do for latency and to try things out.
        split: of a CSV with a column split, only this one.

    Raises:
        InputError: nothing there, fewer than 8 pictures, or one that cannot be read from disk.
        ConfigError: a split of something that is no CSV.
    """
    if str(source) == EMBEDDED:
        if split:
            raise ConfigError(
                f"The split {split!r} of the embedded pictures was asked for.",
                hint="They have none: name a CSV with a column split, or leave it out.",
            )
        return CalibrationSet(calibration=Calibration(source=EMBEDDED, pictures=()), files=())
    folder = Path(source)
    found = listing.unlabelled(folder, split)
    if len(found) < FEWEST:
        raise InputError(
            f"{source} holds {len(found)} calibration "
            f"{'picture' if len(found) == 1 else 'pictures'}; grids take at least {FEWEST}.",
            hint="Add pictures like those that the network will see; a hundred or two are good.",
        )
    taken = min(count, len(found))
    files = tuple(found[i * len(found) // taken] for i in range(taken))
    pictures = tuple(
        CalibrationPicture(file=listing.name_in(folder, file), sha256=store.sha256_of(file))
        for file in files
    )
    return CalibrationSet(
        calibration=Calibration(source=listing.recorded(str(source)), pictures=pictures),
        files=files,
    )


def read(chosen: CalibrationSet, preprocessing: Preprocessing) -> "NDArray[np.float32]":
    """The pictures as the network takes them.

    Returns:
        (count, 3, height, width).

    Raises:
        InputError: a picture that cannot be read, or all of one colour.
    """
    import numpy as np

    from edgese.data.embedded import parity_pictures
    from edgese.data.pictures import read_picture
    from edgese.data.preprocessing import preprocess

    if not chosen.files:
        return parity_pictures(preprocessing, _CROPS)
    values = np.stack([preprocess(read_picture(file), preprocessing) for file in chosen.files])
    if not (values.max(axis=(2, 3)) > values.min(axis=(2, 3))).any():
        raise InputError(
            f"Each of the {len(values)} calibration pictures of {chosen.calibration.source} is of "
            "one colour.",
            hint="Take pictures like those that the network will see; grids are found with them.",
        )
    return values

"""The pictures that artifacts are compared with PyTorch on."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from edgese import store
from edgese.data import listing
from edgese.errors import InputError
from edgese.records.model import Preprocessing

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FEWEST: Final = 8
# More of a user's own would lengthen every conversion and hardly tell more.
MOST: Final = 32
_EMBEDDED: Final = f"{FEWEST} embedded"


def chosen(folder: Path | None) -> tuple[Path, ...]:
    """The files to compare on; empty for the embedded ones.

    Raises:
        InputError: the folder does not exist, or holds too few pictures.
    """
    if folder is None:
        return ()
    files = listing.unlabelled(folder)
    if len(files) < FEWEST:
        raise InputError(
            f"{folder} holds {len(files)} pictures; comparing takes at least {FEWEST}.",
            hint="Add some, or leave the folder out to compare on the embedded ones.",
        )
    # Evenly spread: lists are often sorted by class.
    taken = min(len(files), MOST)
    return tuple(files[i * len(files) // taken] for i in range(taken))


def identity(files: Sequence[Path]) -> str:
    """What stands for these pictures in a key: their contents, in order."""
    if not files:
        return _EMBEDDED
    hashes = "".join(store.sha256_of(file) for file in files)
    return hashlib.sha256(hashes.encode()).hexdigest()


def prepared(files: Sequence[Path], preprocessing: Preprocessing) -> "NDArray[np.float32]":
    """The pictures as the network takes them.

    Returns:
        (pictures, 3, height, width).

    Raises:
        InputError: a file is not a readable picture.
    """
    import numpy as np

    from edgese.data.embedded import parity_pictures
    from edgese.data.pictures import read_picture
    from edgese.data.preprocessing import preprocess

    if not files:
        return parity_pictures(preprocessing, FEWEST)
    return np.stack([preprocess(read_picture(file), preprocessing) for file in files])

"""Writes pictures as folders of classes, for what reads pictures from a disk."""

from collections.abc import Iterable
from pathlib import Path

from edgese.data.digits import DigitPictures
from edgese.store import make_folder, writing


def write_digits(pictures: DigitPictures, folder: Path, indices: Iterable[int]) -> None:
    """One PNG a digit, in a folder named after its class; what is there already stays.

    Raises:
        OutputError: the folder cannot be written.
    """
    for index in indices:
        name = pictures.class_names[int(pictures.labels[index])]
        path = folder / name / f"{index:04d}.png"
        if not path.is_file():
            make_folder(path.parent)
            with writing(path):
                pictures.read(index).save(path)

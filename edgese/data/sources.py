"""What a network is trained on: pictures by number, wherever they lie."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import msgspec

from edgese.data.classes import UNLABELLED, ClassNames
from edgese.data.listing import labelled, unlabelled
from edgese.data.pictures import read_picture
from edgese.errors import ConfigError, InputError
from edgese.records.data import DataSet, PicturesInfo

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image


class Pictures(Protocol):
    """Pictures by number, each with the index of its class.

    Implementers are frozen values that can be sent to another process.
    """

    @property
    def info(self) -> PicturesInfo:
        """What they are, and how many."""

    @property
    def labels(self) -> "NDArray[np.int64]":
        """The index of each one's class, or `UNLABELLED`: (pictures,)."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes where the pictures bring them; empty where the model's own hold."""

    def name(self, index: int) -> str:
        """How messages call the picture of a number."""

    def read(self, index: int) -> "Image":
        """The picture of a number, RGB.

        Raises:
            InputError: it cannot be read; it is named.
        """


@dataclass(frozen=True)
class FilePictures:
    """Pictures in files.

    Attributes:
        files: relative to ``root``.
    """

    info: PicturesInfo
    labels: "NDArray[np.int64]"
    class_names: tuple[str, ...]
    root: str
    files: "NDArray[np.str_]"

    def name(self, index: int) -> str:
        """See `Pictures`."""
        return str(Path(self.root, str(self.files[index])))

    def read(self, index: int) -> "Image":
        """See `Pictures`."""
        return read_picture(Path(self.name(index)))


@dataclass(frozen=True)
class Part:
    """Some of other pictures, renumbered."""

    info: PicturesInfo
    of: Pictures
    indices: "NDArray[np.int64]"

    @property
    def labels(self) -> "NDArray[np.int64]":
        """See `Pictures`."""
        return self.of.labels[self.indices]

    @property
    def class_names(self) -> tuple[str, ...]:
        """See `Pictures`."""
        return self.of.class_names

    def name(self, index: int) -> str:
        """See `Pictures`."""
        return self.of.name(int(self.indices[index]))

    def read(self, index: int) -> "Image":
        """See `Pictures`."""
        return self.of.read(int(self.indices[index]))


def find_pictures(
    source: str, names: ClassNames, *, split: str = "", with_labels: bool = True
) -> Pictures:
    """The pictures that ``source`` stands for; none of them is decoded.

    Args:
        source: class folders, a CSV file, or tar shards (a pattern or a folder of them); without
            labels any folder.
        names: the classes of the model.
        split: of a CSV with a column ``split``, only the rows with this value.

    Raises:
        InputError: nothing there, no picture in it, or one that fits no class.
        ConfigError: a split of something that is no CSV.
        MissingDependency: the library that reads shards is not installed.
    """
    from edgese.data import shards

    if shards.is_shards(source):
        if split:
            raise ConfigError(
                f"The split {split!r} of the shards {source} was asked for.",
                hint="Splits are a column of a CSV file; of shards, name those to use.",
            )
        return shards.shard_pictures(source, names, with_labels=with_labels)
    if with_labels:
        return _of_listing(labelled(Path(source), names, split))
    return pictures_of_files(source, unlabelled(Path(source), split), split)


def held_out(pictures: Pictures, share: float) -> tuple[Pictures, Pictures]:
    """The pictures without a share of them, and that share.

    It is spread evenly over the classes and over the order within each, and the same for the same
    pictures, so that trainings with other seeds are judged on the same ones.

    Raises:
        ConfigError: the share leaves nothing on one of the sides.
    """
    import numpy as np

    count = len(pictures.labels)
    wanted = round(share * count)
    if not 0 < wanted < count:
        raise ConfigError(
            f"A share of {share:g} of {count} pictures was to be held out for validation.",
            hint="Give a share that leaves pictures on both sides, or --val with pictures of their "
            "own.",
        )
    by_class = np.argsort(pictures.labels, kind="stable")
    # The middle of each of as many equal pieces.
    taken = np.sort(by_class[(np.arange(wanted) * 2 + 1) * count // (2 * wanted)])
    kept = np.setdiff1d(np.arange(count), taken)
    return (
        _part(pictures, kept, f"without a held-out {share:g}"),
        _part(pictures, taken, f"a held-out {share:g}"),
    )


def _part(pictures: Pictures, indices: "NDArray[np.int64]", name: str) -> Part:
    info = msgspec.structs.replace(
        pictures.info,
        part=f"{pictures.info.part}, {name}" if pictures.info.part else name,
        pictures=len(indices),
        sha256=hashlib.sha256(f"{pictures.info.sha256} {indices.tolist()}".encode()).hexdigest(),
    )
    return Part(info=info, of=pictures, indices=indices)


def _of_listing(data: DataSet) -> FilePictures:
    import numpy as np

    names: dict[int, str] = {}
    if data.labelled_by == "order":
        names = {picture.label: picture.file.split("/")[0] for picture in data.pictures}
    return FilePictures(
        info=PicturesInfo(
            source=data.source,
            part=data.split,
            pictures=len(data.pictures),
            labelled_by=data.labelled_by,
            sha256=data.sha256(),
        ),
        labels=np.array([picture.label for picture in data.pictures], np.int64),
        class_names=tuple(names[label] for label in sorted(names)),
        root=data.root,
        files=np.array([picture.file for picture in data.pictures]),
    )


def pictures_of_files(source: str, files: Sequence[Path], split: str = "") -> FilePictures:
    """Pictures without labels.

    Args:
        source: the folder, or the CSV, that the files were found with.

    Raises:
        InputError: there are none.
    """
    import numpy as np

    if not files:
        raise InputError(f"There is no picture in {source}.", hint="Name another folder.")
    root = Path(source) if Path(source).is_dir() else Path(source).parent
    # Below the root relative to it; a whole path stays one when it is joined to the root.
    names = [
        (path.relative_to(root) if path.is_relative_to(root) else path.absolute()).as_posix()
        for path in files
    ]
    return FilePictures(
        info=PicturesInfo(
            source=source,
            part=split,
            pictures=len(names),
            labelled_by=None,
            sha256=hashlib.sha256("\n".join(names).encode("utf-8", "surrogateescape")).hexdigest(),
        ),
        labels=np.full(len(names), UNLABELLED, np.int64),
        class_names=(),
        root=str(root),
        files=np.array(names),
    )

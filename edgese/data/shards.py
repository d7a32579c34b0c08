"""Pictures in tar shards, as webdataset writes them: ``0001.jpg`` and ``0001.cls`` side by side.

The shards are indexed once and read at random from then on, so that their pictures are shuffled as
thoroughly as files in folders, and a run that is resumed, or shared by processes, sees the same
ones.
"""

import hashlib
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from edgese.bounds import LABEL_BYTES, opened
from edgese.data.classes import UNLABELLED, ClassNames
from edgese.data.pictures import SUFFIXES, read_picture
from edgese.errors import InputError, MissingDependency, stage
from edgese.records.data import LabelledBy, PicturesInfo

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

_LABEL: Final = "cls"
_LAYOUT: Final = (
    "A shard is an uncompressed tar file with a picture (0001.jpg) and its class (0001.cls: a "
    "number or a name) side by side, as webdataset's ShardWriter makes it."
)


class _Place(NamedTuple):
    """Where a member's bytes lie in its shard."""

    offset: int
    size: int


class _Sample(NamedTuple):
    shard: int
    key: str
    picture: str
    place: _Place
    label: str


@dataclass(frozen=True)
class ShardPictures:
    """Pictures in tar shards.

    Attributes:
        shards: paths of the tar files.
        members: name of each picture in its shard.
        places: shard, offset and size in bytes of each picture: (pictures, 3).
    """

    info: PicturesInfo
    labels: "NDArray[np.int64]"
    class_names: tuple[str, ...]
    shards: tuple[str, ...]
    members: "NDArray[np.str_]"
    places: "NDArray[np.int64]"

    def name(self, index: int) -> str:
        """See `edgese.data.sources.Pictures`."""
        return f"{self.shards[int(self.places[index, 0])]}/{self.members[index]}"

    def read(self, index: int) -> "Image":
        """See `edgese.data.sources.Pictures`."""
        shard, offset, size = (int(value) for value in self.places[index])
        content = _bytes(Path(self.shards[shard]), _Place(offset, size))
        return read_picture(Path(self.name(index)), content)


def is_shards(source: str) -> bool:
    """Whether ``source`` is meant as shards: a tar file, a pattern, or a folder with tar files."""
    return "{" in source or source.endswith(".tar") or any(Path(source).glob("*.tar"))


def shard_pictures(source: str, names: ClassNames, *, with_labels: bool = True) -> ShardPictures:
    """The pictures of tar shards, each with the index of its class.

    Args:
        source: a tar file, a pattern such as ``train-{000..009}.tar``, or a folder of tar files.
        names: the classes of the model.
        with_labels: otherwise members with classes need not be there, and are not read.

    Raises:
        InputError: a shard that is missing, damaged or compressed, a picture without a class, a
            class that is none of the model's, or no picture at all.
        MissingDependency: webdataset is not installed.
    """
    import numpy as np

    paths = _paths(source)
    samples = [
        sample
        for number, path in enumerate(paths)
        for sample in _samples(number, path, with_labels=with_labels)
    ]
    if not samples:
        raise InputError(f"There is no picture in {source}.", hint=_LAYOUT)
    labels, by = _labels(paths, samples, names) if with_labels else (None, None)
    rows = "".join(f"{sample.key}\0{sample.label}\0{sample.place.size}\n" for sample in samples)
    return ShardPictures(
        info=PicturesInfo(
            source=source,
            part="",
            pictures=len(samples),
            labelled_by=by,
            sha256=hashlib.sha256(rows.encode("utf-8", "surrogateescape")).hexdigest(),
        ),
        labels=np.full(len(samples), UNLABELLED, np.int64) if labels is None else labels,
        class_names=(),
        shards=tuple(map(str, paths)),
        members=np.array([sample.picture for sample in samples]),
        places=np.array([(sample.shard, *sample.place) for sample in samples], np.int64),
    )


def _paths(source: str) -> list[Path]:
    if Path(source).is_dir():
        return sorted(Path(source).glob("*.tar"))
    try:
        from webdataset.shardlists import expand_urls
    except ModuleNotFoundError as error:
        raise _missing() from error
    paths = [Path(name) for name in expand_urls(source)]
    if missing := [path for path in paths if not path.is_file()]:
        raise InputError(
            f"{len(missing)} of the {len(paths)} shards of {source} are not there, first "
            f"{missing[0]}.",
            hint="A pattern names its first and last shard, as in train-{000..009}.tar.",
        )
    return paths


def _samples(shard: int, path: Path, *, with_labels: bool) -> Iterator[_Sample]:
    """The samples of one shard, put together from its members by webdataset's own rules."""
    try:
        from webdataset.tariterators import group_by_keys
    except ModuleNotFoundError as error:
        raise _missing() from error
    with stage(f"read the shard {path}", hint=_LAYOUT):
        for group in group_by_keys(_members(path)):
            found = [suffix for suffix in group if f".{suffix}" in SUFFIXES]
            if not found:
                continue
            key, picture = group["__key__"], group[found[0]]
            if with_labels and _LABEL not in group:
                raise InputError(f"{path} has no class for {key}.{found[0]}.", hint=_LAYOUT)
            yield _Sample(
                shard=shard,
                key=key,
                picture=f"{key}.{found[0]}",
                place=picture,
                label=_text(path, group[_LABEL]) if with_labels else "",
            )


def _members(path: Path) -> Iterator[dict[str, Any]]:
    """What `group_by_keys` takes, with a member's place instead of its bytes."""
    size = path.stat().st_size
    # Without "r:" compressed ones would be taken too, and nothing in them has a place.
    with opened(path, "shard") as file, tarfile.open(fileobj=file, mode="r:") as archive:
        for member in archive:
            if not member.isfile():
                continue
            if member.offset_data + member.size > size:
                raise tarfile.ReadError("it is cut short")
            place = _Place(member.offset_data, member.size)
            yield {"fname": member.name, "data": place, "__url__": str(path)}


def _labels(
    paths: Sequence[Path], samples: Sequence[_Sample], names: ClassNames
) -> tuple["NDArray[np.int64]", LabelledBy]:
    import numpy as np

    by, indices = names.of_values(sorted({sample.label for sample in samples}))
    labels = [indices[sample.label] for sample in samples]
    for sample, label in zip(samples, labels, strict=True):
        if label is None:
            raise InputError(
                f"{sample.picture} in {paths[sample.shard]} has the class {sample.label!r}, which "
                "is none of the model's.",
                hint=f"Give a number from 0 to {names.classes - 1} or the name of a class.",
            )
    return np.array(labels, np.int64), by


def _text(path: Path, place: _Place) -> str:
    if place.size > LABEL_BYTES:
        raise InputError(
            f"A class in {path} has {place.size} bytes; {LABEL_BYTES} are the most that are read.",
            hint=_LAYOUT,
        )
    return _bytes(path, place).decode("utf-8").strip()


def _bytes(path: Path, place: _Place) -> bytes:
    with opened(path, "shard") as file, stage(f"read the shard {path}"):
        file.seek(place.offset)
        return file.read(place.size)


def _missing() -> MissingDependency:
    return MissingDependency(
        "Tar shards are read with webdataset, which is not installed.",
        hint="pip install 'edgese[train]'",
    )

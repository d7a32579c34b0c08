"""Images and data sets."""

import hashlib
from typing import Literal

from edgese.records.base import Record
from edgese.records.bounds import Count, Positive

LabelledBy = Literal["name", "number", "order"]


class Picture(Record, frozen=True):
    """One picture of a data set.

    Attributes:
        file: relative to the data set's root, with forward slashes.
        label: index of its class.
    """

    file: str
    label: Count


class DataSet(Record, frozen=True):
    """Labelled pictures that lie on this machine; none has been opened yet.

    Attributes:
        source: the folder or CSV file that was named.
        root: the folder that files are relative to.
        labelled_by: how classes were recognised: by their "name", by "number", or by the sorted
            "order" of their folders.
        split: the part of a CSV that was taken; "" is all of it.
    """

    source: str
    root: str
    pictures: tuple[Picture, ...]
    labelled_by: LabelledBy
    split: str = ""

    def sha256(self) -> str:
        """What tells this selection from others: a hash over its files' names and labels."""
        rows = (f"{picture.file}\0{picture.label}\n" for picture in self.pictures)
        return hashlib.sha256("".join(rows).encode("utf-8", "surrogateescape")).hexdigest()


class PicturesInfo(Record, frozen=True):
    """What was trained or validated on.

    Attributes:
        source: what was named: a folder, a CSV file, tar shards, or "digits".
        part: which part of it; "" is all.
        labelled_by: how classes were recognised; None where labels were not asked for.
        sha256: over the pictures' names and labels.
    """

    source: str
    part: str
    pictures: Positive
    labelled_by: LabelledBy | None
    sha256: str

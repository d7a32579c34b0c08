"""Pictures of a data set, and what is true for each."""

import hashlib
from typing import Literal

from edgese.records.base import Record

LabelledBy = Literal["name", "number", "order", "nothing"]


class Picture(Record, frozen=True):
    """One picture of a data set.

    Attributes:
        file: relative to the data set's root, with forward slashes.
        label: index of its class; None where nobody says.
    """

    file: str
    label: int | None = None


class DataSet(Record, frozen=True):
    """Pictures that lie on this machine; none has been opened yet.

    Attributes:
        source: the folder or CSV file that was named.
        root: the folder that files are relative to.
        split: the part of a CSV that was taken; "" is all of it.
        labelled_by: how classes were recognised: by their "name", by "number", by the sorted
            "order" of their folders, or "nothing".
    """

    source: str
    root: str
    pictures: tuple[Picture, ...]
    split: str = ""
    labelled_by: LabelledBy = "nothing"

    def sha256(self) -> str:
        """What tells this selection from others: a hash over its files' names and labels."""
        rows = (f"{picture.file}\0{picture.label}\n" for picture in self.pictures)
        return hashlib.sha256("".join(rows).encode("utf-8", "surrogateescape")).hexdigest()

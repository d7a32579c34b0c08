"""From what people call a class in a folder's name or a CSV to its index in the model."""

import re
from collections import Counter
from collections.abc import Sequence
from typing import Final

from edgese.bounds import whole
from edgese.records.base import Record
from edgese.records.data import LabelledBy

# In the place of a class: of an image whose class nobody knows.
UNLABELLED: Final = -1
_NUMBER = re.compile(r"[+-]?\d+")


class ClassNames(Record, frozen=True):
    """The classes of a model.

    Attributes:
        classes: how many.
        labels: their names in order; empty where nobody named them.
    """

    classes: int
    labels: tuple[str, ...] = ()

    def of_values(self, values: Sequence[str]) -> tuple[LabelledBy, dict[str, int | None]]:
        """The index of each value, None where it fits no class, and how they were read.

        Numbers are indices, unless all numbers among the values are names of classes (digits, say).
        Names are compared as they are; then, where that is clear, without regard to case and with
        "_" for a space.
        """
        exact = self._indices(self.labels)
        folded = self._indices([_folded(label) for label in self.labels])
        numbers = {value for value in values if _NUMBER.fullmatch(value)}
        if all(number in exact for number in numbers):
            numbers = set()

        def index(value: str) -> int | None:
            if value in numbers:
                number = whole(value.removeprefix("+").removeprefix("-"))
                if number is None or (number and value.startswith("-")):
                    return None
                return number if number < self.classes else None
            return exact.get(value, folded.get(_folded(value)))

        by: LabelledBy = "number" if numbers.issuperset(values) else "name"
        return by, {value: index(value) for value in values}

    def of_folders(self, folders: Sequence[str]) -> tuple[LabelledBy, dict[str, int | None]]:
        """As `of_values`; but where no name is known, as many folders as classes go by order.

        That is how torchvision's ImageFolder numbers them, and it fits ImageNet's synset folders.
        Numbers are never taken by order: sorted as text, 10 comes before 2.
        """
        by, indices = self.of_values(folders)
        unknown = all(index is None for index in indices.values())
        if by == "name" and unknown and len(folders) == self.classes:
            return "order", {folder: i for i, folder in enumerate(sorted(folders))}
        return by, indices

    @staticmethod
    def _indices(names: Sequence[str]) -> dict[str, int]:
        # A name that two classes bear means neither.
        counts = Counter(names)
        return {name: i for i, name in enumerate(names) if counts[name] == 1}


def _folded(name: str) -> str:
    return name.casefold().replace("_", " ").strip()

"""What ``edgese demo`` leaves."""

from edgese.records.artifact import ConversionOutcome
from edgese.records.base import Record
from edgese.records.evaluation import Score
from edgese.records.measurement import ProfileResult


class Recognized(Record, frozen=True):
    """What one runtime sees in each of the pictures.

    Attributes:
        classes: the likeliest class of each picture.
    """

    target: str
    pictures: tuple[str, ...]
    classes: tuple[Score, ...]


class Demonstration(Record, frozen=True):
    """The main job's results; "pytorch" comes first among ``recognized``."""

    outcomes: tuple[ConversionOutcome, ...]
    recognized: tuple[Recognized, ...]
    profiles: ProfileResult

"""What ``edgese demo`` leaves."""

from edgese.records.artifact import ConversionOutcome
from edgese.records.base import Record
from edgese.records.evaluation import Score
from edgese.records.profile import ProfileResult
from edgese.records.quantization import QuantizedProgram


class Recognized(Record, frozen=True):
    """What one runtime sees in each of the pictures.

    Attributes:
        recipe: of the artifact; "fp32" in PyTorch.
        classes: the likeliest class of each picture.
    """

    target: str
    recipe: str
    pictures: tuple[str, ...]
    classes: tuple[Score, ...]


class Demonstration(Record, frozen=True):
    """The main job's results; "pytorch" comes first among ``recognized``.

    Attributes:
        outcomes: of fp32, then of int8.
        program: the quantized one that the int8 artifacts were made from.
        profiles: for each runtime that itself runs here its fp32 artifact, and the int8 one beside
            it.
    """

    outcomes: tuple[ConversionOutcome, ...]
    program: QuantizedProgram
    recognized: tuple[Recognized, ...]
    profiles: tuple[ProfileResult, ...]

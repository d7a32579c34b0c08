"""What ``edgese demo`` leaves."""

from edgese.records.artifact import ConversionOutcome
from edgese.records.base import Record
from edgese.records.bounds import Share
from edgese.records.decision import SelectionResult
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


class Story(Record, frozen=True):
    """Three variants on real pictures, and the one that fits a budget.

    Attributes:
        trainings: accuracy of each model in PyTorch after its training, in 0..1.
        page: path of the report.
    """

    trainings: dict[str, Share]
    selection: SelectionResult
    page: str


class Demonstration(Record, frozen=True):
    """The main job's results; "pytorch" comes first among ``recognized``.

    Attributes:
        outcomes: of fp32, then of int8.
        program: the quantized one that the int8 artifacts were made from.
        story: how a variant is chosen.
        profiles: for each runtime that itself runs here its fp32 artifact, and the int8 one beside
            it.
    """

    outcomes: tuple[ConversionOutcome, ...]
    program: QuantizedProgram
    recognized: tuple[Recognized, ...]
    profiles: tuple[ProfileResult, ...]
    story: Story

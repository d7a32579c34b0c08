"""What can be chosen from: variants for a target, and the file that lists some."""

from typing import Annotated, Literal

import msgspec

from edgese.records.base import Record
from edgese.records.bounds import Count, Side

# What candidates are put in order by.
Ranking = Literal["accuracy", "mnasnet"]


class Candidate(Record, frozen=True, order=True):
    """A variant for a target.

    Attributes:
        model: a model's name or a spec file; of results, the name that they tell.
        resolution: height and width of the input.
        gates: "" are the model's own, "none" takes them out, and "gate=hard_sigmoid" or
            "reduction=8,squeeze=max" change fields of `edgese.records.model.SqueezeExcite`.
        weights: a file or "imagenet"; "" where none were named.
        classes: of the classifier; 0 is the model's own number.
        artifact: sha256 of what was measured, where the candidate comes from results.
    """

    model: str
    resolution: tuple[Side, Side]
    recipe: str
    target: str
    gates: str = ""
    weights: str = ""
    classes: Count = 0
    artifact: str = ""

    @property
    def label(self) -> str:
        """How tables call it; two candidates of one list never share it."""
        height, width = self.resolution
        pixels = f"{height} px" if height == width else f"{height}x{width} px"
        gates = f" (gates: {self.gates})" if self.gates else ""
        mark = f" {self.artifact[:8]}" if self.artifact else ""
        return f"{self.model}{gates}, {pixels}, {self.recipe}, {self.target}{mark}"


class Listed(Record, frozen=True):
    """A candidate in a file; what is left out is as the command says, or the model's own."""

    model: str
    # Not Side: msgspec 0.22 corrupts memory over a union of a bounded number and a pair of such.
    resolution: int | tuple[int, int] | None = None
    recipe: str = ""
    target: str = ""
    gates: str = ""
    weights: str = ""


class CandidateFile(Record, frozen=True):
    """A TOML file of ``[[candidate]]`` tables."""

    candidate: Annotated[tuple[Listed, ...], msgspec.Meta(min_length=1)]

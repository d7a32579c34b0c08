"""Candidates, decisions, the ladder of recipes, and the demonstration."""

from typing import Annotated, Literal

import msgspec

from edgese.records.artifact import ConversionOutcome, Manifest, Recipe
from edgese.records.base import Record
from edgese.records.bounds import (
    Count,
    ExitCode,
    Finite,
    Milliseconds,
    NotNegative,
    Percent,
    Seconds,
    Share,
    Side,
)
from edgese.records.budget import Limit, Observation, Verdict
from edgese.records.evaluation import Agreement, Evaluation, Proportion, Score
from edgese.records.profile import ProfileResult
from edgese.records.quantization import QuantizedProgram

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


LADDER_SCHEMA = 1


class Rung(Record, frozen=True):
    """One recipe that was tried, and how its artifact did.

    Attributes:
        program, artifact: their paths.
        top1: of the artifact, in its runtime.
        drop: of top-1 from the float artifact, in points; below 0 where it is better. Images that
            could not be read count as if the float artifact alone were right.
        agreement: picture by picture with the float artifact.
        latency_ms: median on this host, one thread; None where the runtime is not here.
        kept_float: modules whose operators stay in float.
        seconds: that the rung took.
        verdict: "collapsed", "drops" too much, "too slow" against plain int8, or "holds".
    """

    recipe: Recipe
    program: str
    artifact: str
    top1: Proportion
    drop: Annotated[float, msgspec.Meta(ge=-100, le=100)]
    agreement: Agreement
    latency_ms: Milliseconds | None
    kept_float: tuple[str, ...]
    seconds: Seconds
    verdict: Literal["holds", "drops", "too slow", "collapsed"]


class Ladder(Record, frozen=True):
    """The rungs that were climbed.

    Attributes:
        max_drop: in points, that was allowed.
        reference: top-1 of the float artifact.
        chosen: path of the program that holds; "" where none does.
        judged_by: what executed the artifacts in the runtime's place; "" where the runtime did.
    """

    model: str
    target: str
    max_drop: Percent
    reference: Proportion
    rungs: tuple[Rung, ...]
    chosen: str
    judged_by: str = ""
    schema: int = LADDER_SCHEMA


SELECTION_SCHEMA = 1
FINDING_SCHEMA = 1

Round = Literal["rows", "predictions", "looks", "artifacts", "sustained", "accuracy"]
State = Literal["chosen", "meets", "misses", "unclear", "cannot win", "failed"]


class LimitStanding(Record, frozen=True):
    """One limit of the budget, held against what is known of one candidate.

    Attributes:
        verdict: "unclear" where the interval holds the bound, or nothing that the budget accepts is
            known.
        low, high: what it was judged by; None where nothing is known or it has no end.
        source: of that; "" where nothing is known.
        excess: how far the pessimistic end is beyond the bound, as a factor; 1.2 is 20 % too much,
            and 1 or less meets it. None where nothing is known.
    """

    limit: Limit
    verdict: Verdict
    low: Finite | None = None
    high: Finite | None = None
    source: str = ""
    excess: NotNegative | None = None


class Standing(Record, frozen=True):
    """A candidate and how it stands.

    Attributes:
        state: "cannot win": nothing more was spent on it, since whatever else it is like, another
            one is better.
        reason: of the state, as a sentence; "" of what is chosen.
        merit: what candidates are ranked by: accuracy, or MnasNet's reward.
        figures: of one quantity, the most trustworthy first.
        artifact: path of its file, where one was made.
    """

    candidate: Candidate
    state: State
    reason: str
    figures: tuple[Observation, ...]
    judged: tuple[LimitStanding, ...]
    merit: Finite | None
    artifact: str = ""

    @property
    def label(self) -> str:
        """See `Candidate.label`."""
        return self.candidate.label

    def figure(self, quantity: str) -> Observation | None:
        """The most trustworthy that is known of a quantity."""
        return next((one for one in self.figures if one.quantity == quantity), None)


class Relaxation(Record, frozen=True):
    """A limit that a candidate does not meet, and the bound that it would meet."""

    limit: Limit
    needed: Finite


class NearMiss(Record, frozen=True):
    """A candidate that misses little.

    Attributes:
        excess: the largest of all limits, see `LimitStanding.excess`.
        relax: what would have to change for it to be chosen.
    """

    label: str
    excess: NotNegative
    relax: tuple[Relaxation, ...]


class Decision(Record, frozen=True):
    """What comes out of candidates and a budget.

    Attributes:
        chosen: label of the winner; "" where none meets the budget.
        runners_up: labels of the others that meet it, the best first.
        nearest: where none meets it: those that are nearest to it, the nearest first.
        missing: what is not known of any candidate, so that no one can meet the budget.
        cautions: what a reader should know before trusting the order, as sentences.
    """

    chosen: str
    ranking: Ranking
    standings: tuple[Standing, ...]
    runners_up: tuple[str, ...] = ()
    nearest: tuple[NearMiss, ...] = ()
    missing: tuple[str, ...] = ()
    cautions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse a winner that is no candidate."""
        if self.chosen and self.winner is None:
            raise ValueError(f"{self.chosen!r} was chosen, and is none of the candidates")

    @property
    def winner(self) -> Standing | None:
        """What was chosen."""
        return next((one for one in self.standings if one.label == self.chosen), None)


class Spent(Record, frozen=True):
    """What a round of the selection did.

    Attributes:
        looked_at: candidates that it said something of.
        ruled_out: of them.
        resumed: of them, answered from what an earlier run left.
    """

    round: Round
    looked_at: Count
    ruled_out: Count
    seconds: Seconds
    resumed: Count = 0


class Finding(Record, frozen=True):
    """What one piece of work on one candidate found; kept in a file of its own.

    Attributes:
        asked: hash of everything that the answer depends on.
        reference: of the same network in fp32 on the same pictures, where a drop is limited.
        error: why there is none, with its exit code.
        seconds: that it took.
        worker: node of a cluster that did it, and has the artifact; "" is this machine.
        seal: see `edgese.seals`; of what was kept.
    """

    asked: str
    candidate: Candidate
    artifact: str = ""
    manifest: Manifest | None = None
    profile: ProfileResult | None = None
    evaluation: Evaluation | None = None
    reference: Evaluation | None = None
    error: str = ""
    hint: str = ""
    exit_code: ExitCode = 0
    seconds: Seconds = 0.0
    worker: str = ""
    seal: str = ""
    schema: int = FINDING_SCHEMA


class SelectionResult(Record, frozen=True):
    """What ``edgese select`` leaves.

    Attributes:
        device: as in ``--device``; of results, as they tell.
        budget: where it was read.
        findings: what was made and measured for it.
        notes: what could not be had, and why.
        seal: see `edgese.seals`; of what was written.
    """

    decision: Decision
    device: str
    budget: str
    limits: tuple[Limit, ...]
    rounds: tuple[Spent, ...]
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]
    seconds: Seconds
    edgese: str
    created: str
    seal: str = ""
    schema: int = SELECTION_SCHEMA


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

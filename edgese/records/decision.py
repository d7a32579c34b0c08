"""Which candidate is chosen, why not the others, and what is known of each."""

from typing import Literal

import msgspec

from edgese.records.artifact import Manifest
from edgese.records.base import Record
from edgese.records.candidate import Candidate
from edgese.records.evaluation import Evaluation
from edgese.records.measurement import MeasurePlan
from edgese.records.profile import ProfileResult

SELECTION_SCHEMA = 1
FINDING_SCHEMA = 1

# "counted": from the network's rows, exactly. "bounded": from the rows, at least so much.
# "expected": from candidates that were measured beside. "published": by others.
FigureSource = Literal[
    "counted",
    "bounded",
    "read",
    "expected",
    "predicted",
    "estimated",
    "emulated",
    "measured",
    "evaluated",
    "published",
]
Ranking = Literal["accuracy", "mnasnet"]
State = Literal["chosen", "meets", "misses", "unclear", "cannot win", "failed"]
Verdict = Literal["meets", "misses", "unclear"]


class Figure(Record, frozen=True):
    """One thing that is known of a candidate.

    Attributes:
        quantity: in the words of budgets, its unit at the end.
        value: the best guess; ``low`` and ``high`` are the ends of its interval. None as ``high``
            is no bound.
        told: what it rests on.
    """

    quantity: str
    value: float
    low: float
    high: float | None
    source: FigureSource
    told: str = ""


class Judged(Record, frozen=True):
    """One limit of the budget, held against one candidate.

    Attributes:
        limit: in the budget's words.
        bound: the number in the budget.
        at_most: False where the figure must be at least the bound.
        verdict: "unclear" where the interval holds the bound, or nothing that the budget accepts is
            known.
        low, high: what it was judged by; None where nothing is known or it has no end.
        source: of that; "" where nothing is known.
        excess: how far the pessimistic end is beyond the bound, as a factor; 1.2 is 20 % too much,
            and 1 or less meets it. None where nothing is known.
    """

    limit: str
    bound: float
    at_most: bool
    verdict: Verdict
    low: float | None = None
    high: float | None = None
    source: str = ""
    excess: float | None = None


class Standing(Record, frozen=True):
    """A candidate and how it stands.

    Attributes:
        state: "cannot win": nothing more was spent on it, since whatever else it is like, another
            one is better.
        reason: of the state, as a sentence; "" of what is chosen.
        merit: what candidates are ranked by: accuracy, or MnasNet's reward.
        latency_ms: its p50; with its interval.
        artifact: path of its file, where one was made.
    """

    candidate: Candidate
    state: State
    reason: str
    figures: tuple[Figure, ...]
    judged: tuple[Judged, ...]
    merit: float | None
    artifact: str = ""

    @property
    def label(self) -> str:
        """See `Candidate.label`."""
        return self.candidate.label

    def figure(self, quantity: str) -> Figure | None:
        """What is known of a quantity."""
        return next((one for one in self.figures if one.quantity == quantity), None)


class Relaxation(Record, frozen=True):
    """A limit that a candidate does not meet, and the bound that it would meet."""

    limit: str
    bound: float
    needed: float


class NearMiss(Record, frozen=True):
    """A candidate that misses little.

    Attributes:
        excess: the largest of all limits, see `Judged.excess`.
        relax: what would have to change for it to be chosen.
    """

    label: str
    excess: float
    relax: tuple[Relaxation, ...]


class Decision(Record, frozen=True):
    """What comes out of candidates and a budget.

    Attributes:
        chosen: label of the winner; "" where none meets the budget.
        runners_up: labels of the others that meet it, the best first.
        nearest: where none meets it: those that are nearest to it, the nearest first.
        missing: what is not known of any candidate, so that no one can meet the budget.
    """

    chosen: str
    ranking: Ranking
    standings: tuple[Standing, ...]
    runners_up: tuple[str, ...] = ()
    nearest: tuple[NearMiss, ...] = ()
    missing: tuple[str, ...] = ()


class Spent(Record, frozen=True):
    """What a round of the selection did.

    Attributes:
        looked_at: candidates that it said something of.
        ruled_out: of them.
        resumed: of them, answered from what an earlier run left.
    """

    round: Literal["rows", "predictions", "artifacts", "accuracy"]
    looked_at: int
    ruled_out: int
    seconds: float
    resumed: int = 0


class Finding(Record, frozen=True):
    """What one piece of work on one candidate found; kept in a file of its own.

    Attributes:
        asked: hash of everything that the answer depends on.
        error: why there is none, with its exit code.
        seconds: that it took.
    """

    asked: str
    candidate: Candidate
    artifact: str = ""
    manifest: Manifest | None = None
    profile: ProfileResult | None = None
    evaluation: Evaluation | None = None
    error: str = ""
    hint: str = ""
    exit_code: int = 0
    seconds: float = 0.0
    schema: int = FINDING_SCHEMA


class SelectionResult(Record, frozen=True):
    """What ``edgese select`` leaves.

    Attributes:
        device: as in ``--device``; of results, as they tell.
        budget: where it was read.
        limits: of the budget, in words, for pages and tables.
        findings: what was made and measured for it.
        notes: what could not be had, and why.
    """

    decision: Decision
    device: str
    budget: str
    limits: dict[str, float]
    rounds: tuple[Spent, ...]
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]
    seconds: float
    edgese: str
    created: str
    plan: MeasurePlan | None = None
    sources: dict[str, str] = msgspec.field(default_factory=dict)
    schema: int = SELECTION_SCHEMA

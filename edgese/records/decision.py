"""Which candidate is chosen, why not the others, and what is known of each."""

from typing import Literal

from edgese.records.artifact import Manifest
from edgese.records.base import Record
from edgese.records.bounds import Count, ExitCode, Finite, NotNegative, Seconds
from edgese.records.budget import Limit
from edgese.records.candidate import Candidate, Ranking
from edgese.records.evaluation import Evaluation
from edgese.records.profile import ProfileResult
from edgese.records.verdict import Observation, Verdict

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

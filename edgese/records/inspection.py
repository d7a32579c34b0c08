"""What delegates make of an artifact: what they take, in how many pieces, what they leave out."""

from typing import Literal

from edgese.records.base import Record
from edgese.records.bounds import Cosine, Count, NotNegative, Positive, Share, Side

Basis = Literal["asked", "read", "checked", "documented"]

Arithmetic = Literal["fp16", "fp32", "int8"]

INSPECTION_SCHEMA = 1


class LeftOut(Record, frozen=True):
    """Operators of one kind that a delegate leaves to the processor, for one reason.

    Attributes:
        operator: in the words of the graph that the delegate was asked about.
        count: how many; None where the delegate told the kind and not which of them.
        code: a stable name of the reason, as in "TFL-GPU-OP-UNSUPPORTED"; scripts may hang on it.
        reason: the delegate's own words, or where it stands.
        advice: what can be done about it.
    """

    operator: str
    count: Positive | None
    code: str
    reason: str
    advice: str


class Fault(LeftOut, frozen=True):
    """Operators of one kind that a delegate takes and computes otherwise than the format says.

    Attributes:
        reason: what the delegate itself lets see of it.
    """


class Drift(Record, frozen=True):
    """How far a delegate's arithmetic leads away from the same file's on the processor.

    Attributes:
        arithmetic: "int8" where it computes with the file's codes; "fp32" where it gives what it
            gives when it is told to compute in fp32, or, where it cannot be told, the processor's
            logits but for the order of sums; else "fp16".
        pictures: how many were compared.
        max_abs_diff: the largest difference of a logit.
        cosine: the smallest cosine of a picture's logits.
        top1_agreement: share of the pictures with the same first class.
        logit_std: standard deviation of the processor's logits, to see the difference beside.
    """

    arithmetic: Arithmetic
    pictures: Positive
    max_abs_diff: NotNegative
    cosine: Cosine
    top1_agreement: Share
    logit_std: NotNegative


class Compiled(Record, frozen=True):
    """What a vendor's compiler made of an artifact for one chip.

    Attributes:
        soc: a name in targets/socs.
        architecture: of its accelerator, as in "v75".
        taken: how many operators it compiled.
        partitions: in how many pieces.
        size_bytes: of what it compiled, as the device loads it: the file that the runtime keeps
            beside the artifact. None where it compiled nothing.
    """

    soc: str
    architecture: str
    taken: Count
    partitions: Count
    size_bytes: Count | None


class DelegateReport(Record, frozen=True):
    """One delegate on one artifact.

    Attributes:
        delegate: as in ``--delegate``.
        title: its own name.
        basis: what the report rests on. "asked": the delegate, its partitioner or its compiler
            answered here. "read": the file itself tells. "checked": a tool of the runtime held the
            graph against the delegate's lists. "documented": edgese held it against what is
            published.
        by: who answered, with versions.
        operators: of the graph that was asked about.
        taken: of them; None where nobody here can tell.
        partitions: how many pieces the delegate executes; 1 is everything in one piece, and each
            further one costs a way to the processor and back. None where nobody here can tell.
        partition_sizes: operators in each piece, in the graph's order; empty where not told.
        left_out: the rest, with reasons.
        faults: of what it takes, what it computes wrongly.
        notes: what the figures do not say.
        drifts: of the delegate's arithmetic, where it was run; the delegate's own choice first.
        compiled: by chip, where a vendor's compiler answered for several; the rest of the report is
            about the first of them.
    """

    delegate: str
    title: str
    basis: Basis
    by: str
    operators: Count
    taken: Count | None
    partitions: Count | None
    partition_sizes: tuple[Positive, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    faults: tuple[Fault, ...] = ()
    notes: tuple[str, ...] = ()
    drifts: tuple[Drift, ...] = ()
    compiled: tuple[Compiled, ...] = ()

    @property
    def whole(self) -> bool:
        """Whether the delegate takes everything, in one piece."""
        return self.taken == self.operators and self.partitions == 1


class NotAsked(Record, frozen=True):
    """A delegate that could be asked, and was not."""

    delegate: str
    reason: str
    remedy: str = ""


class Inspection(Record, frozen=True):
    """One artifact and what delegates make of it.

    Attributes:
        label: the artifact's path as it was given.
        resolution: height and width of the input.
        trained: whether the weights are; of random ones a drift says little.
        operators: how many there are of each kind, in the format's own names.
        delegates: the artifact's own first.
        seal: see `edgese.seals`.
    """

    label: str
    sha256: str
    target: str
    recipe: str
    model: str
    resolution: tuple[Side, Side]
    trained: bool
    operators: dict[str, Positive]
    delegates: tuple[DelegateReport, ...]
    not_asked: tuple[NotAsked, ...]
    edgese: str
    created: str
    seal: str = ""
    schema: int = INSPECTION_SCHEMA

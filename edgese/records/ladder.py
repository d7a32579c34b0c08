"""What ``edgese quantize --recipe auto`` leaves."""

from typing import Annotated, Literal

import msgspec

from edgese.records.artifact import Recipe
from edgese.records.base import Record
from edgese.records.bounds import Milliseconds, Percent, Seconds
from edgese.records.evaluation import Agreement, Proportion

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

"""How latency goes on when an artifact runs without a pause."""

from typing import Literal

from edgese.records.base import Record
from edgese.records.bounds import Celsius, Count, Factor, Finite, Positive, Seconds, Side
from edgese.records.measurement import (
    DeviceInfo,
    LatencySummary,
    Launch,
    ProfileFailure,
    Source,
)

SustainedCautionCode = Literal[
    "THROTTLED", "DRIFT", "FELL_OFF", "INTERRUPTED", "WARM_START", "CAUSE_UNKNOWN"
]

SUSTAINED_SCHEMA = 1


class SustainedCaution(Record, frozen=True):
    """Something that a reader of a curve should know.

    Attributes:
        numbers: what it was judged by.
        message: what was seen, as a sentence.
        advice: what to do about it.
    """

    code: SustainedCautionCode
    numbers: dict[str, Finite]
    message: str
    advice: str


class SustainedCurve(Record, frozen=True):
    """One artifact that ran without a pause.

    Attributes:
        label: the artifact's path as it was given.
        resolution: height and width of the input.
        trained: False for random weights.
        complete: False where it was interrupted; the windows until then are kept.
        launch: its process. Each block is a window: inferences without a pause, with the clock and
            the temperature right after.
        start_temperature_c: before it was loaded; None where the machine does not tell.
        throttle_events: that the machine counted meanwhile; None: unknown.
        span_s: of what ``first`` and ``last`` are about: a minute, or a third of a shorter run.
        first, last: the inferences of the first and of the last ``span_s``.
        ratio: p50 of the last span / of the first one; 1.2 is 20 % slower in the end.
        fell_off_s: when latency left the first span's for good: from then on nine of ten windows
            have a median that is 5 % or more above its p50. None where it did not.
        versions: of the packages that executed it.
    """

    label: str
    sha256: str
    target: str
    delegate: str
    recipe: str
    model: str
    resolution: tuple[Side, Side]
    trained: bool
    complete: bool
    launch: Launch
    start_temperature_c: Celsius | None
    throttle_events: Count | None
    span_s: Seconds
    first: LatencySummary
    last: LatencySummary
    ratio: Factor
    fell_off_s: Seconds | None
    versions: dict[str, str]
    cautions: tuple[SustainedCaution, ...] = ()
    source: Source = "measured"


class RankSwap(Record, frozen=True):
    """Two artifacts of which the faster one of the first span is the slower one of the last.

    Attributes:
        ahead: label of the one that is faster in the first span.
        behind: label of the one that is faster in the last span.
        first_ratio, last_ratio: p50 of ``behind`` / of ``ahead``; above 1, then below.
        crossed_s: from when on ``behind`` is the faster one for good.
    """

    ahead: str
    behind: str
    first_ratio: Factor
    last_ratio: Factor
    crossed_s: Seconds | None


class SustainedResult(Record, frozen=True):
    """What ``edgese profile --sustained`` leaves.

    Artifacts run one after the other, each for the whole time, because the heat of one would show
    in the curve of another if they took turns.

    Attributes:
        seconds: that each was to run; ``rest_s``: the pause between two.
        window_s: length of a window, at least: it ends with the inference that is under way.
        ranks_first, ranks_last: labels, the fastest first, by p50 of the first and last span.
        swaps: where the two differ by more than noise.
        complete: False where artifacts are missing or a curve was interrupted.
    """

    device: DeviceInfo
    threads: Positive
    seconds: Seconds
    window_s: Seconds
    rest_s: Seconds
    curves: tuple[SustainedCurve, ...]
    ranks_first: tuple[str, ...]
    ranks_last: tuple[str, ...]
    swaps: tuple[RankSwap, ...]
    failures: tuple[ProfileFailure, ...]
    complete: bool
    edgese: str
    created: str
    schema: int = SUSTAINED_SCHEMA

"""What each operator of an artifact takes, as its runtime tells."""

from typing import Annotated

import msgspec

from edgese.records.base import Record
from edgese.records.bounds import Count, Delay, Positive, Share, Side
from edgese.records.measurement import DeviceInfo, Source

OPERATORS_SCHEMA = 1


class OperatorTime(Record, frozen=True):
    """One operator of the graph that the runtime executes, which is not always the file's.

    Attributes:
        name: of the node, in the runtime's words.
        operator: kind, as in "QLinearConv".
        dtype: of its output, as in "uint8": a float operator in an int8 network stands out.
        output: shape of its output.
        mean_ms: over the counted inferences.
        share: of the whole inference, in 0..1.
    """

    name: str
    operator: str
    dtype: str
    output: tuple[Count, ...]
    mean_ms: Delay
    share: Share


class OperatorKindTime(Record, frozen=True):
    """All operators of one kind; see `OperatorTime`."""

    operator: str
    count: Positive
    mean_ms: Delay
    share: Share


class OperatorTimes(Record, frozen=True):
    """Times of the operators of one artifact on one device.

    They come from a process of their own, because recording them slows the runtime down: shares are
    what they are good for, and ``inference_ms`` is no latency.

    Where ``source`` is "emulated" there is no time in them: a millisecond is a million
    instructions, and ``amount`` says it so.

    Attributes:
        label: the artifact's path as it was given.
        resolution: height and width of the input.
        trained: False for random weights.
        unavailable: why there are no times; "" where there are.
        runs: inferences that count.
        inference_ms: mean of a whole inference while it was recorded; None without times.
        outside_ms: of it, what is in no operator.
        operators: in the order of execution.
        kinds: the most expensive first.
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
    device: DeviceInfo
    threads: Positive
    unavailable: str
    edgese: str
    created: str
    runs: Count = 0
    inference_ms: Delay | None = None
    outside_ms: Annotated[float, msgspec.Meta(ge=-1e9, le=1e9)] | None = None
    operators: tuple[OperatorTime, ...] = ()
    kinds: tuple[OperatorKindTime, ...] = ()
    versions: dict[str, str] = msgspec.field(default_factory=dict)
    source: Source = "measured"
    schema: int = OPERATORS_SCHEMA

    def amount(self, mean_ms: float) -> str:
        """What an operator takes, with its unit."""
        return f"{mean_ms:.3f} {'M instructions' if self.source == 'emulated' else 'ms'}"

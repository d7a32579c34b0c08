"""What was predicted, with its interval, and what it rests on."""

from itertools import pairwise
from math import inf
from typing import Annotated, Literal

import msgspec

from edgese.records.base import Interval, Record
from edgese.records.bounds import Count, Milliseconds, Positive, Share, Side

# How much of the device was seen: this board, its facts alone, or its facts and measurements
# that the caller gave.
DeviceKnown = Literal["measured", "facts", "anchored"]
# Whether the very network at the very resolution was measured somewhere.
NetworkKnown = Literal["measured", "new"]


class Anchor(Record, frozen=True):
    """A latency that the caller measured on the device, with the same target, delegate and recipe.

    Attributes:
        model: name of a model or of a network in calibration/latency/networks.
        resolution: None is the model's own.
    """

    model: str
    latency_ms: Milliseconds
    resolution: tuple[Side, Side] | None = None


class Evidence(Record, frozen=True):
    """How far predictions of this kind were off where the truth was left out of the fit.

    Attributes:
        fit: which fit: "ncnn-cpu", "xnnpack-cpu", "litert-accelerator", "qualcomm-npu".
        precision: "fp32" or "int8"; "all" where one fit serves both.
        device, network: what was left out: see `DeviceKnown` and `NetworkKnown`.
        anchors: networks that were measured on the device that was left out.
        count: predictions that were compared; groups: devices or networks they come from.
        within_10, within_20: share within 10 and 20 percent of the truth.
        coverage: share of truths in their 90 % interval, each interval made without the device or
            network that it was tried on.
        spread: 90 % of predictions are off by at most this factor: exp of the quantile of the
            absolute log error.
        quantiles: factors by which predictions are off at most, as a prediction for one more group
            would be: the k-th of them, from 1, with a confidence of k / (groups + 1). So there is
            one for each group, and none for a confidence above groups / (groups + 1).
    """

    fit: str
    precision: str
    device: DeviceKnown
    network: NetworkKnown
    count: Positive
    groups: Positive
    within_10: Share
    within_20: Share
    coverage: Share
    # Infinite where too few were left out to say; nothing is predicted from such evidence.
    spread: Annotated[float, msgspec.Meta(gt=0)]
    anchors: Count = 0
    quantiles: tuple[Annotated[float, msgspec.Meta(ge=1, le=1e6)], ...] = ()

    def __post_init__(self) -> None:
        """Refuse quantiles that are of another number of groups, fall, or are no factors.

        Raises:
            ValueError: as said.
        """
        if self.quantiles and len(self.quantiles) != self.groups:
            raise ValueError(f"{len(self.quantiles)} quantiles of {self.groups} groups")
        if not all(1 <= low <= high < inf for low, high in pairwise((1.0, *self.quantiles))):
            raise ValueError("quantiles that fall, or that are no factors of 1 or more")


class EvidenceTable(Record, frozen=True):
    """calibration/latency/evidence.toml."""

    evidence: tuple[Evidence, ...]


class Prediction(Record, frozen=True):
    """The latency of one picture on a device that was not measured.

    Attributes:
        delegate: "cpu", "gpu", "npu" or "edgetpu".
        threads: of the processor; None elsewhere.
        latency_ms: the middle of what is expected: half of the truths lie on either side.
        interval: 90 %.
        rows: published measurements that the fit rests on; ``sources`` are their urls.
        evidence: how far such predictions were off; where the prediction is a step on another, one
            for each, and the interval is that of both.
        cautions: what a reader should know, as sentences.
        artifact_sha256: of the artifact that it was made for; "" where it was made for a network.
    """

    model: str
    device: str
    target: str
    delegate: str
    precision: str
    threads: Positive | None
    resolution: tuple[Side, Side]
    latency_ms: Milliseconds
    interval: Interval
    rows: Count
    evidence: tuple[Evidence, ...]
    sources: tuple[str, ...]
    anchors: tuple[Anchor, ...] = ()
    cautions: tuple[str, ...] = ()
    artifact_sha256: str = ""
    source: Literal["predicted"] = "predicted"

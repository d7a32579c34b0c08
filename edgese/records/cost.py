"""What a network costs before anything is built: counts from its rows."""

from edgese.records.base import Record
from edgese.records.bounds import Count, Share, Side


class GateShare(Record, frozen=True):
    """How much of each count is there because of squeeze-and-excitation, in 0..1.

    The share of a count is what it loses when every gate is taken out of the network, over the
    count itself.
    """

    parameters: Share
    macs: Share
    paper_flops: Share
    peak_activation_bytes: Share


class StageCost(Record, frozen=True):
    """One line of a network's table.

    Attributes:
        name: "stem", "stages.0" ... or "head" (with the pool and the classifier).
        kind: the stage's block, or "stem" or "head".
        depth: number of blocks; of convolutions in the stem and the head.
        channels, height, width: of the tensor that leaves the stage.
        gates: number of squeeze-and-excitation gates.
        parameters, macs, paper_flops: of this stage alone, as in `ModelCost`.
        peak_activation_bytes: most that is alive while this stage runs, shortcuts included.
    """

    name: str
    kind: str
    depth: Count
    channels: Side
    height: Side
    width: Side
    gates: Count
    parameters: Count
    macs: Count
    paper_flops: Count
    peak_activation_bytes: Count
    gate_share: GateShare


class ModelCost(Record, frozen=True):
    """What one picture costs.

    Attributes:
        height, width: resolution that it is counted at.
        parameters: weights, biases, and BatchNorm's scale and shift; not its running statistics.
        macs: multiply-adds of convolutions and linear layers, padding counted as if it were data;
            half of what ``torch.utils.flop_counter`` counts.
        paper_flops: "FLOPs" as arXiv:1709.01507 counts them: a multiply-add is one, and besides
            the MACs there is one for each element that a global pool reads and one for each element
            that a gate scales. BatchNorm, biases, activations, residual additions and the stem's
            max pool are free.
        peak_activation_bytes: largest sum of fp32 tensors that are alive at once, with BatchNorm
            folded, nothing done in place and SiLU computed as ``x * sigmoid(x)``. The input counts
            until its last use.
        gate_weights: weights of all gates, without their biases.
    """

    model: str
    height: Side
    width: Side
    parameters: Count
    macs: Count
    paper_flops: Count
    peak_activation_bytes: Count
    gate_weights: Count
    gate_share: GateShare
    stages: tuple[StageCost, ...]

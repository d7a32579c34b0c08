"""What a network asks of a processor: work by kind, in units of one fast multiply-add.

The prior weights say roughly what one unit of each kind costs beside a multiply-add of a large 1x1
convolution; the fit then finds what they really cost. They are set from how such kernels work
(Winograd's transform saves multiply-adds of 3x3 convolutions and pays for each number it touches;
weights come from memory once), not from the networks that are predicted.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from edgese.prediction.networks import Layer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

KINDS: Final = (
    "pointwise",  # multiply-adds of 1x1 and grouped convolutions
    "pointwise_numbers",  # numbers that 1x1 convolutions read and write
    "winograd",  # multiply-adds of 3x3 convolutions of stride 1
    "winograd_numbers",
    "weights",  # of convolutions
    "dense",  # multiply-adds of other full convolutions
    "depthwise",
    "depthwise_numbers",
    "grouped_numbers",
    "linear",  # weights that are used once
    "elements",  # numbers that everything else reads and writes
    "operators",
    "start",  # of an inference, whatever the network
)
CPU: Final = (1.0, 15.0, 0.5, 20.0, 4.0, 1.2, 1.0, 4.0, 10.0, 6.0, 6.0, 30_000.0, 1e6)
# A matrix engine makes some 10^13 multiply-adds of full convolutions a second. Against one of them
# an fp16 weight from memory at 50 GB/s is 400, a number that vector units read or write on the chip
# at 100 GB/s 200, a multiply-add of theirs 10, a microsecond for each operator 10^7, and a
# tenth of a millisecond to hand over the input 10^9.
NPU: Final = (1.0, 200.0, 1.0, 200.0, 400.0, 1.0, 10.0, 200.0, 200.0, 400.0, 200.0, 1e7, 1e9)
# Winograd's transform makes more numbers of each weight.
_WINOGRAD_WEIGHTS: Final = 2
_PICTURE_CHANNELS: Final = 3


def work(network: Sequence[Layer], prior: tuple[float, ...] = CPU) -> "NDArray[np.float64]":
    """Work of a network by kind, in the order of `KINDS`."""
    import numpy as np

    found = dict.fromkeys(KINDS, 0.0) | {"start": 1.0}
    for layer in network:
        found["operators"] += 1
        _count(layer, found)
    counted: NDArray[np.float64] = np.array([found[kind] for kind in KINDS]) * np.array(prior)
    return counted


def _count(layer: Layer, found: dict[str, float]) -> None:
    numbers = layer.read + layer.written
    if layer.kind not in ("conv", "linear"):
        found["elements"] += numbers
        return
    if layer.kind == "linear" or (layer.size_in == (1, 1) and layer.size_out == (1, 1)):
        found["linear"] += layer.weights
        return
    if layer.groups == layer.channels_in and layer.groups > 1:
        found["weights"] += layer.weights
        found["depthwise"] += layer.macs
        found["depthwise_numbers"] += numbers
    elif layer.groups > 1:
        found["weights"] += layer.weights
        found["pointwise"] += layer.macs
        found["grouped_numbers"] += numbers
    elif layer.kernel == 1:
        found["weights"] += layer.weights
        found["pointwise"] += layer.macs
        found["pointwise_numbers"] += layer.read / layer.stride**2 + layer.written
    elif layer.kernel == 3 and layer.stride == 1 and layer.channels_in > _PICTURE_CHANNELS:
        found["weights"] += layer.weights * _WINOGRAD_WEIGHTS
        found["winograd"] += layer.macs
        found["winograd_numbers"] += numbers
    else:
        found["weights"] += layer.weights
        found["dense"] += layer.macs

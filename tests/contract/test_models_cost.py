"""The counts from the rows equal torch's own, and the peak equals what a run allocates."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from edgese.models.builder import build
from edgese.models.cost import cost
from edgese.models.registry import find_model, models
from edgese.program.folding import folded

TRACED = (
    ("efficientnet_b0", 64, 64),
    ("efficientnet_b1", 75, 61),
    ("efficientnet_lite0", 75, 61),
    ("tf_efficientnet_b0", 64, 65),
    ("efficientnet_v2_b0", 64, 96),
    ("se_resnet18", 65, 64),
    ("se_resnet50_v1", 66, 63),
    ("se_resnet20_small", 32, 32),
    ("resnext50_32x4d", 64, 64),
    ("senet154_v1", 64, 64),
)
# TensorFlow's twins differ in padding alone; the smallest stands for all.
SAME_ROWS = {f"tf_efficientnet_b{number}" for number in range(1, 8)}


@pytest.mark.parametrize("name", [name for name in models() if name not in SAME_ROWS])
def test_macs_and_parameters_equal_torchs(name):
    spec = find_model(name)
    size = spec.preprocessing
    with torch.device("meta"):
        network = build(spec).eval()
        picture = torch.zeros(1, 3, size.height, size.width)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(picture)
    counts = cost(spec)

    assert counts.macs == counter.get_total_flops() / 2
    assert counts.parameters == sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize(("name", "height", "width"), TRACED)
def test_peak_activation_bytes_equal_an_allocation_trace(name, height, width, peak_allocation):
    spec = find_model(name)

    picture = torch.zeros(1, 3, height, width)
    program = torch.export.export(folded(build(spec)), (picture,))

    peak = cost(spec, height, width).peak_activation_bytes

    assert peak == peak_allocation(program, picture)

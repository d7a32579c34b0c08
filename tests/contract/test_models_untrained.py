"""Random weights behave like trained ones."""

import time

import pytest
import torch

from edgese.models.registry import find_model
from edgese.models.weights import load_network, resolve_weights

pytestmark = pytest.mark.usefixtures("one_thread")


def untrained(name):
    spec = find_model(name)
    return load_network(spec, resolve_weights(spec, "none"))


def pictures(side):
    return torch.randn(8, 3, side, side, generator=torch.manual_seed(3))


@pytest.mark.parametrize(
    ("name", "side"),
    [
        ("efficientnet_b0", 160),
        ("efficientnet_lite0", 160),
        ("efficientnet_v2_b0", 160),
        ("se_resnet50", 160),
        ("se_resnet56_small", 32),
    ],
)
def test_activations_are_of_order_one_and_outputs_vary(name, side):
    network, info = untrained(name)
    spreads = []
    for stage in network.stages:
        stage.register_forward_hook(lambda _m, _i, output: spreads.append(float(output.std())))

    with torch.no_grad():
        logits = network(pictures(side))

    assert not network.training
    assert not info.trained
    assert 0.05 < min(spreads) <= max(spreads) < 10
    assert 0.1 < float(logits.std()) < 20
    assert float((logits - logits.mean(0)).std()) > 0.1


def test_untrained_weights_are_the_same_every_time():
    torch.manual_seed(1)
    first, _ = untrained("se_resnet20_small")
    torch.manual_seed(2)
    second, _ = untrained("se_resnet20_small")

    for name, tensor in first.state_dict().items():
        assert torch.equal(tensor, second.state_dict()[name]), name


def test_the_callers_random_numbers_are_not_touched():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    untrained("se_resnet20_small")

    assert torch.equal(torch.rand(3), expected)


def test_b0_takes_seconds():
    # CPU time, because the wall time of a busy host says nothing.
    start = time.process_time()
    untrained("efficientnet_b0")

    assert time.process_time() - start < 15

"""Trained weights, where they are at hand: they load, and compute what timm computes with them."""

import os
from pathlib import Path

import pytest
import torch

from edgese.errors import MissingDependency
from edgese.models.naming import stored_tensors
from edgese.models.registry import find_model
from edgese.models.weights import load_network, resolve_weights

pytestmark = pytest.mark.usefixtures("one_thread")


def assert_equal_outputs(network, other):
    side = network.spec.preprocessing.height
    pictures = torch.randn(2, 3, side, side, generator=torch.manual_seed(0))
    with torch.inference_mode():
        actual, expected = network(pictures), other.eval()(pictures)
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("size", [0, 1, 2])
def test_imagenet_weights_of_lite_compute_what_timm_computes(size, timm_reference):
    spec = find_model(f"efficientnet_lite{size}")
    try:
        resolved = resolve_weights(spec, "imagenet")
    except MissingDependency as error:
        pytest.skip(str(error))

    network, info = load_network(resolved.spec, resolved)
    state = network.state_dict()
    other = timm_reference.create_model(f"tf_efficientnet_lite{size}")
    other.load_state_dict(
        {theirs: state[tensor.name] for theirs, tensor in stored_tensors(spec, "timm").items()},
        strict=False,
    )

    assert info.naming == "efficientnet_pytorch"
    assert info.trained
    assert_equal_outputs(network, other)


def test_a_timm_file_computes_what_timm_computes(timm_reference):
    folder = os.environ.get("EDGESE_WEIGHTS")
    if folder is None:
        pytest.skip("EDGESE_WEIGHTS names no folder of weights")
    path = Path(folder) / "tf_efficientnetv2_b0.safetensors"
    spec = find_model("efficientnet_v2_b0")

    network, info = load_network(spec, resolve_weights(spec, str(path)))
    other = timm_reference.create_model("tf_efficientnetv2_b0", checkpoint_path=path)

    assert info.naming == "timm"
    assert_equal_outputs(network, other)

"""Parameters and outputs equal torchvision's and timm's, with the same weights carried over."""

import msgspec
import pytest
import torch

from edgese.models.builder import build
from edgese.models.cost import cost
from edgese.models.naming import NAMINGS, stored_tensors
from edgese.models.registry import customized, find_model, models
from edgese.models.untrained import plausible
from edgese.records.model import Normalization

KEYS = tuple(f"b{number}" for number in range(8))
DEPTHS = (18, 34, 50, 101, 152)
# Ours, their library, theirs.
COUNTERPARTS = (
    *((f"efficientnet_{key}", "torchvision", f"efficientnet_{key}") for key in KEYS),
    *((f"efficientnet_v2_{key}", "torchvision", f"efficientnet_v2_{key}") for key in "sml"),
    *((f"resnet{depth}", "torchvision", f"resnet{depth}") for depth in DEPTHS),
    ("resnext50_32x4d", "torchvision", "resnext50_32x4d"),
    ("resnext101_64x4d", "torchvision", "resnext101_64x4d"),
    *((f"efficientnet_{key}", "timm", f"efficientnet_{key}") for key in KEYS),
    *((f"tf_efficientnet_{key}", "timm", f"tf_efficientnet_{key}") for key in KEYS),
    *((f"efficientnet_lite{n}", "timm", f"tf_efficientnet_lite{n}") for n in range(5)),
    *((f"efficientnet_v2_b{n}", "timm", f"tf_efficientnetv2_b{n}") for n in range(4)),
    *((f"efficientnet_v2_{key}", "timm", f"efficientnetv2_{key}") for key in "sml"),
    *((f"tf_efficientnet_v2_{key}", "timm", f"tf_efficientnetv2_{key}") for key in "sml"),
    *((f"resnet{depth}", "timm", f"resnet{depth}") for depth in DEPTHS),
    *((f"se_resnet{depth}", "timm", f"seresnet{depth}") for depth in DEPTHS),
    *((f"se_resnet{depth}_v1", "timm", f"legacy_seresnet{depth}") for depth in DEPTHS),
    *(
        (f"se_resnext{kind}", "timm", f"seresnext{kind}")
        for kind in ("50_32x4d", "101_32x4d", "101_64x4d")
    ),
    *(
        (f"se_resnext{kind}_v1", "timm", f"legacy_seresnext{kind}")
        for kind in ("50_32x4d", "101_32x4d")
    ),
    ("resnext101_32x4d", "timm", "resnext101_32x4d"),
    ("senet154", "timm", "senet154"),
    ("senet154_v1", "timm", "legacy_senet154"),
)
# What neither library has: plain twins of forms that only exist with gates, and 32 px networks.
ALONE = {
    *(f"resnet{depth}_v1" for depth in DEPTHS),
    *(f"{kind}resnet{depth}_small" for kind in ("", "se_") for depth in (20, 32, 56, 110)),
    "se_resnext101_64x4d_v1",
    "senet154_plain",
}
# An even size, where "same" pads unevenly, and two odd ones, where it pads evenly.
SIZES = ((64, 64), (75, 83))


@pytest.fixture
def reference(torchvision_reference, timm_reference):
    """Builds a network of one of the two libraries without initialising it."""

    def built(library, name):
        with torch.device("meta"):
            if library == "timm":
                return timm_reference.create_model(name)
            return getattr(torchvision_reference, name)()

    return built


def counterpart(ours, library):
    """Our spec; timm has torch's eps where torchvision took over TensorFlow's."""
    spec = find_model(ours)
    if library == "timm" and spec.padding == "symmetric" and spec.normalization.eps != 1e-5:
        spec = msgspec.structs.replace(spec, name="timms_form", normalization=Normalization())
    return spec


def test_every_model_has_a_counterpart_or_stands_alone():
    compared = {ours for ours, _, _ in COUNTERPARTS}

    assert compared | ALONE == set(models())
    assert compared & ALONE == set()


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize(("ours", "library", "theirs"), COUNTERPARTS)
def test_parameters_and_outputs_equal_the_references(ours, library, theirs, reference):
    spec = counterpart(ours, library)
    # Any resolution has the same layers; statistics are cheapest to take at a small one.
    small = customized(spec, resolution=(64, 64))
    with torch.device("meta"):
        network = build(small)
    other = reference(library, theirs)
    parameters = sum(parameter.numel() for parameter in other.parameters())

    assert sum(parameter.numel() for parameter in network.parameters()) == parameters
    assert cost(spec).parameters == parameters

    plausible(network.to_empty(device="cpu"), seed=1)
    carry_over(network, other.to_empty(device="cpu").eval())
    generator = torch.Generator().manual_seed(2)
    for size in SIZES:
        pictures = torch.randn(2, 3, *size, generator=generator)
        with torch.inference_mode():
            actual, expected = network(pictures), other(pictures)

        assert (expected[0] - expected[1]).abs().max() > 0.1
        torch.testing.assert_close(actual, expected, rtol=0, atol=1e-4 * float(expected.std()))


def carry_over(network, other):
    """Gives the reference our weights under the names that our naming says it has."""
    state = other.state_dict()
    weights = network.state_dict()
    naming = next(
        key for key, entry in NAMINGS.items() if any(first in state for first in entry.first)
    )
    tensors = {
        theirs: weights[tensor.name]
        for theirs, tensor in stored_tensors(network.spec, naming).items()
    }
    counters = {name: state[name].zero_() for name in state if name.endswith("batches_tracked")}
    other.load_state_dict(tensors | counters, strict=True)

"""Weights that make up for the errors of their inputs."""

import copy
import os
from pathlib import Path

import msgspec
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from edgese import catalog  # noqa: E402
from edgese.conversion.integer import Integer, exported_with_pictures  # noqa: E402
from edgese.conversion.subject import find_subject  # noqa: E402
from edgese.quantization.canonical import canonical  # noqa: E402
from edgese.quantization.compensation import compensated  # noqa: E402
from edgese.quantization.insertion import simulated_module  # noqa: E402
from edgese.quantization.pictures import calibration_set  # noqa: E402
from edgese.quantization.ptq import fidelity, outputs, quantized  # noqa: E402

DATA = Path(os.environ.get("EDGESE_DATA", ""), "imagenet-ccby", "labels.csv")
V2_B0 = Path(os.environ.get("EDGESE_WEIGHTS", ""), "tf_efficientnetv2_b0.safetensors")
pytestmark = pytest.mark.usefixtures("one_thread")


def layer(module, shape):
    """The one node of a layer, as the corrections meet it."""
    program = torch.export.export(module.eval(), (torch.zeros(1, *shape),))
    graph = canonical(program).graph
    (node,) = (n for n in graph.nodes if n.op == "call_function")
    return node


def seen(count, shape, seed):
    """What a float network gives, each signal in several channels, and the same with errors."""
    generator = torch.Generator().manual_seed(seed)
    channels, *places = shape
    signals = torch.randn(count, channels // 4, *places, generator=generator)
    wanted = signals.repeat_interleave(4, dim=1)
    return wanted, wanted + 0.5 * torch.randn(wanted.shape, generator=generator)


def lost(module, weight, wanted, found):
    """The mean squared error of a layer's outputs."""
    changed = copy.deepcopy(module)
    changed.weight.data = weight
    with torch.no_grad():
        return float((changed(found) - module(wanted)).square().mean())


LAYERS = {
    "1x1": (lambda: nn.Conv2d(16, 8, 1), (16, 6, 6)),
    "3x3, stride, padding": (lambda: nn.Conv2d(16, 8, 3, 2, 1), (16, 9, 7)),
    "dilated": (lambda: nn.Conv2d(16, 8, (3, 1), dilation=(2, 1), padding=(2, 0)), (16, 8, 5)),
    "grouped": (lambda: nn.Conv2d(16, 8, 3, groups=2), (16, 8, 8)),
    "one place": (lambda: nn.Conv2d(16, 8, 1), (16, 1, 1)),
    "linear": (lambda: nn.Linear(16, 8), (16,)),
}


@pytest.mark.parametrize("kind", LAYERS)
def test_errors_cancel_on_pictures_that_were_not_looked_at(kind):
    torch.manual_seed(0)
    make, shape = LAYERS[kind]
    module = make()
    weight = module.weight.data
    node = layer(module, shape)
    new = compensated(node, weight, *seen(200, shape, 1), torch.Generator().manual_seed(0))
    assert new.shape == weight.shape
    fresh = seen(200, shape, 2)
    # Four channels carry each signal, so that a quarter of the errors' power is what must be left.
    assert lost(module, new, *fresh) < 0.6 * lost(module, weight, *fresh)


def test_a_depthwise_layer_averages_over_the_places_that_it_sees():
    torch.manual_seed(0)
    module = nn.Conv2d(8, 8, 3, padding=1, groups=8)
    generator = torch.Generator().manual_seed(1)
    wanted = torch.randn(64, 8, 1, 1, generator=generator).expand(-1, -1, 6, 6)
    found = wanted + 0.5 * torch.randn(wanted.shape, generator=generator)
    node = layer(module, (8, 6, 6))
    new = compensated(node, module.weight.data, wanted, found, generator)
    assert lost(module, new, wanted, found) < 0.8 * lost(module, module.weight.data, wanted, found)


def test_nothing_changes_where_nothing_is_lost_or_nothing_can_be_told():
    module = nn.Conv2d(16, 8, 1)
    weight = module.weight.data
    node = layer(module, (16, 4, 4))
    wanted, found = seen(32, (16, 4, 4), 1)
    generator = torch.Generator()
    assert compensated(node, weight, wanted, wanted, generator) is weight
    assert compensated(node, weight, wanted[:1], found[:1], generator) is weight
    # An error of one picture that no other has: what helps it does harm to the others.
    single = wanted.clone()
    single[0] = -single[0]
    assert compensated(node, weight, wanted, single, generator) is weight


def test_a_silent_channel_is_no_trouble():
    module = nn.Conv2d(16, 8, 1)
    node = layer(module, (16, 4, 4))
    wanted, found = (tensor.clone() for tensor in seen(32, (16, 4, 4), 1))
    for tensor in (wanted, found):
        tensor[:, :15] = 0
    new = compensated(node, module.weight.data, wanted, found, torch.Generator())
    assert torch.isfinite(new).all()
    zeros = torch.zeros_like(wanted)
    assert compensated(node, module.weight.data, wanted, zeros, torch.Generator()) is not None


@pytest.mark.slow
@pytest.mark.skipif(not DATA.is_file(), reason="EDGESE_DATA names no folder with imagenet-ccby")
@pytest.mark.skipif(not V2_B0.is_file(), reason="EDGESE_WEIGHTS names no folder with V2-B0")
def test_v2_b0_comes_closer_on_pictures_that_it_was_not_corrected_with():
    recipe = catalog.recipe("int8")
    how = recipe.quantization
    subject = find_subject(
        "efficientnet_v2_b0",
        weights=str(V2_B0),
        resolution=128,
        classes=None,
        features=False,
        preprocessing=None,
        labels=(),
        name=None,
        batch=1,
    )
    integer = Integer(recipe=recipe, pictures=calibration_set(DATA, 187, "calibration"))
    network, _ = subject.load()
    program, pictures = exported_with_pictures(
        network, subject.card, integer, batch=1, on_stage=lambda *_: None
    )
    order = np.random.default_rng(0).permutation(len(pictures))
    used, fresh = pictures[order[:120]], pictures[order[120:]]
    reference = outputs(canonical(program), fresh, 8)
    found = {}
    for compensation in (False, True):
        told = []
        changed = msgspec.structs.replace(
            recipe, quantization=msgspec.structs.replace(how, compensation=compensation)
        )
        made = quantized(program, changed, used, lambda *stage, told=told: told.append(stage))
        found[compensation] = fidelity(
            outputs(simulated_module(made.module, made.plan), fresh, 8), reference
        )
        assert ("correct each layer", 1.0) in told
    assert found[True].sqnr_db > found[False].sqnr_db + 0.25
    assert found[True].kl < found[False].kl

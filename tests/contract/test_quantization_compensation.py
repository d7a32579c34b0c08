"""Weights that make up for the errors of their inputs."""

import copy
import dataclasses

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from edgese.parallel import Lanes  # noqa: E402
from edgese.program.canonical import canonical  # noqa: E402
from edgese.quantization.calibration import observe  # noqa: E402
from edgese.quantization.compensation import FOLDS, Window, compensated  # noqa: E402
from edgese.quantization.corrections import corrected  # noqa: E402
from edgese.quantization.insertion import simulated_module  # noqa: E402
from edgese.quantization.layout import layout  # noqa: E402
from edgese.quantization.plan import planned  # noqa: E402
from edgese.records.quantization import QuantizationRecipe  # noqa: E402

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


def weight_for(node, weight, wanted, found, generator):
    """The compensated weight of a layer, all images at once."""
    window = Window(node, weight)
    folds = [
        window.moments(
            wanted[part::FOLDS],
            found[part::FOLDS],
            window.places(found.shape, len(found), generator),
        )
        for part in range(min(FOLDS, len(found)))
    ]
    with Lanes() as lanes:
        return compensated(window, weight, folds, len(found), lanes)


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
    new = weight_for(node, weight, *seen(200, shape, 1), torch.Generator().manual_seed(0))
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
    new = weight_for(node, module.weight.data, wanted, found, generator)
    assert lost(module, new, wanted, found) < 0.8 * lost(module, module.weight.data, wanted, found)


def test_nothing_changes_where_nothing_is_lost_or_nothing_can_be_told():
    module = nn.Conv2d(16, 8, 1)
    weight = module.weight.data
    node = layer(module, (16, 4, 4))
    wanted, found = seen(32, (16, 4, 4), 1)
    generator = torch.Generator()
    assert weight_for(node, weight, wanted, wanted, generator) is weight
    assert weight_for(node, weight, wanted[:1], found[:1], generator) is weight
    # An error of one picture that no other has: what helps it does harm to the others.
    single = wanted.clone()
    single[0] = -single[0]
    assert weight_for(node, weight, wanted, single, generator) is weight


def test_a_silent_channel_is_no_trouble():
    module = nn.Conv2d(16, 8, 1)
    node = layer(module, (16, 4, 4))
    wanted, found = (tensor.clone() for tensor in seen(32, (16, 4, 4), 1))
    for tensor in (wanted, found):
        tensor[:, :15] = 0
    new = weight_for(node, module.weight.data, wanted, found, torch.Generator())
    assert torch.isfinite(new).all()
    zeros = torch.zeros_like(wanted)
    assert weight_for(node, module.weight.data, wanted, zeros, torch.Generator()) is not None


class Wide(nn.Module):
    """Each signal in many channels, whose errors are their own."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Conv2d(3, 64, 1)
        self.stem.weight.data = self.stem.weight.data[:4].repeat(16, 1, 1, 1)
        self.body = nn.Conv2d(64, 8, 3, padding=1)
        self.head = nn.Linear(8, 5)

    def forward(self, x):
        """(N, 3, H, W) to (N, 5)."""
        return self.head(
            nn.functional.silu(self.body(nn.functional.silu(self.stem(x)))).mean((2, 3))
        )


def test_corrections_compensate_and_say_how_far_they_are():
    generator = np.random.default_rng(0)
    pictures = generator.normal(0, 1, (160, 3, 8, 8)).astype(np.float32)
    used, fresh = pictures[:96], torch.from_numpy(pictures[96:])
    module = canonical(torch.export.export(Wide().eval(), (torch.zeros(1, 3, 8, 8),)))
    recipe = QuantizationRecipe(ranges="min_max")
    where = layout(module)
    plan = planned(module, where, observe(module, where, used, "min_max", batch=8, seed=0), recipe)
    # The stem on a few levels, so that its errors are what is lost.
    coarse = {**plan.weights, "conv2d": (30 * plan.weights["conv2d"]).astype(np.float32)}
    plan = dataclasses.replace(plan, weights=coarse)
    errors = []
    for compensation in (False, True):
        own = copy.deepcopy(module)
        told = []
        changed = corrected(
            own, plan, used, spread=True, compensation=compensation, on_progress=told.append
        )
        with torch.no_grad():
            error = simulated_module(own, changed)(fresh) - module(fresh)
        errors.append(float(error.square().mean()))
        assert told == sorted(told)
        assert told[-1] == 1.0
    assert errors[1] < 0.9 * errors[0]


def test_layers_of_one_place_are_left_as_they_are_with_few_pictures():
    """What is told comes to an end, though the last layer is not changed."""
    torch.manual_seed(0)
    module = canonical(torch.export.export(Wide().eval(), (torch.zeros(1, 3, 8, 8),)))
    pictures = np.random.default_rng(0).normal(0, 1, (16, 3, 8, 8)).astype(np.float32)
    recipe = QuantizationRecipe(ranges="min_max")
    where = layout(module)
    seen_values = observe(module, where, pictures, "min_max", batch=8, seed=0)
    plan = planned(module, where, seen_values, recipe)
    told = []
    changed = corrected(
        module, plan, pictures, spread=True, compensation=True, on_progress=told.append
    )
    assert told[-1] == 1.0
    assert np.array_equal(changed.weights["linear"], plan.weights["linear"])
    assert not np.array_equal(changed.weights["conv2d_1"], plan.weights["conv2d_1"])

"""A user's own module in integers: the same whatever it is written with, and left as it was."""

import copy
import re
from pathlib import Path

import msgspec
import numpy as np
import pytest

from edgese import catalog

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from edgese.conversion.api import convert  # noqa: E402
from edgese.errors import ConfigError, ConversionError  # noqa: E402
from edgese.models.subject import from_module  # noqa: E402
from edgese.program.export import exported, reference_of  # noqa: E402
from edgese.program.forms import held_tensors  # noqa: E402
from edgese.program.integers import integer_outputs  # noqa: E402
from edgese.quantization.ptq import quantized  # noqa: E402
from edgese.records.model import Preprocessing  # noqa: E402
from edgese.statistics import mean_kl  # noqa: E402
from edgese.store import read_manifest  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")
SIDE = 24


@pytest.fixture(scope="module")
def images():
    coarse = np.random.default_rng(0).normal(0, 1, (16, 3, 6, 6))
    return coarse.repeat(4, 2).repeat(4, 3).astype(np.float32)


class Net(nn.Module):
    """Depthwise convolutions with uneven channels, which corrections matter for.

    Args:
        end: from what the last convolution gives to features, with the module for its parts.
    """

    def __init__(self, end):
        super().__init__()
        torch.manual_seed(3)
        layers, channels = [], 3
        for out in (12, 16):
            layers += [
                nn.Conv2d(channels, channels, 3, 2, 1, groups=channels, bias=False),
                nn.BatchNorm2d(channels),
                nn.ReLU6(),
                nn.Conv2d(channels, out, 1, bias=False),
                nn.BatchNorm2d(out),
                nn.ReLU6(),
            ]
            channels = out
        self.features = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(channels, 6)
        for part in self.features:
            if isinstance(part, nn.BatchNorm2d):
                nn.init.uniform_(part.weight, 0.1, 2)
                nn.init.normal_(part.bias, 0, 0.3)
                nn.init.uniform_(part.running_var, 0.1, 2)
            if isinstance(part, nn.Conv2d):
                part.weight.data *= torch.exp(torch.randn(len(part.weight), 1, 1, 1))
        self.end = end

    def forward(self, x):
        """(N, 3, H, W) to (N, 6)."""
        return self.head(self.end(self, self.features(x)))


ENDS = {
    "flatten": lambda net, x: torch.flatten(net.pool(x), 1),
    "view of a size": lambda net, x: net.pool(x).view(x.size(0), -1),
    "view of -1": lambda net, x: net.pool(x).view(-1, 16),
    "view of one": lambda net, x: net.pool(x).view(1, -1),
    "view of numbers": lambda net, x: net.pool(x).view(1, 16),
    "reshape": lambda net, x: net.pool(x).reshape(x.shape[0], -1),
    "squeeze": lambda net, x: net.pool(x).squeeze(3).squeeze(2),
    "mean": lambda _, x: x.mean((2, 3)),
    "flattened places": lambda _, x: x.view(x.shape[0], 16, -1).mean(2),
    "view there and back": lambda net, x: torch.flatten(
        net.pool(x.view(x.shape[0], 4, 4, 6, 6).reshape(x.shape[0], 16, 6, 6)), 1
    ),
}


def made_of(network, images, name="int8", batch=1):
    recipe = catalog.recipe(name)
    program = exported(network.eval(), "net", (batch, *images.shape[1:]))
    reference = reference_of(network, "net", images, batch)
    return quantized(program, recipe, images, reference=reference)


def numbers_of(made):
    """All weights, biases and scales of a program, and all quantization parameters, sorted."""
    tensors = sorted(
        np.ascontiguousarray(t.detach().numpy()).tobytes()
        for t in held_tensors(made.program).values()
    )
    grids = {
        tuple(node.args[1:3])
        for node in made.program.graph.nodes
        if "per_tensor" in str(node.target)
    }
    return tensors, grids


@pytest.mark.parametrize("end", [end for end in ENDS if end != "flatten"])
def test_the_integers_do_not_depend_on_how_a_shape_is_written(end, images):
    """Bias correction and compensation are part of the recipe, and of each of these."""
    plain, other = (made_of(Net(ENDS[name]), images) for name in ("flatten", end))
    assert numbers_of(other) == numbers_of(plain)
    assert other.fidelity.kl == pytest.approx(plain.fidelity.kl, rel=1e-3, abs=1e-7)
    assert other.notes == plain.notes


@pytest.mark.parametrize("end", ["view of a size", "reshape"])
def test_the_integers_do_not_depend_on_the_batch(end, images):
    one, four = (made_of(Net(ENDS[end]), images, batch=batch) for batch in (1, 4))
    assert numbers_of(one) == numbers_of(four)


def test_corrections_are_made_and_noted(images):
    net = Net(ENDS["view of a size"])
    made, plain = made_of(net, images), made_of(net, images, "int8-quick")
    assert made.fidelity.kl < plain.fidelity.kl
    assert plain.notes == ()
    noted = " ".join(made.notes)
    assert "bias correction: 4 of 5 layers; the others see one value an image" in noted
    assert "norm re-estimation: 4 of 5" in noted
    assert "compensation: " in noted


def test_fidelity_is_compared_with_the_module_itself(images):
    net = Net(ENDS["flatten"]).eval()
    made = made_of(net, images)
    with torch.no_grad():
        own = net(torch.from_numpy(images)).numpy()
        found = made.program.module(check_guards=False)
        rows = np.concatenate(
            [found(torch.from_numpy(images[i : i + 1])).numpy() for i in range(16)]
        )
    assert np.allclose(made.reference, own, atol=1e-5)
    assert made.fidelity.kl == pytest.approx(mean_kl(rows, own), rel=1e-3, abs=1e-7)
    exact = integer_outputs(made.program, images, 1)
    assert mean_kl(exact, own) < 3 * made.fidelity.kl + 1e-4


def state_of(module):
    """All that a call could leave behind in a module."""
    return {
        name: (
            part.training,
            tuple(part._forward_hooks) + tuple(part._forward_pre_hooks),  # noqa: SLF001  # no public way
            {
                key: (id(value), value.requires_grad, value.grad is None, value.clone())
                for key, value in [
                    *part.named_parameters(recurse=False),
                    *part.named_buffers(recurse=False),
                ]
            },
        )
        for name, part in module.named_modules()
    }


@pytest.mark.parametrize("training", [True, False])
def test_a_module_is_left_as_it_was(training, images):
    net = Net(ENDS["view of a size"]).train(training)
    net.features[0].weight.requires_grad_(False)
    net.features[1].train(not training)
    net.head.register_forward_hook(lambda *_: None)
    before = state_of(net)
    drawn, threads = torch.get_rng_state(), torch.get_num_threads()
    subject = from_module(
        net,
        name="net",
        preprocessing=Preprocessing(height=SIDE, width=SIDE),
        labels=(),
        classes=None,
        batch=1,
    )
    network, _ = subject.load()
    made = made_of(network, images, "int8-minmax")
    assert made.fidelity.sqnr_db > 10
    after = state_of(net)
    assert after.keys() == before.keys()
    for name, (mode, hooks, tensors) in before.items():
        assert after[name][:2] == (mode, hooks), name
        for key, (*held, value) in tensors.items():
            *now, new = after[name][2][key]
            assert now == held, (name, key)
            assert torch.equal(new, value), (name, key)
    assert torch.equal(torch.get_rng_state(), drawn)
    assert (torch.get_num_threads(), torch.is_grad_enabled()) == (threads, True)
    assert torch.get_default_dtype() is torch.float32


def shared(net, x):
    return torch.flatten(net.pool(net.again(torch.relu(net.again(x)))), 1)


def test_a_convolution_that_runs_twice_has_integers_of_its_own_each_time(images):
    net = Net(shared)
    net.again = nn.Conv2d(16, 16, 3, padding=1)
    net.features.add_module("alias", net.again)
    made = made_of(net, images, "int8-minmax")
    assert made.fidelity.sqnr_db > 10


def test_weights_in_another_order_in_memory_have_the_same_integers(images):
    net = Net(ENDS["flatten"])
    other = copy.deepcopy(net).to(memory_format=torch.channels_last)
    weight = other.features[3].weight
    other.features[3].weight = nn.Parameter(
        weight.detach().transpose(0, 1).contiguous().transpose(0, 1)
    )
    assert not other.features[3].weight.is_contiguous()
    first, second = (made_of(each, images, "int8-quick") for each in (net, other))
    assert numbers_of(first) == numbers_of(second)


def test_weights_that_are_computed_in_the_forward_are_computed_once(images):
    net = Net(ENDS["flatten"])
    plain = made_of(net, images, "int8-quick")
    nn.utils.parametrizations.weight_norm(net.head)
    made = made_of(net, images, "int8-quick")
    assert made.fidelity.kl == pytest.approx(plain.fidelity.kl, rel=0.2, abs=1e-6)


def kept_in_float(*patterns):
    base = catalog.recipe("int8-quick")
    how = msgspec.structs.replace(base.quantization, keep_float=patterns)
    return msgspec.structs.replace(base, quantization=how)


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("nowhere", "fits no module"),
        ("features.2", "fits activations alone"),
        ("*", "leaves no layer in integers"),
    ],
)
def test_a_pattern_that_keeps_nothing_or_all_in_float_is_refused(pattern, message, images):
    program = exported(Net(ENDS["flatten"]).eval(), "net", (1, *images.shape[1:]))
    with pytest.raises(ConfigError, match=message):
        quantized(program, kept_in_float("head", pattern), images)


def test_modules_are_named_and_not_what_the_forward_itself_computes(images):
    class Functional(nn.Module):
        """Its sum is in no module, so it has no name."""

        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Conv2d(3, 4, 3), nn.Linear(4, 5)

        def forward(self, x):
            return self.second(torch.relu(self.first(x)).mean((2, 3)))

    program = exported(Functional().eval(), "net", (1, *images.shape[1:]))
    with pytest.raises(ConfigError, match="fits no module") as refused:
        quantized(program, kept_in_float("nowhere"), images)
    assert "--analyze`: first, second ..." in str(refused.value)


def test_equalization_that_finds_nothing_is_noted(images):
    base = catalog.recipe("int8-quick")
    how = msgspec.structs.replace(base.quantization, equalization=True)
    recipe = msgspec.structs.replace(base, quantization=how)
    program = exported(Net(ENDS["flatten"]).eval(), "net", (1, *images.shape[1:]))
    (note,) = quantized(program, recipe, images).notes
    assert note.startswith("equalization: 0 pairs")


def test_notes_are_in_result_and_manifest(tmp_path):
    (row,) = convert(
        Net(ENDS["view of a size"]),
        "onnxruntime",
        recipe="int8",
        data="embedded",
        preprocessing=Preprocessing(height=SIDE, width=SIDE),
        out=tmp_path,
        use_cache=False,
    )
    assert row.status == "converted", row.error
    manifest = read_manifest(Path(row.artifact))
    assert row.notes == manifest.quantization.notes
    assert [note.split(":")[0] for note in row.notes] == [
        "bias correction",
        "norm re-estimation",
        "compensation",
    ]


class Sorts(nn.Module):
    """An operator without an integer form: in a module, or in the network's own forward."""

    def __init__(self, body):
        super().__init__()
        self.first, self.body, self.head = nn.Conv2d(3, 4, 3), body, nn.Linear(4, 5)

    def forward(self, x):
        """(N, 3, H, W) to (N, 5)."""
        x = self.first(x)
        x = torch.sort(x, dim=1)[0] if self.body is None else self.body(x)
        return self.head(x.mean((2, 3)))


class Sorted(nn.Module):
    """One such operator."""

    def forward(self, x):
        """Any shape to the same."""
        return torch.sort(x, dim=1)[0]


BOUNDED = nn.Hardtanh(0.5, 2.0)


@pytest.mark.parametrize(
    "body", [None, Sorted(), nn.Sequential(Sorted()), BOUNDED], ids=["root", "one", "deep", "clamp"]
)
def test_the_pattern_that_a_refusal_hints_at_keeps_the_operator_in_float(body, images):
    program = exported(Sorts(body).eval(), "net", (1, *images.shape[1:]))
    with pytest.raises(ConversionError) as refused:
        quantized(program, catalog.recipe("int8-quick"), images)
    (pattern,) = re.findall(r'keep_float = \["(.*)"\]', refused.value.hint)
    kept = quantized(program, kept_in_float(pattern), images)
    assert kept.plan.layout.floats
    assert kept.plan.weights

"""A network whose answer for an image is no function of that image alone is refused, by name."""

import numpy as np
import pytest

from edgese import catalog

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from edgese.errors import ConversionError  # noqa: E402
from edgese.program.canonical import canonical  # noqa: E402
from edgese.program.export import exported, reference_of  # noqa: E402
from edgese.quantization.ptq import quantized  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")
SIDE = 16


@pytest.fixture(scope="module")
def images():
    coarse = np.random.default_rng(0).normal(0, 1, (8, 3, 4, 4))
    return coarse.repeat(4, 2).repeat(4, 3).astype(np.float32)


class Net(nn.Module):
    """Two convolutions and a classifier, around an expression that holds the trap."""

    def __init__(self, trap, **parts):
        super().__init__()
        torch.manual_seed(1)
        self.stem = nn.Conv2d(3, 8, 3, 2, 1)
        self.conv = nn.Conv2d(8, 8, 3, 1, 1)
        self.head = nn.Linear(8, 5)
        self.trap = trap
        self.register_buffer("count", torch.zeros(()))
        for name, part in parts.items():
            self.add_module(name, part)

    def features(self, x):
        """(N, 3, H, W) to (N, 8, H / 2, W / 2)."""
        return torch.relu(self.conv(torch.relu(self.stem(x))))

    def forward(self, x):
        """(N, 3, H, W) to (N, 5)."""
        return self.trap(self, x)


def body(function):
    """A trap between the features and the classifier."""
    return lambda net, x: net.head(function(net, net.features(x)).mean((2, 3)))


class AlwaysOn(nn.Dropout):
    """Dropout of the Monte-Carlo kind: no mode takes it out."""

    def train(self, mode=True):  # noqa: FBT002  # as torch has it
        """Stay in training mode."""
        return super().train(mode or True)


class BatchNormAlwaysOn(nn.BatchNorm2d):
    """Normalizes with the batch's own statistics, whatever the mode."""

    def train(self, mode=True):  # noqa: FBT002  # as torch has it
        """Stay in training mode."""
        return super().train(mode or True)


def counted(net, x):
    net.count += 1
    return net.head(net.features(x).mean((2, 3))) + net.count


def running_mean(net, x):
    x = net.features(x)
    net.count.mul_(0.9).add_(0.1 * x.detach().mean())
    return net.head((x - net.count).mean((2, 3)))


RANDOM = {
    "dropout": (body(lambda _, x: F.dropout(x, 0.5, training=True)), "aten.dropout"),
    "dropout in place": (
        body(lambda _, x: F.dropout(x, 0.5, training=True, inplace=True)),
        "aten.dropout_",
    ),
    "channels": (body(lambda _, x: F.dropout2d(x, 0.5, training=True)), "aten.feature_dropout"),
    "alpha dropout": (
        body(lambda _, x: F.alpha_dropout(x, 0.5, training=True)),
        "aten.alpha_dropout",
    ),
    "noise": (body(lambda _, x: x + 0.1 * torch.randn_like(x)), "aten.randn_like"),
    "rand": (body(lambda _, x: x * torch.rand(1)), "aten.rand"),
    "bernoulli": (body(lambda _, x: x * torch.bernoulli(torch.sigmoid(x))), "aten.bernoulli"),
    "rrelu": (body(lambda _, x: F.rrelu(x - 0.5, training=True)), "aten.rrelu"),
    "stochastic depth": (
        body(lambda _, x: x * x.new_empty((x.shape[0], 1, 1, 1)).bernoulli_(0.5)),
        "aten.bernoulli_",
    ),
}


@pytest.mark.parametrize("name", RANDOM)
def test_random_numbers_are_refused_whatever_the_recipe(name):
    trap, operator = RANDOM[name]
    with pytest.raises(ConversionError, match=f"random numbers with {operator}"):
        exported(Net(trap).eval(), name, (1, 3, SIDE, SIDE))


def test_dropout_that_stays_on_is_refused_by_its_module_and_not_taken_out():
    net = Net(body(lambda net, x: net.drop(x)), drop=AlwaysOn(0.5)).eval()
    with pytest.raises(ConversionError, match=r"dropout\.default in drop,"):
        exported(net, "net", (1, 3, SIDE, SIDE))


def test_dropout_kept_on_by_its_parent_is_refused():
    class Parent(nn.Sequential):
        def train(self, mode=True):  # noqa: FBT002  # as torch has it
            super().train(mode)
            self[0].training = True
            return self

    net = Net(body(lambda net, x: net.drop(x)), drop=Parent(nn.Dropout(0.5))).eval()
    with pytest.raises(ConversionError, match=r"dropout\.default in drop\.0"):
        exported(net, "net", (1, 3, SIDE, SIDE))


def test_dropout_that_draws_nothing_is_nothing(images):
    off = Net(body(lambda _, x: F.alpha_dropout(F.dropout(x, 0.0, training=True), 0.5))).eval()
    plain = Net(body(lambda _, x: x)).eval()
    program = exported(off, "net", (1, 3, SIDE, SIDE))
    with torch.no_grad():
        x = torch.from_numpy(images)
        assert torch.allclose(canonical(program)(x), plain(x), atol=1e-6)


def test_a_program_that_draws_is_refused_without_an_export_too():
    net = Net(body(lambda _, x: F.dropout(x, 0.5, training=True))).eval()
    program = torch.export.export(net, (torch.zeros(1, 3, SIDE, SIDE),))
    with pytest.raises(ConversionError, match=r"random numbers with aten\.dropout"):
        canonical(program)


@pytest.mark.parametrize(
    "norm", [nn.BatchNorm2d(8, track_running_stats=False), BatchNormAlwaysOn(8)]
)
def test_statistics_of_the_batch_are_refused(norm):
    net = Net(body(lambda net, x: net.norm(x)), norm=norm).eval()
    with pytest.raises(ConversionError, match=r"statistics of the batch in .* in norm"):
        exported(net, "net", (1, 3, SIDE, SIDE))


@pytest.mark.parametrize("trap", [counted, running_mean])
def test_state_that_is_computed_with_is_refused(trap):
    with pytest.raises(ConversionError, match="changes its own count"):
        exported(Net(trap).eval(), "net", (1, 3, SIDE, SIDE))


def test_state_that_nobody_reads_is_no_matter(images):
    def counts(net, x):
        net.count += 1
        return net.head(net.features(x).mean((2, 3)))

    program = exported(Net(counts).eval(), "net", (1, 3, SIDE, SIDE))
    made = quantized(program, catalog.recipe("int8-minmax"), images)
    assert made.fidelity.sqnr_db > 25


def test_what_python_draws_is_seen_by_asking_twice(images):
    net = Net(lambda net, x: net.head(net.features(x).mean((2, 3))) * np.random.rand()).eval()  # noqa: NPY002  # as a user does
    with pytest.raises(ConversionError, match="another answer for the same image"):
        reference_of(net, "net", images, 1)


MIXING = {
    "mean": body(lambda _, x: x - x.mean(0, keepdim=True)),
    "sum": body(lambda _, x: x + x.sum(0, keepdim=True)),
    "maximum": body(lambda _, x: x / (1 + x.amax((0, 2, 3), keepdim=True))),
    "softmax": lambda net, x: net.head(net.features(x).mean((2, 3))).softmax(0),
    "order": body(lambda _, x: x.flip(0) + x),
    "size": body(lambda _, x: x * x.shape[0]),
}


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("name", MIXING)
def test_answers_that_depend_on_the_batch_are_refused(name, batch, images):
    with pytest.raises(ConversionError, match="depends on the other images of the batch"):
        reference_of(Net(MIXING[name]).eval(), name, images, batch)


@pytest.mark.parametrize("batch", [1, 2])
def test_a_module_for_one_size_of_batch_is_taken(batch, images):
    net = Net(lambda net, x: net.head(net.features(x).mean((2, 3)).view(batch, -1))).eval()
    plain = Net(body(lambda _, x: x)).eval()
    found = reference_of(net, "net", images, batch)
    assert np.allclose(found, reference_of(plain, "net", images, batch), atol=1e-5)


SHIFTED = {
    "view": (lambda x: x.mean((2, 3)).view(-1, 2).view(-1, 8), r"reshapes \(1, 8\) to \(4, 2\)"),
    "flatten": (lambda x: x.mean((2, 3)).flatten(0).view(-1, 8), r"reshapes \(1, 8\) to \(8,\)"),
    "squeeze": (lambda x: x.mean((2, 3)).squeeze(0).unsqueeze(0), "aten.unsqueeze.default"),
}


@pytest.mark.parametrize("name", SHIFTED)
def test_integers_refuse_by_name_what_moves_images_out_of_the_first_dimension(name, images):
    change, message = SHIFTED[name]
    net = Net(lambda net, x: net.head(change(net.features(x)))).eval()
    program = exported(net, "net", (1, 3, SIDE, SIDE))
    with pytest.raises(ConversionError, match=message):
        quantized(program, catalog.recipe("int8-minmax"), images)


def test_an_input_changed_in_place_is_computed_with(images):
    def doubled(net, x):
        x.mul_(2)
        return net.head(net.features(x).mean((2, 3)))

    net, plain = Net(doubled).eval(), Net(body(lambda _, x: x)).eval()
    reference = reference_of(net, "net", images, 1)
    assert np.allclose(reference, reference_of(plain, "net", 2 * images, 1), atol=1e-5)
    program = exported(net, "net", (1, 3, SIDE, SIDE))
    made = quantized(program, catalog.recipe("int8-minmax"), images, reference=reference)
    assert made.fidelity.sqnr_db > 25


def test_a_rewriting_that_computes_something_else_is_refused(images):
    """The network itself is the reference, not what was made of it."""
    net = Net(body(lambda _, x: x)).eval()
    other = Net(body(lambda _, x: x + 0.5)).eval()
    program = exported(other, "net", (1, 3, SIDE, SIDE))
    with pytest.raises(ConversionError, match="computes something else"):
        quantized(
            program,
            catalog.recipe("int8-minmax"),
            images,
            reference=reference_of(net, "net", images, 1),
        )

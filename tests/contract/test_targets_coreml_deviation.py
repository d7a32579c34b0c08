"""A saved package with codes beside its program, both computed without rounding."""

import shutil
from copy import copy
from functools import cache

import numpy as np
import pytest

from edgese.catalog import recipe
from edgese.errors import OperatorUnknown
from edgese.program.forms import folded_weights, pair_grid
from edgese.records.artifact import ModelCard, TargetOptions
from edgese.records.model import Preprocessing
from edgese.targets.coreml import package as mlpackage
from edgese.targets.coreml import pairs as mlpairs
from edgese.targets.coreml import quantization as mlquantization
from edgese.targets.coreml import target as coreml

torch = pytest.importorskip("torch")
pytest.importorskip("coremltools")

from torch import nn  # noqa: E402

from edgese.quantization.ptq import quantized  # noqa: E402
from edgese.targets.coreml import simulation as mlsimulation  # noqa: E402
from edgese.targets.coreml.mil.program import computed, loaded  # noqa: E402
from edgese.targets.coreml.mil.steps import Arithmetic  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")
HEIGHT, WIDTH, CLASSES = 24, 20, 5
CARD = ModelCard(
    name="net",
    classes=CLASSES,
    preprocessing=Preprocessing(height=HEIGHT, width=WIDTH, std=(0.2, 0.3, 0.25)),
)
# A float32 rounds a logit of 1 by so much.
ROUNDING = 1e-6


class Net(nn.Module):
    """What the families have: SiLU, a gate, sums with and without ReLU, pools, groups, padding."""

    def __init__(self, gate=torch.sigmoid):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2)
        self.pool = nn.MaxPool2d(3, stride=2, padding=1)
        self.expand = nn.Conv2d(8, 16, 1)
        self.spatial = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.reduce = nn.Conv2d(16, 4, 1)
        self.excite = nn.Conv2d(4, 16, 1)
        self.project = nn.Conv2d(16, 8, 1)
        self.grouped = nn.Conv2d(8, 8, 3, padding=1, groups=2)
        self.head = nn.Linear(8, CLASSES)
        self.gate = gate

    def forward(self, x):
        """(N, 3, H, W) to (N, classes)."""
        x = self.pool(torch.relu(self.stem(nn.functional.pad(x, (0, 1, 0, 1)))))
        y = nn.functional.silu(self.expand(x))
        y = nn.functional.silu(self.spatial(y))
        squeezed = torch.relu(self.reduce(y.mean((2, 3), keepdim=True)))
        x = x + self.project(y * self.gate(self.excite(squeezed)))
        x = torch.relu(self.grouped(x) + x)
        return self.head(x.mean((2, 3)))


@cache
def program(chosen="int8-minmax", gate=torch.sigmoid, batch=1):
    torch.manual_seed(0)
    exported = torch.export.export(Net(gate).eval(), (torch.zeros(batch, 3, HEIGHT, WIDTH),))
    return quantized(exported, recipe(chosen), pictures(16, seed=1)).program


def pictures(count=2, seed=0):
    """Whole pixels, normalized."""
    pixels = np.random.default_rng(seed).integers(0, 256, (count, 3, HEIGHT, WIDTH)) / 255
    p = CARD.preprocessing
    mean, std = (np.reshape(each, (1, 3, 1, 1)) for each in (p.mean, p.std))
    return ((pixels - mean) / std).astype(np.float32)


class Saved:
    """A package of a program."""

    def __init__(self, folder, made, chosen="int8-minmax", **options):
        self.made = made
        self.path = folder / "net.mlpackage"
        self.interface = coreml.convert(
            made,
            CARD,
            recipe(chosen),
            TargetOptions(**options),
            self.path,
            lambda _stage, _fraction: None,
        )

    def deviation(self):
        """As its target tells it."""
        return coreml.deviation(self.made, CARD, self.path, self.interface, pictures())

    def copied(self, folder):
        """The same with a file of its own."""
        other = copy(self)
        other.path = folder / "net.mlpackage"
        shutil.copytree(self.path, other.path)
        return other

    def rewrite(self, change):
        """Changes the operators of the file."""
        package = mlpackage.read(self.path)
        change(package.block.operations)
        path = self.path / "Data" / "com.apple.CoreML" / "model.mlmodel"
        path.write_bytes(package.spec.SerializeToString())

    def replace(self, old, new):
        """Changes the file's weights."""
        path = self.path / "Data" / "com.apple.CoreML" / "weights" / "weight.bin"
        content = path.read_bytes()
        assert content.count(old) == 1
        path.write_bytes(content.replace(old, new))


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    return Saved(tmp_path_factory.mktemp("saved"), program())


def test_a_package_is_its_program_to_the_last_digit(saved):
    assert saved.deviation() < ROUNDING


@pytest.mark.parametrize(
    ("chosen", "gate", "options"),
    [
        ("int8-minmax", torch.sigmoid, {"deployment_target": "iOS18"}),
        ("int8-minmax", torch.sigmoid, {"image_input": True}),
        ("int8-minmax", nn.functional.hardsigmoid, {}),
        ("int8-weights", torch.sigmoid, {}),
        ("int8-weights", torch.sigmoid, {"deployment_target": "iOS18"}),
    ],
)
def test_so_it_is_in_every_form(chosen, gate, options, tmp_path):
    made = Saved(tmp_path, program(chosen, gate), chosen, **options)
    assert made.deviation() < ROUNDING


def test_pictures_need_not_fill_the_files_batch(tmp_path):
    assert Saved(tmp_path, program(batch=3), batch=3).deviation() < ROUNDING


def test_in_halves_it_is_not(saved):
    packaged = mlpairs.fusable(folded_weights(program()))
    wanted = mlsimulation.simulated(packaged, pictures(8))
    found = coreml.load(saved.path, saved.interface, threads=1)(pictures(8))
    assert np.abs(found - wanted).max() > saved.interface.output.grid.scale / 2


def one_class(saved):
    wanted = mlquantization.expected(mlpairs.fusable(folded_weights(program())))
    (*_, (codes, _)) = wanted.weights
    saved.replace(codes, bytes(code ^ 0x10 for code in codes[:8]) + codes[8:])


def one_bias(saved):
    biases = torch.cat([node for node in saved.made.state_dict.values() if node.shape == (16,)])
    first = biases[:16].detach().half().numpy().tobytes()
    saved.replace(first, bytes([first[0], first[1] ^ 0x10]) + first[2:])


def one_scale(saved):
    def change(operations):
        held = {op.outputs[0].name: op for op in operations}
        pairs = [op for op in operations if op.type == "quantize"]
        scales = [held[op.inputs["scale"].arguments[0].name] for op in pairs]
        scales[1].attributes["val"].CopyFrom(scales[-1].attributes["val"])

    saved.rewrite(change)


def one_zero_point(saved):
    def change(operations):
        held = {op.outputs[0].name: op for op in operations}
        (*_, last) = [
            op for op in operations if op.type == "dequantize" and "zero_point" in op.inputs
        ]
        value = held[last.inputs["zero_point"].arguments[0].name].attributes["val"]
        codes = value.immediateValue.tensor.bytes
        codes.values = bytes([codes.values[0] ^ 1])

    saved.rewrite(change)


def padding_moved(saved):
    def change(operations):
        held = {op.outputs[0].name: op for op in operations}
        (stem, *_) = [op for op in operations if op.type == "conv"]
        values = held[stem.inputs["pad"].arguments[0].name].attributes["val"]
        amounts = values.immediateValue.tensor.ints.values
        assert list(amounts) == [0, 1, 0, 1]
        amounts[:] = [1, 0, 1, 0]

    saved.rewrite(change)


@pytest.mark.parametrize("damage", [one_class, one_bias, one_scale, one_zero_point, padding_moved])
def test_one_wrong_number_is_seen(damage, saved, tmp_path):
    damaged = saved.copied(tmp_path)
    damage(damaged)
    assert damaged.deviation() > 100 * ROUNDING


def test_scales_around_a_sum_are_divided_by_the_second_summands():
    made = mlpairs.fusable(folded_weights(program()))
    held = {
        node: mlsimulation._divisor(node)  # noqa: SLF001  # the rule itself
        for node in made.graph.nodes
        if str(node.target) == "aten.add.Tensor"
    }
    assert len(held) == 2
    for node, divisor in held.items():
        assert divisor == pair_grid(node.args[1]).scale


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ([1e-9, -1e-9, 0.0, 1.0], [2.0**-24, -(2.0**-24), 0.0, 1.0]),
        ([1e-9] * 400, [0.0] * 400),
        ([0.1], [float(np.float16(0.1))]),
    ],
)
def test_numbers_are_halves_as_coremltools_makes_them(values, wanted):
    found = mlsimulation._halves(torch.tensor(values))  # noqa: SLF001  # the rule itself
    assert found.tolist() == wanted


@pytest.mark.parametrize("chosen", ["fp16", "fp32"])
def test_floats_tell_by_their_answers(chosen, tmp_path):
    exported = torch.export.export(Net().eval(), (torch.zeros(1, 3, HEIGHT, WIDTH),))
    assert Saved(tmp_path, exported, chosen).deviation() is None


def test_an_operator_that_may_be_computed_otherwise_proves_nothing(saved, monkeypatch):
    monkeypatch.setattr(mlsimulation, "_KNOWN", mlsimulation._KNOWN - {"aten.mean.dim"})  # noqa: SLF001  # what it knows
    assert set(mlsimulation.unknown(folded_weights(program()))) == {"aten.mean.dim"}
    assert saved.deviation() is None


def test_an_operator_without_a_kernel_is_told(saved, tmp_path):
    foreign = saved.copied(tmp_path)

    def change(operations):
        next(op for op in operations if op.type == "sigmoid").type = "lstm"

    foreign.rewrite(change)
    with pytest.raises(OperatorUnknown, match="lstm"):
        foreign.deviation()


def test_doubles_are_computed_as_pytorch_computes_doubles(tmp_path):
    torch.manual_seed(0)
    network = Net().eval()
    exported = torch.export.export(network, (torch.zeros(1, 3, HEIGHT, WIDTH),))
    saved = Saved(tmp_path, exported, "fp32")
    package = mlpackage.read(saved.path)
    given = torch.from_numpy(pictures(3))
    found = computed(loaded(saved.path, package, "logits", Arithmetic.DOUBLES), given)
    floats = computed(loaded(saved.path, package, "logits", Arithmetic.FLOATS), given)
    with torch.inference_mode():
        wanted = network.double()(given.double())
    assert (found.dtype, floats.dtype) == (torch.float64, torch.float32)
    assert (found - wanted).abs().max() < 1e-12
    assert (floats - wanted).abs().max() > 1e-10

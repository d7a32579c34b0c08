"""Integer ExecuTorch programs: one delegate, integers throughout, and PyTorch's numbers."""

from functools import cache
from pathlib import Path

import msgspec
import numpy as np
import pytest

from edgese.catalog import recipe
from edgese.errors import ConfigError, ConversionError
from edgese.program.forms import folded_weights
from edgese.records.artifact import Interface, ModelCard, TargetOptions
from edgese.records.model import Preprocessing
from edgese.targets.batches import codes, values
from edgese.targets.executorch import pte, xnnpack
from edgese.targets.executorch import target as executorch

torch = pytest.importorskip("torch")
pytest.importorskip("executorch")

from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from edgese.program.integers import integer_outputs  # noqa: E402
from edgese.quantization.ptq import quantized  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")
HEIGHT, WIDTH, CLASSES = 24, 20, 12


class Gate(nn.Module):
    """Squeeze-and-excitation by one kind of squeeze."""

    def __init__(self, squeeze):
        super().__init__()
        self.squeeze = squeeze
        self.reduce = nn.Conv2d(16, 4, 1)
        self.expand = nn.Conv2d(4, 16, 1, bias=False)

    def forward(self, x):
        """Any picture to one of the same shape."""
        squeezed = x
        if self.squeeze == "avg":
            squeezed = F.adaptive_avg_pool2d(x, 1)
        elif self.squeeze == "mean":
            squeezed = x.mean((2, 3))[:, :, None, None]
        elif self.squeeze == "max":
            squeezed = F.max_pool2d(x, x.shape[2:])
        return x * torch.sigmoid(self.expand(torch.relu(self.reduce(squeezed))))


class Function(nn.Module):
    """A body that is an expression of a convolution's output and its input."""

    def __init__(self, function, channels=16):
        super().__init__()
        self.function = function
        self.conv = nn.Conv2d(channels, channels, 1)

    def forward(self, x):
        """Any picture to another."""
        return self.function(self.conv(x), x)


class Net(nn.Module):
    """A stem, a body that holds the trap, and a classifier over what is left of the picture."""

    def __init__(self, body, *, channels=16, flattens=False):
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, stride=2, padding=1)
        self.body = body
        self.flattens = flattens
        self.head = nn.Linear(channels, CLASSES)

    def forward(self, x):
        """(N, 3, H, W) to (N, classes)."""
        x = self.stem(x)
        x = self.body(x * torch.sigmoid(x))
        return self.head(torch.flatten(x if self.flattens else F.adaptive_avg_pool2d(x, 1), 1))


def shuffled(y, _):
    """Channels of two groups in turn, as in ShuffleNet: five dimensions and a permutation."""
    batch, channels, height, width = y.shape
    parts = y.view(batch, 2, channels // 2, height, width).permute(0, 2, 1, 3, 4)
    return parts.reshape(batch, channels, height, width)


def summed(y, _):
    for number in range(24):
        y = y + (0.5 - number % 2)
    return y


BODIES = {
    "depthwise_strided": lambda: nn.Conv2d(16, 16, 5, stride=2, padding=2, groups=16),
    "depthwise_multiplied": lambda: nn.Sequential(
        nn.Conv2d(16, 32, 3, padding=1, groups=16), nn.Conv2d(32, 16, 1)
    ),
    "grouped": lambda: nn.Conv2d(16, 16, 3, padding=1, groups=4),
    "dilated": lambda: nn.Conv2d(16, 16, 3, padding=2, dilation=2),
    "wide_window": lambda: nn.Conv2d(16, 16, (1, 5), stride=(1, 2), padding=(0, 2)),
    "same_padding": lambda: nn.Sequential(
        nn.ZeroPad2d((0, 1, 1, 2)), nn.Conv2d(16, 16, 4, stride=2)
    ),
    "gate_avg": lambda: Gate("avg"),
    "gate_mean": lambda: Gate("mean"),
    "gate_max": lambda: Gate("max"),
    "gate_none": lambda: Gate("none"),
    "max_pool": lambda: nn.MaxPool2d(3, 2, 1),
    "max_pool_ceil": lambda: nn.MaxPool2d(3, 2, ceil_mode=True),
    "max_pool_of_one": lambda: nn.MaxPool2d(1),
    "average_pool": lambda: nn.AvgPool2d(2),
    "average_pool_padded": lambda: nn.AvgPool2d(3, 2, 1),
    "concatenated": lambda: Function(lambda y, x: torch.cat([y, x * 3, torch.sigmoid(x)], 1)),
    "concatenated_often": lambda: Function(lambda y, x: torch.cat([y, x, y, x, y, x, y], 1)),
    "residual_relu": lambda: Function(lambda y, x: torch.relu(x + y)),
    "hard_activations": lambda: nn.Sequential(
        nn.Conv2d(16, 16, 1), nn.Hardswish(), nn.Conv2d(16, 16, 1), nn.Hardsigmoid()
    ),
    "shuffled": lambda: Function(shuffled),
    # XNNPACK crashes over more than ten operators of one tensor in a row.
    "long_row": lambda: Function(summed),
    "flattened_picture": lambda: nn.AvgPool2d(4),
}
SHAPES = {
    "concatenated": {"channels": 48},
    "concatenated_often": {"channels": 112},
    "flattened_picture": {"channels": 16 * 3 * 2, "flattens": True},
}


@cache
def program(name, batch=1):
    torch.manual_seed(0)
    network = Net(BODIES[name](), **SHAPES.get(name, {})).eval()
    exported = torch.export.export(network, (torch.zeros(batch, 3, HEIGHT, WIDTH),))
    return quantized(exported, recipe("int8-minmax"), pictures(16)).program


def kept_in_floats(body, *patterns):
    """A program of which some modules compute in floats."""
    base = recipe("int8-minmax")
    how = msgspec.structs.replace(base.quantization, keep_float=patterns)
    torch.manual_seed(0)
    exported = torch.export.export(Net(body).eval(), (torch.zeros(1, 3, HEIGHT, WIDTH),))
    return quantized(
        exported, msgspec.structs.replace(base, quantization=how), pictures(16)
    ).program


def pictures(count, seed=0):
    generator = np.random.default_rng(seed)
    return generator.standard_normal((count, 3, HEIGHT, WIDTH)).astype(np.float32)


def card() -> ModelCard:
    preprocessing = Preprocessing(height=HEIGHT, width=WIDTH)
    return ModelCard(name="tiny", classes=CLASSES, preprocessing=preprocessing)


def converted(made, folder, chosen="int8-minmax", **options) -> tuple[Path, Interface]:
    artifact = folder / f"tiny-{len(tuple(folder.iterdir()))}.pte"
    interface = executorch.convert(
        made,
        card(),
        recipe(chosen),
        TargetOptions(**options),
        artifact,
        lambda _stage, _fraction: None,
    )
    return artifact, interface


def simulated(made, given):
    module = made.module(check_guards=False)
    with torch.inference_mode():
        return np.concatenate([module(torch.from_numpy(row[None])).numpy() for row in given])


@pytest.mark.parametrize("name", BODIES)
def test_int8_is_one_delegate_of_integers_that_computes_what_pytorch_does(name, tmp_path):
    made = program(name)
    artifact, interface = converted(made, tmp_path)
    report = executorch.inspect(artifact, "")
    assert (report.delegate, report.partitions, report.outside) == ("xnnpack", 1, ())
    # One at either end; a sigmoid's codes are put on the grid that is joined.
    assert report.operators["convert"] == (3 if name == "concatenated" else 2)
    assert interface.input.dtype == interface.output.dtype == "float32"
    assert interface.output.grid is not None

    given = pictures(6, seed=1)
    found = executorch.load(artifact, interface, threads=1)(given)
    np.testing.assert_array_equal(found, integer_outputs(made, given, 1))
    steps = np.abs(found - simulated(made, given)) / interface.output.grid.scale
    assert np.mean(steps < 1.5) > 0.95


def test_codes_at_the_ends_mean_what_floats_do(tmp_path):
    made = program("gate_avg")
    given = pictures(3, seed=1)
    artifact, floats = converted(made, tmp_path)
    expected = executorch.load(artifact, floats, threads=1)(given)
    artifact, interface = converted(made, tmp_path, io="int8")
    report = executorch.inspect(artifact, "")
    assert "convert" not in report.operators
    assert (report.partitions, report.outside) == (1, ())
    assert interface.input.dtype == interface.output.dtype == "int8"
    assert (interface.input.grid, interface.output.grid) == (floats.input.grid, floats.output.grid)
    np.testing.assert_array_equal(executorch.load(artifact, interface, threads=1)(given), expected)

    from executorch.extension.pybindings import _portable_lib as runtime

    method = runtime._load_program(str(artifact)).load_method("forward")  # noqa: SLF001  # as the target does
    (logits,) = method((torch.from_numpy(codes(given[:1], interface.input.grid)),))
    assert logits.dtype == torch.int8
    np.testing.assert_array_equal(values(logits.numpy(), interface.output.grid), expected[:1])


def test_weights_take_a_byte_each(tmp_path):
    torch.manual_seed(0)
    network = Net(nn.Conv2d(16, 256, 3), channels=256).eval()
    exported = torch.export.export(network, (torch.zeros(1, 3, HEIGHT, WIDTH),))
    made = quantized(exported, recipe("int8-minmax"), pictures(8)).program
    artifact, _ = converted(made, tmp_path)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    assert parameters > 30_000
    assert artifact.stat().st_size < 1.5 * parameters


def test_a_program_with_folded_weights_makes_the_same_graph():
    made = program("same_padding")
    graphs = [xnnpack.lowered(each, io_codes=False) for each in (made, folded_weights(made))]
    assert graphs[0].serialized() == graphs[1].serialized()
    assert graphs[0].stored == graphs[1].stored


def test_a_part_that_is_kept_in_floats_computes_right_and_is_told(tmp_path):
    body = nn.Sequential(Gate("avg"), nn.Conv2d(16, 16, 3, padding=1), nn.ReLU6(), nn.AvgPool2d(2))
    made = kept_in_floats(body, "body*")
    artifact, interface = converted(made, tmp_path)
    outside = {each.operator: each for each in executorch.inspect(artifact, "").outside}
    assert {"conv2d", "sigmoid", "multiply", "clamp", "convert", "depthwise_conv2d"} <= {*outside}
    assert outside["conv2d"].count == 3
    assert "in floats" in outside["conv2d"].reason
    given = pictures(4, seed=1)
    found = executorch.load(artifact, interface, threads=1)(given)
    assert np.abs(found - simulated(made, given)).max() < 1.5 * interface.output.grid.scale


def test_an_output_in_floats_has_no_grid_and_no_codes(tmp_path):
    made = kept_in_floats(Gate("avg"), "head")
    artifact, interface = converted(made, tmp_path)
    assert interface.input.grid is not None
    assert interface.output.grid is None
    given = pictures(3, seed=1)
    found = executorch.load(artifact, interface, threads=1)(given)
    np.testing.assert_allclose(found, simulated(made, given), atol=0.01)
    with pytest.raises(ConfigError, match="int8 codes"):
        converted(made, tmp_path, io="int8")


def test_codes_are_widened_for_a_stem_in_floats(tmp_path):
    made = kept_in_floats(Gate("avg"), "stem")
    given = pictures(3, seed=1)
    found = [
        executorch.load(*converted(made, tmp_path, io=io), threads=1)(given)
        for io in ("float", "int8")
    ]
    np.testing.assert_array_equal(*found)


def test_a_batch_of_several_goes_through(tmp_path):
    artifact, interface = converted(program("gate_avg", batch=2), tmp_path, batch=2)
    assert interface.input.shape == (2, 3, HEIGHT, WIDTH)
    given = pictures(3, seed=1)
    rows = executorch.load(artifact, interface, threads=1)(given)
    alone, floats = converted(program("gate_avg"), tmp_path)
    expected = executorch.load(alone, floats, threads=1)(given)
    assert np.abs(rows - expected).max() < 1.5 * interface.output.grid.scale


def test_what_xnnpack_cannot_execute_is_refused_before_anything_is_made():
    for chosen, options, told in (
        ("int8-minmax", TargetOptions(delegate="portable"), "portable"),
        ("int8-weights", TargetOptions(), "int8-weights"),
        ("fp32", TargetOptions(io="int8"), "io"),
    ):
        with pytest.raises(ConfigError, match=told):
            executorch.check(card(), recipe(chosen), options)


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (nn.AvgPool2d(3, 2, 1, count_include_pad=False), "fewer values"),
        (nn.AvgPool2d(3, 2, ceil_mode=True), "fewer values"),
        (nn.MaxPool2d(2, 3), "stride"),
        (lambda x: torch.constant_pad_nd(x, [-1, 0], 0.0), "cuts off"),
        (nn.AdaptiveAvgPool2d(2), "averages to"),
        (lambda x: x.mean(1, keepdim=True), "average over"),
        (lambda x: torch.add(x, x, alpha=2), "by 2"),
        (nn.GELU(), "gelu"),
    ],
)
def test_what_cannot_be_written_is_refused_by_name(body, told):
    network = Function(lambda _, x: body(x), channels=3).eval()
    plain = torch.export.export(network, (torch.zeros(1, 3, HEIGHT, WIDTH),))
    with pytest.raises(ConversionError, match=told):
        xnnpack.lowered(plain, io_codes=False)


def test_sums_that_are_too_coarse_for_their_output_are_refused(tmp_path):
    from edgese.program.nodes import QUANTIZE

    made = program("grouped").run_decompositions({})
    (conv,) = [n for n in made.graph.nodes if "conv2d" in n.name and "body" in str(n.meta)][:1]
    (reader,) = conv.users
    assert str(reader.target) == QUANTIZE
    for node in (reader, *reader.users):
        node.args = (node.args[0], 1e-9, *node.args[2:])
    with pytest.raises(ConversionError, match="coarser"):
        converted(made, tmp_path)


def test_operators_of_floats_are_written_as_well():
    body = Function(
        lambda y, x: F.hardswish(y) * torch.tanh(x) + F.relu(x) + 1 + x.clamp(-0.5, 0.25)
    )
    network = Net(body).eval()
    plain = torch.export.export(network, (torch.zeros(1, 3, HEIGHT, WIDTH),))
    graph = xnnpack.lowered(plain, io_codes=False)
    kinds = {type(node.xnode_union).__name__ for node in graph.nodes}
    assert {"XNNHardswish", "XNNTanh", "XNNClamp", "XNNAdd"} <= kinds
    assert "XNNConvert" not in kinds


def test_an_artifact_of_floats_has_nothing_outside(tmp_path):
    plain = torch.export.export(Net(Gate("avg")).eval(), (torch.zeros(1, 3, HEIGHT, WIDTH),))
    artifact, interface = converted(plain, tmp_path, "fp32")
    assert not pte.read(artifact).in_floats
    assert interface.input.grid is None

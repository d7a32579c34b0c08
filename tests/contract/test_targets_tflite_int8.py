"""Integer TFLite artifacts: integers throughout, in one piece, and what PyTorch computes."""

from functools import cache
from pathlib import Path

import msgspec
import numpy as np
import pytest

from edgese.catalog import recipe
from edgese.errors import ConfigError, ConversionError
from edgese.program.forms import folded_weights, held_tensors
from edgese.records.artifact import Interface, ModelCard, TargetOptions
from edgese.records.model import Preprocessing
from edgese.targets.batches import codes, values
from edgese.targets.tflite import quantized as tflquantized
from edgese.targets.tflite import target as tflite

torch = pytest.importorskip("torch")
pytest.importorskip("ai_edge_litert")

from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from edgese.program.integers import integer_outputs  # noqa: E402
from edgese.quantization.ptq import quantized  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")
HEIGHT, WIDTH, CLASSES = 24, 20, 12


class Gate(nn.Module):
    """Squeeze-and-excitation by one kind of squeeze."""

    def __init__(self, channels, squeeze):
        super().__init__()
        self.squeeze = squeeze
        self.reduce = nn.Conv2d(channels, 4, 1)
        self.expand = nn.Conv2d(4, channels, 1, bias=False)

    def forward(self, x):
        """Any picture to one of the same shape."""
        squeezed = x
        if self.squeeze == "avg":
            squeezed = F.adaptive_avg_pool2d(x, 1)
        elif self.squeeze == "mean":
            squeezed = x.mean((2, 3), keepdim=True)
        elif self.squeeze == "max":
            squeezed = F.max_pool2d(x, x.shape[2:])
        return x * torch.sigmoid(self.expand(torch.relu(self.reduce(squeezed))))


class Net(nn.Module):
    """A stem, a body that holds the trap, and a classifier."""

    def __init__(self, body, channels=16):
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, stride=2, padding=1)
        self.body = body
        self.head = nn.Linear(channels, CLASSES)

    def forward(self, x):
        """(N, 3, H, W) to (N, classes)."""
        x = self.stem(x)
        x = self.body(x * torch.sigmoid(x))
        return self.head(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1))


class Function(nn.Module):
    """A body that is an expression."""

    def __init__(self, function, channels=16):
        super().__init__()
        self.function = function
        self.conv = nn.Conv2d(channels, channels, 1)

    def forward(self, x):
        """Any picture to another."""
        return self.function(self.conv(x), x)


def shuffled(y, _):
    """Channels of two groups in turn, as in ShuffleNet: five dimensions and a permutation."""
    batch, channels, height, width = y.shape
    parts = y.view(batch, 2, channels // 2, height, width).permute(0, 2, 1, 3, 4)
    return parts.reshape(batch, channels, height, width)


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
    "gate_avg": lambda: Gate(16, "avg"),
    "gate_mean": lambda: Gate(16, "mean"),
    "gate_max": lambda: Gate(16, "max"),
    "gate_none": lambda: Gate(16, "none"),
    "max_pool": lambda: nn.Sequential(nn.Conv2d(16, 16, 1), nn.ReLU(), nn.MaxPool2d(3, 2, 1)),
    "max_pool_ceil": lambda: nn.Sequential(
        nn.Conv2d(16, 16, 1), nn.ReLU6(), nn.MaxPool2d(3, 2, ceil_mode=True)
    ),
    "average_pool": lambda: nn.AvgPool2d(2),
    "average_pool_padded": lambda: nn.AvgPool2d(3, 2, 1),
    "concatenated": lambda: Function(lambda y, x: torch.cat([y, x * 3, torch.sigmoid(x)], 1)),
    "residual_relu": lambda: Function(lambda y, x: torch.relu(x + y)),
    "hard_activations": lambda: nn.Sequential(
        nn.Conv2d(16, 16, 1), nn.Hardswish(), nn.Conv2d(16, 16, 1), nn.Hardsigmoid()
    ),
    "shuffled": lambda: Function(shuffled),
}
CHANNELS = {"concatenated": 48}
# XNNPACK pads with nothing but 0, so the padding of a max over values of both signs stays outside.
MIXED_SIGNS = {"max_pool_mixed": lambda: nn.Sequential(nn.Conv2d(16, 16, 1), nn.MaxPool2d(3, 2, 1))}


@cache
def program(name, chosen="int8-minmax", batch=1):
    torch.manual_seed(0)
    network = Net((BODIES | MIXED_SIGNS)[name](), CHANNELS.get(name, 16)).eval()
    exported = torch.export.export(network, (torch.zeros(batch, 3, HEIGHT, WIDTH),))
    return quantized(exported, recipe(chosen), pictures(16)).program


def pictures(count, seed=0):
    generator = np.random.default_rng(seed)
    return generator.standard_normal((count, 3, HEIGHT, WIDTH)).astype(np.float32)


def card() -> ModelCard:
    preprocessing = Preprocessing(height=HEIGHT, width=WIDTH)
    return ModelCard(name="tiny", classes=CLASSES, preprocessing=preprocessing)


def converted(made, folder, chosen="int8-minmax", **options) -> tuple[Path, Interface]:
    artifact = folder / "tiny.tflite"
    interface = tflite.convert(
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
def test_int8_is_integer_throughout_in_one_piece_and_what_pytorch_computes(name, tmp_path):
    made = program(name)
    artifact, interface = converted(made, tmp_path)
    report = tflite.inspect(artifact, "")
    assert (report.partitions, report.outside) == (1, ())
    ends = {"QUANTIZE": 1, "DEQUANTIZE": 1}
    if name == "concatenated":
        ends["QUANTIZE"] += 1  # a sigmoid's codes are put on the grid that is joined
    assert ends == {kind: report.operators[kind] for kind in ends}

    given = pictures(6, seed=1)
    found = tflite.load(artifact, interface, threads=1)(given)
    np.testing.assert_array_equal(found, integer_outputs(made, given, 1))
    steps = np.abs(found - simulated(made, given)) / interface.output.grid.scale
    assert np.mean(steps < 1.5) > 0.95


def test_the_padding_of_a_mixed_max_pool_is_right_and_said_to_be_outside(tmp_path):
    made = program("max_pool_mixed")
    artifact, interface = converted(made, tmp_path)
    (outside,) = tflite.inspect(artifact, "").outside
    assert (outside.operator, outside.count) == ("PADV2", 1)
    assert "did not take" in outside.reason
    given = pictures(2, seed=1)
    found = tflite.load(artifact, interface, threads=1)(given)
    assert np.abs(found - simulated(made, given)).max() < 1.5 * interface.output.grid.scale


def test_codes_at_the_ends_mean_what_floats_do(tmp_path):
    made = program("gate_avg")
    given = pictures(3, seed=1)
    artifact, floats = converted(made, tmp_path)
    expected = tflite.load(artifact, floats, threads=1)(given)
    artifact, interface = converted(made, tmp_path, io="int8")
    report = tflite.inspect(artifact, "")
    assert not {"QUANTIZE", "DEQUANTIZE"} & {*report.operators}
    assert (report.partitions, report.outside) == (1, ())
    assert interface.input.dtype == interface.output.dtype == "int8"
    assert (interface.input.grid, interface.output.grid) == (floats.input.grid, floats.output.grid)
    np.testing.assert_array_equal(tflite.load(artifact, interface, threads=1)(given), expected)

    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(artifact))
    runner = interpreter.get_signature_runner("serving_default")
    stored = codes(given[:1].transpose(0, 2, 3, 1), interface.input.grid)
    (name, logits), *_ = runner(input=stored).items()
    assert (name, logits.dtype) == ("logits", np.int8)
    np.testing.assert_array_equal(values(logits, interface.output.grid), expected[:1])


def test_the_weights_are_the_programs_to_the_bit_and_take_a_byte_each(tmp_path):
    made = program("grouped")
    artifact, _ = converted(made, tmp_path)
    content = artifact.read_bytes()
    held = held_tensors(folded_weights(made))
    weights = [tensor for tensor in held.values() if tensor.dtype == torch.int8]
    assert len(weights) == 3
    for weight in weights:
        stored = weight.permute(0, 2, 3, 1) if weight.ndim == 4 else weight
        at = content.find(stored.contiguous().numpy().tobytes())
        assert at > 0
        assert at % 16 == 0


def test_a_program_with_folded_weights_makes_the_same_model():
    made = program("gate_none")
    assert tflquantized.model(made, "logits", io_codes=False) == tflquantized.model(
        folded_weights(made), "logits", io_codes=False
    )


@pytest.mark.parametrize("name", ["gate_avg", "max_pool", "grouped", "depthwise_multiplied"])
def test_int8_weights_are_widened_by_xnnpack_and_computed_in_floats(name, tmp_path):
    made = program(name, "int8-weights")
    artifact, interface = converted(made, tmp_path, "int8-weights")
    report = tflite.inspect(artifact, "")
    assert (report.partitions, report.outside) == (1, ())
    assert report.operators["DEQUANTIZE"] >= 3
    assert "QUANTIZE" not in report.operators
    given = pictures(3, seed=1)
    found = tflite.load(artifact, interface, threads=1)(given)
    np.testing.assert_allclose(found, simulated(made, given), rtol=1e-4, atol=1e-5)
    assert interface.input.grid is None


def test_a_part_that_is_kept_in_floats_computes_right_and_is_told(tmp_path):
    base = recipe("int8-minmax")
    how = msgspec.structs.replace(base.quantization, keep_float=("body*",))
    kept = msgspec.structs.replace(base, quantization=how)
    torch.manual_seed(0)
    network = Net(
        nn.Sequential(Gate(16, "avg"), nn.Conv2d(16, 16, 3, padding=1), nn.ReLU6())
    ).eval()
    exported = torch.export.export(network, (torch.zeros(1, 3, HEIGHT, WIDTH),))
    made = quantized(exported, kept, pictures(16)).program
    artifact, interface = converted(made, tmp_path)
    outside = {each.operator: each for each in tflite.inspect(artifact, "").outside}
    assert {"CONV_2D", "LOGISTIC", "MUL", "RELU6", "DEQUANTIZE"} <= {*outside}
    assert outside["CONV_2D"].count == 3
    assert "in floats" in outside["CONV_2D"].reason
    given = pictures(4, seed=1)
    found = tflite.load(artifact, interface, threads=1)(given)
    assert np.abs(found - simulated(made, given)).max() < 1.5 * interface.output.grid.scale


def test_a_batch_of_several_goes_through(tmp_path):
    made = program("gate_avg", batch=2)
    artifact, interface = converted(made, tmp_path, batch=2)
    assert interface.input.shape == (2, HEIGHT, WIDTH, 3)
    given = pictures(3, seed=1)
    rows = tflite.load(artifact, interface, threads=1)(given)
    alone, floats = converted(program("gate_avg"), tmp_path)
    expected = tflite.load(alone, floats, threads=1)(given)
    assert np.abs(rows - expected).max() < 1.5 * interface.output.grid.scale


def test_codes_where_the_program_has_floats_are_refused(tmp_path):
    plain = torch.export.export(Net(nn.Identity()).eval(), (torch.zeros(1, 3, HEIGHT, WIDTH),))
    with pytest.raises(ConfigError, match="int8 codes"):
        converted(plain, tmp_path, io="int8")
    with pytest.raises(ConfigError, match="io"):
        converted(program("grouped"), tmp_path, "int8-weights", io="int8")


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (nn.AvgPool2d(3, 2, 1, count_include_pad=False), "fewer values"),
        (nn.AvgPool2d(3, 2, ceil_mode=True), "fewer values"),
        (nn.MaxPool2d(2, dilation=2), "spread"),
        (lambda x: torch.constant_pad_nd(x, [1, 1], 2.0), "pads with 2.0"),
        (lambda x: torch.constant_pad_nd(x, [-1, 0], 0.0), "cuts off"),
        (nn.AdaptiveAvgPool2d(2), "averages to"),
        (lambda x: torch.add(x, x, alpha=2), "by 2"),
        (nn.GELU(), "none that edgese can write"),
    ],
)
def test_what_cannot_be_written_is_refused_by_name(body, told, tmp_path):
    network = Function(lambda _, x: body(x).mean((2, 3)), channels=3)
    plain = torch.export.export(network.eval(), (torch.zeros(1, 3, HEIGHT, WIDTH),))
    with pytest.raises(ConversionError, match=told):
        converted(plain, tmp_path, "int8-weights")

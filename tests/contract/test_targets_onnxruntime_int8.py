"""Integer ONNX artifacts: integers throughout in ONNX Runtime, and what the program computes."""

from collections import Counter
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from edgese import machine
from edgese.catalog import recipe
from edgese.errors import ConfigError, ConversionError, InputError
from edgese.measure import runner
from edgese.records.artifact import Grid, Interface, ModelCard, TargetOptions
from edgese.records.model import Preprocessing
from edgese.targets.batches import codes, values
from edgese.targets.onnxruntime import target

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from torch import nn  # noqa: E402
from torch.ao.quantization.fx import _decomposed  # noqa: E402, F401  # registers its operators
from torch.nn import functional as F  # noqa: E402

from edgese.program.integers import integer_outputs  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")

# Large enough that a gate's factors are repeated along rows.
HEIGHT, WIDTH, CLASSES, CHANNELS = 48, 52, 12, 16
ACTIVATIONS = ("uint8", "int8")


class Gate(nn.Module):
    """Squeeze-and-excitation by one kind of squeeze."""

    def __init__(self, squeeze):
        super().__init__()
        self.squeeze = squeeze
        self.reduce = nn.Conv2d(CHANNELS, 4, 1)
        self.expand = nn.Conv2d(4, CHANNELS, 1, bias=False)

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

    def __init__(self, body, channels=CHANNELS):
        super().__init__()
        self.stem = nn.Conv2d(3, CHANNELS, 3, stride=2, padding=1)
        self.body = body
        self.head = nn.Linear(channels, CLASSES)

    def forward(self, x):
        """(N, 3, H, W) to (N, classes)."""
        x = self.stem(x)
        x = self.body(x * torch.sigmoid(x))
        return self.head(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1))


class Function(nn.Module):
    """A body that is an expression of what a convolution gives and of what it was given."""

    def __init__(self, function):
        super().__init__()
        self.function = function
        self.conv = nn.Conv2d(CHANNELS, CHANNELS, 1)

    def forward(self, x):
        """Any picture to another."""
        return self.function(self.conv(x), x)


class Mean(nn.Module):
    """A body whose picture has one pixel, by way of no pixels at all."""

    def forward(self, x):
        """Any picture to one of 1 x 1."""
        return x.mean((2, 3)).view(*x.shape[:2], 1, 1)


def shuffled(y, _):
    """Channels of two groups in turn, as in ShuffleNet: five dimensions and a permutation."""
    batch, channels, height, width = y.shape
    parts = y.view(batch, 2, channels // 2, height, width).permute(0, 2, 1, 3, 4)
    return parts.reshape(batch, channels, height, width)


def conv(*args, **kwargs):
    return nn.Conv2d(CHANNELS, CHANNELS, *args, **kwargs)


# Each is named after the trap that it holds.
BODIES = {
    "depthwise_strided": lambda: conv(5, stride=2, padding=2, groups=CHANNELS),
    "grouped_without_bias": lambda: conv(3, padding=1, groups=4, bias=False),
    "dilated": lambda: conv(3, padding=2, dilation=2),
    "wide_window": lambda: conv((1, 5), stride=(1, 2), padding=(0, 2)),
    "same_padding": lambda: nn.Sequential(nn.ZeroPad2d((0, 1, 1, 2)), conv(4, stride=2)),
    "padding_read_twice": lambda: Function(lambda y, _: F.max_pool2d(F.pad(y, (1, 2, 0, 1)), 3, 2)),
    "gate_avg": lambda: Gate("avg"),
    "gate_mean": lambda: Gate("mean"),
    "gate_max": lambda: Gate("max"),
    "gate_none": lambda: Gate("none"),
    "mean_without_dimensions": Mean,
    "max_pool": lambda: nn.Sequential(conv(1), nn.ReLU(), nn.MaxPool2d(3, 2, 1)),
    "max_pool_ceil": lambda: nn.Sequential(conv(1), nn.MaxPool2d(3, 2, 1, ceil_mode=True)),
    "average_pool": lambda: nn.AvgPool2d(2),
    "average_pool_padded": lambda: nn.AvgPool2d(3, 2, 1),
    "concatenated": lambda: Function(lambda y, x: torch.cat([y, x * 3], 1)),
    "residual_relu": lambda: Function(lambda y, x: torch.relu(x + y)),
    "hard_activations": lambda: nn.Sequential(conv(1), nn.Hardswish(), conv(1), nn.Hardsigmoid()),
    "tanh": lambda: nn.Sequential(conv(1), nn.ReLU6(), conv(1), nn.Tanh()),
    "shuffled": lambda: Function(shuffled),
}
# A sigmoid has a grid of its own, which is changed where it is joined with others.
CHANGED = {
    "concatenated_sigmoid": lambda: Function(lambda y, x: torch.cat([y, torch.sigmoid(x)], 1))
}
WIDER = dict.fromkeys(("concatenated", "concatenated_sigmoid"), 2 * CHANNELS)


def pictures(count, seed=0):
    generator = np.random.default_rng(seed)
    return generator.standard_normal((count, 3, HEIGHT, WIDTH)).astype(np.float32)


def exported(network, batch=1):
    return torch.export.export(network.eval(), (torch.zeros(batch, 3, HEIGHT, WIDTH),))


@cache
def program(name, chosen="int8-minmax", batch=1, keep_float=()):
    import msgspec

    from edgese.quantization.ptq import quantized

    torch.manual_seed(0)
    made = exported(Net((BODIES | CHANGED)[name](), WIDER.get(name, CHANNELS)), batch)
    how = recipe(chosen)
    kept = msgspec.structs.replace(how.quantization, keep_float=keep_float)
    return quantized(made, msgspec.structs.replace(how, quantization=kept), pictures(8)).program


def card() -> ModelCard:
    preprocessing = Preprocessing(height=HEIGHT, width=WIDTH)
    return ModelCard(name="tiny", classes=CLASSES, preprocessing=preprocessing)


def converted(made, folder, chosen="int8-minmax", **options) -> tuple[Path, Interface]:
    artifact = folder / "tiny.onnx"
    fractions = []
    interface = target.convert(
        made,
        card(),
        recipe(chosen),
        TargetOptions(**options),
        artifact,
        lambda _, fraction: fractions.append(fraction),
    )
    assert fractions == sorted(fractions)
    return artifact, interface


def steps_apart(artifact, interface, made, given, batch=1):
    predict = target.load(artifact, interface, threads=1)
    difference = predict(given) - integer_outputs(made, given, batch)
    return np.abs(difference) / interface.output.grid.scale


@pytest.mark.parametrize("activations", ACTIVATIONS)
@pytest.mark.parametrize("name", BODIES)
def test_every_operator_is_an_integer_one_and_computes_the_program(name, activations, tmp_path):
    made = program(name)
    artifact, interface = converted(made, tmp_path, activations=activations)
    assert target.inspect(artifact, "").outside == ()
    apart = steps_apart(artifact, interface, made, pictures(4, seed=1))
    assert np.mean(apart < 1.01) >= 0.99
    assert np.mean(apart < 0.01) >= 0.9
    assert interface.input.grid.dtype == interface.output.grid.dtype == activations
    assert interface.input.dtype == interface.output.dtype == "float32"


def test_what_is_joined_is_put_on_one_grid_in_integers(tmp_path):
    made = program("concatenated_sigmoid")
    artifact, interface = converted(made, tmp_path)
    assert target.inspect(artifact, "").outside == ()
    given = pictures(4, seed=1)
    with torch.inference_mode():
        module = made.module()
        expected = np.concatenate([module(torch.from_numpy(row[None])).numpy() for row in given])
    actual = target.load(artifact, interface, threads=1)(given)
    assert np.mean(np.abs(actual - expected) / interface.output.grid.scale < 1.01) >= 0.99


@pytest.mark.parametrize("name", ["gate_avg", "residual_relu", "concatenated"])
def test_codes_of_both_kinds_stand_for_the_same_values(name, tmp_path):
    given = pictures(4, seed=2)
    rows = []
    for activations in ACTIVATIONS:
        artifact, interface = converted(program(name), tmp_path, activations=activations)
        rows.append(target.load(artifact, interface, threads=1)(given))
        grid = interface.output.grid
        assert grid.zero_point + (128 if activations == "int8" else 0) in range(256)
    np.testing.assert_array_equal(*rows)


@pytest.mark.parametrize("activations", ACTIVATIONS)
def test_an_artifact_of_codes_gives_what_one_of_floats_does(activations, tmp_path):
    given = pictures(3, seed=3)
    made = program("gate_avg")
    artifact, interface = converted(made, tmp_path, activations=activations)
    expected = target.load(artifact, interface, threads=1)(given)
    artifact, interface = converted(made, tmp_path, activations=activations, io="int8")
    assert interface.input.dtype == interface.output.dtype == activations
    np.testing.assert_array_equal(target.load(artifact, interface, threads=1)(given), expected)

    report = target.inspect(artifact, "")
    assert report.outside == ()
    model = onnx.load(artifact)
    kinds = {
        onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
        for value in (*model.graph.input, *model.graph.output)
    }
    assert kinds == {np.dtype(activations)}


@pytest.mark.parametrize("activations", ACTIVATIONS)
def test_a_batch_computes_each_picture_alike(activations, tmp_path):
    made = program("gate_mean", batch=2)
    artifact, interface = converted(made, tmp_path, batch=2, activations=activations)
    assert interface.input.shape[0] == interface.output.shape[0] == 2
    assert target.inspect(artifact, "").outside == ()
    given = pictures(5, seed=4)
    assert np.mean(steps_apart(artifact, interface, made, given, 2) < 1.01) >= 0.99


def test_the_file_is_plain_onnx_that_old_runtimes_read(tmp_path):
    artifact, _ = converted(program("same_padding"), tmp_path)
    model = onnx.load(artifact)
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 13)]
    assert model.ir_version <= 7
    assert {node.domain for node in model.graph.node} == {""}
    assert (model.producer_name, model.graph.name) == ("edgese", "tiny")


def test_padding_goes_into_the_convolution_behind_it(tmp_path):
    artifact, _ = converted(program("same_padding"), tmp_path)
    nodes = onnx.load(artifact).graph.node
    pads = [
        tuple(attribute.ints)
        for node in nodes
        for attribute in node.attribute
        if node.op_type == "Conv" and attribute.name == "pads"
    ]
    assert (1, 0, 2, 1) in pads
    assert Counter(node.op_type for node in nodes)["Pad"] == 0


def test_no_operator_reads_codes_but_those_that_turn_them_into_floats(tmp_path, monkeypatch):
    # Qualcomm's compiler takes bare codes for whole numbers, and refuses the operator.
    monkeypatch.setattr("edgese.targets.onnxruntime.operators._MANY_PIXELS", 1)
    for body in ("gate_avg", "max_pool", "shuffled"):
        artifact, _ = converted(program(body), tmp_path)
        graph = onnx.load(artifact).graph
        codes = {
            name for node in graph.node for name in node.output if node.op_type == "QuantizeLinear"
        }
        readers = {node.op_type for node in graph.node if codes.intersection(node.input)}
        assert readers == {"DequantizeLinear"}
        # Three colours and a fourth, for the kernel that takes four at once.
        assert Counter(node.op_type for node in graph.node)["Concat"] >= 1


@pytest.mark.parametrize(("activations", "repeated"), [("uint8", 1), ("int8", 0)])
def test_a_gate_s_factors_are_repeated_where_no_delegate_of_phones_stumbles_over_it(
    activations, repeated, tmp_path, monkeypatch
):
    monkeypatch.setattr("edgese.targets.onnxruntime.operators._MANY_PIXELS", 1)
    made = program("gate_avg")
    artifact, interface = converted(made, tmp_path, activations=activations)
    operators = Counter(node.op_type for node in onnx.load(artifact).graph.node)
    assert operators["Tile"] == repeated
    assert steps_apart(artifact, interface, made, pictures(3)).max() == 0


def test_onnxruntime_transposes_at_the_ends_alone(tmp_path):
    import onnxruntime

    artifact, _ = converted(program("gate_avg"), tmp_path)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    onnxruntime.InferenceSession(str(artifact), options, providers=["CPUExecutionProvider"])
    operators = [node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node]
    assert operators.count("Transpose") <= 2
    assert operators.count("DequantizeLinear") == operators.count("QuantizeLinear") == 1
    assert operators.count("QLinearConv") == 4


def test_what_stays_in_float_is_computed_and_told(tmp_path):
    made = program("hard_activations", keep_float=("body.0", "body.1"))
    artifact, interface = converted(made, tmp_path)
    outside = {found.operator: found.count for found in target.inspect(artifact, "").outside}
    assert outside["Conv"] == 1
    assert outside["DequantizeLinear"] == 1
    assert "QLinearConv" not in outside
    apart = steps_apart(artifact, interface, made, pictures(6, seed=5))
    assert np.mean(apart < 1.01) >= 0.99


def test_codes_cannot_be_given_to_what_has_no_grid(tmp_path):
    with pytest.raises(ConversionError, match="input is on no grid"):
        converted(program("same_padding", "int8-weights"), tmp_path, io="int8")


def test_weights_alone_make_a_small_file_that_computes_in_float(tmp_path):
    given = pictures(3, seed=6)
    made = program("same_padding", "int8-weights")
    artifact, interface = converted(made, tmp_path, "int8-weights")
    assert interface.input.grid is interface.output.grid is None
    with torch.inference_mode():
        module = made.module()
        expected = np.concatenate([module(torch.from_numpy(row[None])).numpy() for row in given])
    predict = target.load(artifact, interface, threads=1)
    np.testing.assert_allclose(predict(given), expected, atol=1e-5)
    assert target.inspect(artifact, "").outside == ()
    stored = onnx.load(artifact).graph.initializer
    large = [tensor for tensor in stored if np.prod(tensor.dims) > 100]
    assert {tensor.data_type for tensor in large} == {onnx.TensorProto.INT8}


class Every(nn.Module):
    """Operators that float parts may have."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)

    def forward(self, x):
        """(N, 3, H, W) to (N, 8)."""
        x = self.conv(x)
        x = F.hardtanh(x, -2.0, 1.5) + F.relu6(x) * torch.tanh(x) + F.silu(x)
        x = F.hardswish(x) + F.hardsigmoid(x) + torch.clamp(x, min=-0.5) + 0.5 * F.relu(x)
        x = F.max_pool2d(F.pad(x, (1, 0, 2, 1), value=-1.0), (3, 2), (2, 3), ceil_mode=True)
        x = F.avg_pool2d(x, 3, 2, 1, ceil_mode=True) + F.avg_pool2d(
            x, 3, 2, 1, ceil_mode=True, count_include_pad=False
        )
        x = torch.cat([x, F.avg_pool2d(x, 1)], 2)
        x = F.adaptive_avg_pool2d(F.pad(x, (0, -x.shape[3] % 3, 0, -x.shape[2] % 2)), (2, 3))
        return x.mean((1,)).flatten(1)


def test_operators_of_float_parts_compute_what_torch_computes(tmp_path):
    torch.manual_seed(0)
    network = Every()
    made = exported(network)
    artifact, interface = converted(made, tmp_path, "int8-weights")
    given = pictures(2, seed=7)
    with torch.inference_mode():
        expected = network(torch.from_numpy(given)).numpy()
    actual = target.load(artifact, interface, threads=1)(given)
    np.testing.assert_allclose(actual, expected, atol=1e-5, rtol=1e-5)


class Sorted(nn.Module):
    """An operator that no target has."""

    def forward(self, x):
        """Any shape to the same shape."""
        return torch.sort(x, 1)[0]


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (Sorted(), r"aten\.sort\.default of body"),
        (nn.ReflectionPad2d(1), "reflect"),
        (nn.AvgPool2d(2, divisor_override=3), "divides by 3"),
        (nn.AdaptiveAvgPool2d((5, 5)), "not all of one size"),
    ],
)
def test_an_operator_that_cannot_be_written_is_named_with_its_module(body, named, tmp_path):
    with pytest.raises(ConversionError, match=named) as refused:
        converted(exported(Net(body)), tmp_path, "int8-weights")
    assert "of body" in str(refused.value)


@pytest.mark.parametrize("chosen", ["fp32", "fp16"])
def test_a_divisor_that_the_exporter_would_leave_out_is_refused_in_float_too(chosen, tmp_path):
    net = Net(nn.AvgPool2d(2, divisor_override=3))
    with pytest.raises(ConversionError, match=r"avg_pool2d\.default of body .* divides by 3"):
        converted(exported(net), tmp_path, chosen)


class Faint(nn.Module):
    """A channel whose weights are so small that its bias has more steps than an int32 holds."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Buffer(torch.full((1, 3, 3, 3), -1e-7))
        self.scale = nn.Buffer(torch.tensor([1e-9]))
        self.zero = nn.Buffer(torch.zeros(1, dtype=torch.int64))
        self.bias = nn.Buffer(torch.tensor([-3.0]))

    def forward(self, x):
        """(N, 3, H, W) to (N, 1)."""
        operators = torch.ops.quantized_decomposed
        what = (self.scale, self.zero, 0, -127, 127, torch.int8)
        stored = operators.quantize_per_channel(self.weight, *what)
        weight = operators.dequantize_per_channel(stored, *what)
        y = self.on_grid(F.conv2d(self.on_grid(x, -128), weight, self.bias), -128)
        return self.on_grid(F.adaptive_avg_pool2d(y, 1), -128).flatten(1)

    def on_grid(self, x, zero_point):
        """The nearest values of a grid with steps of 1/32."""
        operators = torch.ops.quantized_decomposed
        what = (1 / 32, zero_point, -128, 127, torch.int8)
        return operators.dequantize_per_tensor(operators.quantize_per_tensor(x, *what), *what)


def test_a_bias_beyond_the_accumulator_stops_at_its_end(tmp_path):
    made = exported(Faint())
    artifact, interface = converted(made, tmp_path)
    given = np.abs(pictures(1, seed=8))
    with torch.inference_mode():
        assert not made.module()(torch.from_numpy(given)).any()
    # Wrapped around, the sum would be as large above zero.
    assert not target.load(artifact, interface, threads=1)(given).any()


def test_each_weight_has_codes_and_zero_points_of_its_own(tmp_path):
    twins = nn.Sequential(conv(1), nn.ReLU(), conv(1))
    torch.manual_seed(0)
    network = Net(twins)
    twins[2].weight = nn.Parameter(twins[0].weight.detach().clone())
    from edgese.quantization.ptq import quantized

    made = quantized(exported(network), recipe("int8-minmax"), pictures(8)).program
    artifact, _ = converted(made, tmp_path)
    graph = onnx.load(artifact).graph
    held = {each.name for each in graph.initializer if each.data_type == onnx.TensorProto.INT8}
    read = Counter(
        name
        for node in graph.node
        if node.op_type == "DequantizeLinear"
        for name in node.input
        if name in held
    )
    assert len(read) == 2 * 4
    assert set(read.values()) == {1}


@pytest.mark.skipif(not machine.is_x86(), reason="asked for of ONNX Runtime on x86 alone")
@pytest.mark.parametrize("activations", ACTIVATIONS)
def test_exact_sums_can_be_asked_for_and_are_the_programs(activations, tmp_path, monkeypatch):
    made = program("gate_avg")
    artifact, interface = converted(made, tmp_path, activations=activations)
    for each, name in ((target, "is_x86_without_vnni"), (runner, "_is_x86_without_vnni")):
        monkeypatch.setattr(each, name, lambda: True)
    assert not steps_apart(artifact, interface, made, pictures(4, seed=1)).any()
    *_, infer = runner.onnxruntime({"path": str(artifact), "threads": 1})
    (logits,) = infer()
    given = runner.fixed_input((1, 3, HEIGHT, WIDTH), "float32")
    np.testing.assert_array_equal(logits, integer_outputs(made, given, 1))


@pytest.mark.parametrize("option", [{"io": "int8"}, {"activations": "int8"}])
def test_options_of_integer_recipes_are_refused_for_others(option, tmp_path):
    with pytest.raises(ConfigError):
        converted(exported(Net(nn.Identity())), tmp_path, "fp32", **option)


def test_a_truncated_integer_artifact_is_an_input_error(tmp_path):
    artifact, interface = converted(program("average_pool"), tmp_path)
    content = artifact.read_bytes()
    artifact.write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match=artifact.name):
        target.inspect(artifact, "")
    with pytest.raises(InputError, match=artifact.name):
        target.load(artifact, interface, threads=1)


def test_codes_are_the_nearest_even_ones_and_stop_at_the_ends():
    grid = Grid(scale=0.5, zero_point=-3, dtype="int8")
    floats = np.array([0.0, 0.25, 0.75, -0.25, 1.0, 1e6, -1e6], np.float32)
    made = codes(floats, grid)
    assert made.dtype == np.int8
    np.testing.assert_array_equal(made, [-3, -3, -1, -3, -1, 127, -128])
    unsigned = Grid(scale=0.5, zero_point=125, dtype="uint8")
    np.testing.assert_array_equal(codes(floats, unsigned), made.astype(np.int16) + 128)
    np.testing.assert_array_equal(values(codes(floats, unsigned), unsigned), values(made, grid))
    assert values(made, grid).dtype == np.float32

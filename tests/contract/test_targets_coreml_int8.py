"""Integer Core ML packages: the program's codes and grids, in the patterns that are fused."""

import dataclasses
from collections import Counter
from functools import cache

import numpy as np
import pytest

from edgese.catalog import recipe
from edgese.errors import ConfigError, ConversionError
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

pytestmark = pytest.mark.usefixtures("one_thread")
HEIGHT, WIDTH, CLASSES = 16, 12, 5
LABELS = ("cat", "dog", "bird", "fish", "fox")


class Block(nn.Module):
    """What an inverted residual has: uneven padding, SiLU, a gate and a sum."""

    def __init__(self, gate):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2)
        self.expand = nn.Conv2d(8, 16, 1)
        self.spatial = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.reduce = nn.Conv2d(16, 4, 1)
        self.excite = nn.Conv2d(4, 16, 1)
        self.project = nn.Conv2d(16, 8, 1)
        self.head = nn.Linear(8, CLASSES)
        self.gate = gate

    def forward(self, x):
        """(N, 3, H, W) to (N, classes)."""
        x = torch.relu(self.stem(nn.functional.pad(x, (0, 1, 0, 1))))
        y = self.expand(x)
        y = self.spatial(y * torch.sigmoid(y))
        y = y * torch.sigmoid(y)
        squeezed = torch.relu(self.reduce(y.mean((2, 3), keepdim=True)))
        y = y * self.gate(self.excite(squeezed))
        return self.head((x + self.project(y)).mean((2, 3)))


@cache
def program(chosen="int8-minmax", gate=torch.sigmoid):
    torch.manual_seed(0)
    example = torch.zeros(1, 3, HEIGHT, WIDTH)
    exported = torch.export.export(Block(gate).eval(), (example,))
    return quantized(exported, recipe(chosen), pictures(16)).program


def pictures(count):
    generator = np.random.default_rng(0)
    return generator.standard_normal((count, 3, HEIGHT, WIDTH)).astype(np.float32)


def converted(folder, chosen="int8-minmax", labels=(), **options):
    artifact = folder / "tiny.mlpackage"
    preprocessing = Preprocessing(height=HEIGHT, width=WIDTH)
    interface = coreml.convert(
        program(chosen),
        ModelCard(name="tiny", classes=CLASSES, preprocessing=preprocessing, labels=labels),
        recipe(chosen),
        TargetOptions(**options),
        artifact,
        lambda _stage, _fraction: None,
    )
    return artifact, interface


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    return converted(tmp_path_factory.mktemp("int8"))


def pairs(made):
    """What stands before each pair, in order: its operator, or the name of the input."""
    makers = [node.args[0].args[0] for node in dequantized(made)]
    return [str(maker.target).removeprefix("aten.").split(".")[0] for maker in makers]


def dequantized(made):
    return [node for node in made.graph.nodes if "dequantize_per_tensor" in str(node.target)]


def output_step(made):
    return pair_grid(dequantized(made)[-1]).scale


def ran(made, given):
    with torch.inference_mode():
        return made.module(check_guards=False)(torch.from_numpy(given)).numpy()


def test_pairs_stay_around_what_is_fused():
    made = program()
    before = pairs(made)
    assert pairs(mlpairs.fusable(made)) == [
        "x",
        "conv2d",  # padded: the padding's own pair is gone
        "conv2d",
        "mul",  # SiLU, without a pair inside; the next one has none behind it either
        "conv2d",
        "mean",
        "conv2d",
        "sigmoid",  # the end of a convolution with a sigmoid
        "mul",
        "conv2d",
        "add",
        "mean",
        "linear",
    ]
    assert pairs(made) == before


def test_what_stays_computes_almost_the_same():
    made, given = program(), pictures(1)
    differences = np.abs(ran(mlpairs.fusable(made), given) - ran(made, given))
    assert differences.max() < 3 * output_step(made)


def test_a_pair_that_stands_for_a_relu_stays():
    whole, given = program(gate=torch.relu), pictures(1)
    made = mlpairs.fusable(whole)
    assert pairs(made).count("conv2d") == 6
    differences = np.abs(ran(made, given) - ran(whole, given))
    assert differences.max() < 3 * output_step(made)


def test_int8_has_the_patterns_that_are_fused(package):
    artifact, interface = package
    operators = coreml.inspect(artifact, "").operators
    assert operators["silu"] == 2
    assert operators["constexpr_affine_dequantize"] == 7
    assert (operators["quantize"], operators["sigmoid"]) == (13, 1)
    assert "pad" not in operators
    assert interface.input.dtype == interface.output.dtype == "float32"
    first, *_, last = dequantized(program())
    assert (interface.input.grid, interface.output.grid) == (pair_grid(first), pair_grid(last))


def test_the_padding_of_a_convolution_is_uneven(package):
    held = mlpackage.read(package[0])
    stem = next(op for op in held.block.operations if op.type == "conv")
    assert mlpackage.argument(held, stem, "pad").tolist() == [0, 1, 0, 1]


def test_the_packages_grids_quantize_as_the_programs_do(package):
    held = {step for _, step in mlquantization.steps(mlpackage.read(package[0]))}
    values = np.linspace(-6, 6, 1001, dtype=np.float32)
    for node in dequantized(mlpairs.fusable(program())):
        grid = pair_grid(node)
        if "add" in str(node.args[0].args[0].target):
            continue  # what is added is divided by a scale
        ((scale, zero),) = {(float(np.float16(grid.scale)), grid.zero_point)} & held
        codes = np.clip(np.rint(values / np.float32(grid.scale)) + grid.zero_point, -128, 127)
        found = np.clip(np.rint(values / np.float32(scale)) + zero, -128, 127)
        assert np.abs(codes - found).max() <= 1
        assert np.mean(codes != found) < 0.05


def test_the_packages_weights_are_the_programs_codes_to_the_bit(package):
    made = folded_weights(program())
    wanted = mlquantization.expected(made)
    assert wanted.weights.total() == 7
    assert Counter(mlquantization.weights(mlpackage.read(package[0]))) == wanted.weights
    parameters = sum(len(codes) for codes, _ in wanted.weights)
    assert parameters == sum(w.numel() for w in made.state_dict.values() if w.dtype == torch.int8)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"weights": Counter({(b"1", b"2"): 1})}, "1 of 1 weights"),
        ({"steps": frozenset({(0.5, 77)})}, r"no pair .* \(0.5, 77\)"),
        ({"steps": frozenset(), "others": frozenset()}, "does not have"),
    ],
)
def test_a_package_with_other_codes_or_grids_is_a_conversion_error(change, told, package):
    artifact, interface = package
    wanted = mlquantization.expected(mlpairs.fusable(folded_weights(program())))
    coreml.validate(artifact, interface, wanted)
    with pytest.raises(ConversionError, match=told):
        coreml.validate(artifact, interface, dataclasses.replace(wanted, **change))


def test_a_changed_weight_is_seen(tmp_path):
    artifact, interface = converted(tmp_path)
    wanted = mlquantization.expected(mlpairs.fusable(folded_weights(program())))
    weights = artifact / "Data" / "com.apple.CoreML" / "weights" / "weight.bin"
    content = weights.read_bytes()
    codes = max((codes for codes, _ in wanted.weights), key=len)
    at = content.index(codes)
    weights.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
    with pytest.raises(ConversionError, match="1 of 7 weights"):
        coreml.validate(artifact, interface, wanted)


def test_ios18_keeps_weights_in_its_own_operator(tmp_path):
    artifact, _ = converted(tmp_path, deployment_target="iOS18")
    operators = coreml.inspect(artifact, "").operators
    assert operators["constexpr_blockwise_shift_scale"] == 7
    assert operators["quantize"] == 13


@pytest.mark.parametrize("target", ["macOS13", "iOS18"])
def test_int8_weights_leave_activations_in_halves(target, tmp_path):
    artifact, interface = converted(tmp_path, "int8-weights", deployment_target=target)
    report = coreml.inspect(artifact, "")
    assert not {"quantize", "dequantize"} & {*report.operators}
    assert report.operators["cast"] == 2
    held = Counter(mlquantization.weights(mlpackage.read(artifact)))
    assert held == mlquantization.expected(folded_weights(program("int8-weights"))).weights
    assert interface.input.grid is None


def test_a_picture_and_labels_go_with_int8(tmp_path):
    artifact, interface = converted(tmp_path, labels=LABELS, image_input=True)
    assert interface.input.dtype == "image"
    operators = coreml.inspect(artifact, "").operators
    assert (operators["classify"], operators["quantize"]) == (1, 13)
    assert "pad" not in operators


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"deployment_target": "iOS16"}, "from iOS17 and macOS14 on"),
        ({"deployment_target": "macOS13"}, "'int8' was asked for macOS13"),
        ({"io": "int8"}, "no option 'io'"),
        ({"activations": "uint8"}, "no option 'activations'"),
    ],
)
def test_what_core_ml_cannot_do_in_int8_is_refused_by_name(options, told):
    preprocessing = Preprocessing(height=HEIGHT, width=WIDTH)
    card = ModelCard(name="tiny", classes=CLASSES, preprocessing=preprocessing)
    with pytest.raises(ConfigError, match=told):
        coreml.check(card, recipe("int8"), TargetOptions(**options))

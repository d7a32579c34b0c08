"""Saved ML programs, executed: the same as PyTorch for every recipe, batch and kind of input."""

import shutil
from itertools import pairwise

import msgspec
import numpy as np
import pytest

from edgese.catalog import recipe
from edgese.conversion.parity import compared
from edgese.errors import EdgeseError, InputError, OperatorUnknown
from edgese.program.forms import folded_weights
from edgese.records.artifact import ModelCard, TargetOptions
from edgese.records.model import Preprocessing
from edgese.targets.coreml import loading as mlloading
from edgese.targets.coreml import package as mlpackage
from edgese.targets.coreml import pairs as mlpairs
from edgese.targets.coreml import target as coreml

torch = pytest.importorskip("torch")
pytest.importorskip("coremltools")

from torch import nn  # noqa: E402

from edgese.quantization.ptq import quantized  # noqa: E402
from edgese.targets.coreml.mil.program import loaded  # noqa: E402
from edgese.targets.coreml.mil.steps import Arithmetic  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")
HEIGHT, WIDTH, CLASSES = 20, 16, 5
PREPROCESSING = Preprocessing(height=HEIGHT, width=WIDTH, std=(0.2, 0.3, 0.25))
LABELS = ("cat", "dog", "bird", "fish", "fox")
FIRST_WEIGHTS = 8 * 3 * 3 * 3


class Net(nn.Module):
    """What the families have: uneven padding, SiLU, a gate, a sum, pools, groups, a dilation."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2)
        self.pool = nn.MaxPool2d(3, stride=2, padding=1)
        self.expand = nn.Conv2d(8, 16, 1)
        self.spatial = nn.Conv2d(16, 16, 3, padding=2, dilation=2, groups=16)
        self.reduce = nn.Conv2d(16, 4, 1)
        self.excite = nn.Conv2d(4, 16, 1)
        self.project = nn.Conv2d(16, 8, 1)
        self.head = nn.Linear(8, CLASSES)

    def forward(self, x):
        """(N, 3, H, W) to (N, classes)."""
        x = self.pool(torch.relu(self.stem(nn.functional.pad(x, (0, 1, 0, 1)))))
        y = self.expand(x)
        y = self.spatial(y * torch.sigmoid(y))
        y = y * torch.sigmoid(y)
        squeezed = torch.relu(self.reduce(y.mean((2, 3), keepdim=True)))
        y = y * torch.sigmoid(self.excite(squeezed))
        return self.head((x + self.project(y)).mean((2, 3)))


class Mixing(nn.Module):
    """A batch of two whose pictures are not computed alone."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(3, CLASSES)

    def forward(self, x):
        """(2, 3, H, W) to (2, classes)."""
        y = x.mean((2, 3))
        return self.head(y - y.mean(0, keepdim=True))


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return Net().eval()


def pictures(count, seed=0):
    """Whole pixels, normalized, so that a program that takes pixels can have them too."""
    pixels = np.random.default_rng(seed).integers(0, 256, (count, 3, HEIGHT, WIDTH)) / 255
    mean, std = (np.reshape(each, (1, 3, 1, 1)) for each in (PREPROCESSING.mean, PREPROCESSING.std))
    return ((pixels - mean) / std).astype(np.float32)


def exported(network, batch=1):
    return torch.export.export(network, (torch.zeros(batch, 3, HEIGHT, WIDTH),))


def converted(program, folder, chosen="fp32", labels=(), **options):
    artifact = folder / "net.mlpackage"
    interface = coreml.convert(
        program,
        ModelCard(name="net", classes=CLASSES, preprocessing=PREPROCESSING, labels=labels),
        recipe(chosen),
        TargetOptions(**options),
        artifact,
        lambda _stage, _fraction: None,
    )
    return artifact, interface


def ran(program, given):
    with torch.inference_mode():
        module = program.module(check_guards=False)
        return np.concatenate(
            [module(torch.from_numpy(given[i : i + 1])) for i in range(len(given))]
        )


@pytest.mark.parametrize("target", ["iOS16", "iOS17", "iOS18"])
@pytest.mark.parametrize(("chosen", "tolerance"), [("fp32", 1e-5), ("fp16", 5e-3)])
def test_a_saved_program_computes_what_pytorch_does(chosen, tolerance, target, network, tmp_path):
    program, given = exported(network), pictures(5)
    artifact, interface = converted(program, tmp_path, chosen, deployment_target=target)
    found = coreml.load(artifact, interface, threads=2)(given)
    assert np.abs(found - ran(program, given)).max() < tolerance


def test_any_number_of_pictures_gives_what_each_gives_alone(network, tmp_path):
    artifact, interface = converted(exported(network), tmp_path, "fp16")
    program = loaded(artifact, mlpackage.read(artifact), "logits")
    assert program.takes_rows
    assert "pad" in {step.operator for step in program.steps}
    given = pictures(7)
    predictor = coreml.load(artifact, interface, threads=3)
    alone = np.concatenate([predictor(given[i : i + 1]) for i in range(len(given))])
    np.testing.assert_allclose(predictor(given), alone, atol=2e-3)


def test_a_batch_of_the_file_is_no_limit(network, tmp_path):
    artifact, interface = converted(exported(network, 3), tmp_path, batch=3)
    given = pictures(4)
    found = coreml.load(artifact, interface, threads=1)(given)
    assert np.abs(found - ran(exported(network), given)).max() < 1e-5


def test_pictures_that_look_at_each_other_go_in_the_files_own_batches(tmp_path):
    torch.manual_seed(0)
    program = exported(Mixing().eval(), 2)
    artifact, interface = converted(program, tmp_path, batch=2)
    assert not loaded(artifact, mlpackage.read(artifact), "logits").takes_rows
    given = pictures(4)
    wanted = [program.module()(torch.from_numpy(given[i : i + 2])).detach() for i in (0, 2)]
    found = coreml.load(artifact, interface, threads=2)(given)
    np.testing.assert_allclose(found, np.concatenate(wanted), atol=1e-5)


def test_pixels_labels_and_probabilities(network, tmp_path):
    program, given = exported(network), pictures(3)
    artifact, interface = converted(
        program, tmp_path, "fp16", labels=LABELS, image_input=True, author="A", license="MIT"
    )
    wanted = ran(program, given)
    found = coreml.load(artifact, interface, threads=1)(given)
    assert np.abs(found - wanted).max() < 1e-2
    package = mlpackage.read(artifact)
    (classify,) = [op for op in package.block.operations if op.type == "classify"]
    shares = classify.inputs["probabilities"].arguments[0].name
    package.block.outputs.append(shares)
    held = mlloading.evaluated(artifact, package, replaced_output(interface, shares), threads=1)(
        given
    )
    np.testing.assert_allclose(held, torch.softmax(torch.from_numpy(wanted), 1), atol=5e-3)


def replaced_output(interface, name):
    return msgspec.structs.replace(
        interface, output=msgspec.structs.replace(interface.output, name=name)
    )


@pytest.fixture(scope="module")
def integers(network):
    return quantized(exported(network), recipe("int8-minmax"), pictures(16, seed=1)).program


@pytest.mark.parametrize("target", ["iOS17", "iOS18"])
def test_w8a8_gives_the_codes_of_the_same_pairs_in_pytorch(target, integers, tmp_path):
    artifact, interface = converted(integers, tmp_path, "int8-minmax", deployment_target=target)
    given = pictures(8)
    step = interface.output.grid.scale
    wanted = ran(mlpairs.fusable(folded_weights(integers)), given)
    found = coreml.load(artifact, interface, threads=1)(given)
    steps = np.abs(found - wanted) / step
    assert steps.max() < 2.5
    assert np.mean(steps < 0.5) > 0.8


@pytest.mark.parametrize("target", ["iOS16", "iOS17", "iOS18"])
def test_int8_weights_are_read_back_in_every_form(target, network, tmp_path):
    program = quantized(exported(network), recipe("int8-weights"), pictures(8, seed=1)).program
    artifact, interface = converted(program, tmp_path, "int8-weights", deployment_target=target)
    found = coreml.load(artifact, interface, threads=1)(pictures(4))
    assert np.abs(found - ran(program, pictures(4))).max() < 5e-3


@pytest.mark.parametrize(
    ("chosen", "colours", "least_db"), [("palette6", 64, 25), ("palette4", 16, 12)]
)
@pytest.mark.parametrize("target", ["iOS17", ""])
def test_weights_from_a_palette_are_near_the_networks(target, chosen, colours, least_db, tmp_path):
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 32, 3),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(32, CLASSES),
    )
    program, given = exported(network.eval()), pictures(4)
    artifact, interface = converted(program, tmp_path, chosen, deployment_target=target)
    operators = coreml.inspect(artifact, "").operators
    assert operators["constexpr_lut_to_dense"] == 1
    assert ("constexpr_blockwise_shift_scale" in operators) == (target == "")
    held = loaded(artifact, mlpackage.read(artifact), "logits")
    weight = next(step.inputs["weight"] for step in held.steps if step.operator == "conv")
    if target:
        assert len(torch.unique(weight)) <= colours
    source = network[0].weight.detach()
    noise = torch.square(weight - source).sum() / torch.square(source).sum()
    assert -10 * torch.log10(noise) > least_db
    found = coreml.load(artifact, interface, threads=1)(given)
    assert compared(found, ran(program, given), recipe(chosen).parity).verdict == "passed"


@pytest.mark.parametrize(("chosen", "dtype"), [("fp32", np.float32), ("fp16", np.float16)])
def test_weights_are_the_networks_to_the_bit(chosen, dtype, network, tmp_path):
    artifact, _ = converted(exported(network), tmp_path, chosen)
    program = loaded(artifact, mlpackage.read(artifact), "logits")
    held = [
        step.inputs["weight"].numpy()
        for step in program.steps
        if step.operator in ("conv", "linear")
    ]
    wanted = [
        module.weight.detach().numpy()
        for module in network.modules()
        if isinstance(module, nn.Conv2d | nn.Linear)
    ]
    assert len(held) == len(wanted) == 7
    for found, source in zip(held, wanted, strict=True):
        assert np.array_equal(found, source.astype(dtype).astype(np.float32))


def test_half_values_are_rounded_as_the_file_has_them(network, tmp_path):
    artifact, _ = converted(exported(network), tmp_path, "fp16")
    package = mlpackage.read(artifact)
    assert all(step.is_half for step in loaded(artifact, package, "logits").steps[:-1])
    given = torch.from_numpy(pictures(2))
    wanted = ran(exported(network), pictures(2))
    from edgese.targets.coreml.mil.program import computed

    exact = computed(loaded(artifact, package, "logits", Arithmetic.FLOATS), given).numpy()
    rounded = computed(loaded(artifact, package, "logits"), given).numpy()
    assert np.array_equal(rounded, rounded.astype(np.float16))
    assert 0 < np.abs(exact - wanted).max() < np.abs(rounded - wanted).max()


def test_constants_are_expanded_once_and_values_are_let_go(integers, tmp_path):
    artifact, _ = converted(integers, tmp_path, "int8-minmax")
    program = loaded(artifact, mlpackage.read(artifact), "logits")
    assert not any(step.operator.startswith("const") for step in program.steps)
    read = [name for step in program.steps for name in step.last]
    assert sorted(read) == sorted(
        {program.input, *(step.output for step in program.steps)} - {"logits"}
    )
    assert all(a.line < b.line for a, b in pairwise(program.steps))


def weight_file(artifact):
    return artifact / "Data" / "com.apple.CoreML" / "weights" / "weight.bin"


def rewritten(artifact, change):
    """Changes the program of a package."""
    package = mlpackage.read(artifact)
    change(package)
    path = artifact / "Data" / "com.apple.CoreML" / "model.mlmodel"
    path.write_bytes(package.spec.SerializeToString())


def flipped_block(artifact):
    path, weight = weight_file(artifact), bytearray(weight_file(artifact).read_bytes())
    start = len(weight) // 2
    weight[start : start + 64] = bytes(byte ^ 0x84 for byte in weight[start : start + 64])
    path.write_bytes(weight)


def swapped_scale(artifact):
    def change(package):
        pairs = [op for op in package.block.operations if op.type in ("quantize", "dequantize")]
        first, last = (
            next(op for op in package.block.operations if op.outputs[0].name == name)
            for name in (pair.inputs["scale"].arguments[0].name for pair in (pairs[1], pairs[-1]))
        )
        held = first.attributes["val"].SerializeToString()
        first.attributes["val"].CopyFrom(last.attributes["val"])
        last.attributes["val"].ParseFromString(held)

    rewritten(artifact, change)


def wrong_padding(artifact):
    def change(package):
        made = {op.outputs[0].name: op for op in package.block.operations}
        for op in package.block.operations:
            if op.type in ("pad", "conv"):
                values = made[op.inputs["pad"].arguments[0].name].attributes["val"]
                amounts = values.immediateValue.tensor.ints.values
                if sum(amounts) == 2:
                    # What stood behind the picture stands before it.
                    amounts[-4:] = [1, 0, 1, 0]
                    return
        raise AssertionError("nothing pads unevenly")

    rewritten(artifact, change)


@pytest.mark.parametrize(
    ("damage", "chosen"),
    [
        (flipped_block, "fp32"),
        (swapped_scale, "int8-minmax"),
        (wrong_padding, "int8-minmax"),
        (wrong_padding, "fp16"),
    ],
)
def test_a_broken_file_does_not_pass_the_comparison(damage, chosen, network, integers, tmp_path):
    program = integers if chosen == "int8-minmax" else exported(network)
    artifact, interface = converted(program, tmp_path, chosen)
    given = pictures(8)
    wanted = ran(
        mlpairs.fusable(folded_weights(program)) if program is integers else program, given
    )
    # As for every Core ML package: how many outputs are within a step is not asked.
    bound = msgspec.structs.replace(recipe(chosen).parity, min_within_step=0.0)

    def parity():
        return compared(coreml.load(artifact, interface, threads=1)(given), wanted, bound)

    assert parity().verdict == "passed"
    damage(artifact)
    assert parity().verdict == "failed"


def test_an_operator_without_a_kernel_is_named_with_its_line(network, tmp_path):
    artifact, interface = converted(exported(network), tmp_path)

    def change(package):
        next(op for op in package.block.operations if op.type == "sigmoid").type = "lstm"

    rewritten(artifact, change)
    block = mlpackage.read(artifact).block
    line = 1 + [op.type for op in block.operations].index("lstm")
    output = block.operations[line - 1].outputs[0].name
    with pytest.raises(OperatorUnknown, match=rf"lstm, in line {line} .* gives {output}\."):
        coreml.load(artifact, interface, threads=1)


def test_another_interface_is_an_input_error(network, tmp_path):
    artifact, interface = converted(exported(network), tmp_path)
    with pytest.raises(InputError, match="no output probabilities"):
        coreml.load(artifact, replaced_output(interface, "probabilities"), threads=1)


@pytest.fixture(scope="module")
def saved(integers, tmp_path_factory):
    return converted(integers, tmp_path_factory.mktemp("saved"), "int8-minmax")


@pytest.mark.parametrize("part", ["model", "weights"])
@pytest.mark.parametrize("seed", range(12))
def test_damage_anywhere_is_an_error_or_another_result_and_never_a_crash(
    part, seed, saved, tmp_path
):
    artifact = tmp_path / "net.mlpackage"
    shutil.copytree(saved[0], artifact)
    path = weight_file(artifact)
    path = path if part == "weights" else path.parents[1] / "model.mlmodel"
    random, content = np.random.default_rng(seed), bytearray(path.read_bytes())
    if seed % 3 == 0:
        content = content[: random.integers(len(content))]
    else:
        for place in random.integers(0, len(content), 20):
            content[place] = random.integers(256)
    path.write_bytes(content)
    found = told = None
    try:
        found = coreml.load(artifact, saved[1], threads=1)(pictures(1))
    except EdgeseError as error:
        told = error.message
    assert str(artifact) in told if found is None else found.shape == (1, CLASSES)

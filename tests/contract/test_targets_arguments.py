"""Whatever argument an integer program's operator has, a target computes it or refuses it."""

from functools import cache

import numpy as np
import pytest

from edgese.catalog import recipe
from edgese.errors import ConversionError
from edgese.records.artifact import ModelCard, TargetOptions
from edgese.records.model import Preprocessing
from edgese.targets import target_module

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from edgese.program.integers import integer_outputs  # noqa: E402
from edgese.quantization.ptq import quantized  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")
CHANNELS, HEIGHT, WIDTH = 4, 10, 7


class Net(nn.Module):
    """A convolution, the operator in question, and every value that it gives as an output."""

    def __init__(self, function):
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Conv2d(3, CHANNELS, 3, padding=1)
        self.other = nn.Conv2d(3, CHANNELS, 1)
        self.function = function

    def forward(self, x):
        """(N, 3, H, W) to (N, numbers)."""
        return torch.flatten(self.function(self.stem(x), self.other(x)), 1)


OPERATORS = {
    f"average pool {kernel} {stride} {padding} {ceil:d} {counts:d} {divisor}": (
        lambda x, _, k=kernel, s=stride, p=padding, c=ceil, i=counts, d=divisor: F.avg_pool2d(
            x, k, s, p, c, i, d
        )
    )
    for kernel, stride, padding, ceil, counts, divisor in (
        (2, 2, 0, False, True, None),
        (3, 2, 1, False, True, None),
        (3, 2, 1, False, False, None),
        (3, 2, 0, True, True, None),
        (3, 2, 1, True, True, None),
        (3, 2, 1, True, False, None),
        ((2, 3), (2, 1), (1, 0), False, False, None),
        (2, 2, 0, False, True, 3),
        (3, 2, 1, False, False, 5),
    )
} | {
    "max pool padded": lambda x, _: F.max_pool2d(x, 3, 2, 1),
    "max pool dilated": lambda x, _: F.max_pool2d(x, 3, 2, 1, 2),
    "max pool ceil": lambda x, _: F.max_pool2d(x, 3, 2, 1, ceil_mode=True),
    "max pool of one": lambda x, _: F.max_pool2d(x, 1, 2),
    "adaptive 1": lambda x, _: F.adaptive_avg_pool2d(x, 1),
    "adaptive 5 x 7": lambda x, _: F.adaptive_avg_pool2d(x, (5, 7)),
    "adaptive 3 x 2": lambda x, _: F.adaptive_avg_pool2d(x, (3, 2)),
    "mean of rows": lambda x, _: x.mean(2),
    "mean of columns": lambda x, _: x.mean(-1, keepdim=True),
    "mean of channels": lambda x, _: x.mean(1, keepdim=True),
    "mean of all": lambda x, _: x.mean((1, 2, 3)).unsqueeze(1),
    "pad": lambda x, _: F.pad(x, (1, 2, 0, 1)),
    "pad channels": lambda x, _: F.pad(x, (0, 0, 0, 0, 1, 2)),
    "crop": lambda x, _: F.pad(x, (-1, 0, -2, -1)),
    "crop and pad": lambda x, _: F.pad(x, (-1, 2, 1, -1)),
    "pad with a number": lambda x, _: F.pad(x, (1, 1), value=0.5),
    "add alpha": lambda x, y: torch.add(x, y, alpha=2),
    "subtract alpha": lambda x, y: torch.add(x, y, alpha=-0.5),
    "add a row": lambda x, y: x + y.mean(2, keepdim=True),
    "multiply by channels": lambda x, y: x * y.mean((2, 3), keepdim=True),
    "multiply by a mean of channels": lambda x, y: x * y.mean(1, keepdim=True),
    "join rows": lambda x, y: torch.cat([x, y], -2),
    "join channels": lambda x, y: torch.cat([x, y, x], 1),
    "permute": lambda x, _: x.permute(0, -1, 1, -2),
    "clamp with 0 inside": lambda x, _: x.clamp(-0.25, 0.4),
    "clamp with 0 outside": lambda x, _: x.clamp(0.1, 0.4),
    "squeeze": lambda x, _: F.adaptive_avg_pool2d(x, 1).squeeze(-2),
    "unsqueeze": lambda x, _: x.unsqueeze(-3),
    "flatten inside": lambda x, _: x.flatten(-2, -1),
    "a number": lambda x, y: x * 0.5 + y,
}
# What no integer runtime has in this form.
NOWHERE = ("pad with a number", "clamp with 0 outside")
UNEVEN = tuple(
    name
    for name in OPERATORS
    if name.startswith("average pool") and not name.endswith(("0 1 None", "0 1 3"))
)
FEW = (
    *(*UNEVEN, "adaptive 5 x 7", "adaptive 3 x 2", "mean of rows", "mean of columns", "crop"),
    *("mean of channels", "mean of all", "crop and pad", "add a row"),
    "multiply by a mean of channels",
)
DIVIDES = tuple(name for name in OPERATORS if name.endswith((" 3", " 5")))
# What each target refuses by name; all else it computes.
REFUSED = {
    "tflite": (*FEW, "max pool dilated"),
    "executorch": (*FEW, "max pool of one"),
    "onnxruntime": (*DIVIDES, "adaptive 3 x 2"),
    "coreml": (*DIVIDES, "max pool dilated", "crop", "crop and pad"),
}
# Core ML computes in halves; ONNX Runtime rounds the middle between two values of a pool otherwise.
STEPS = {"coreml": 2.2, "onnxruntime": 1.01, "tflite": 0.01, "executorch": 0.01}


def images(count, seed=0):
    generator = np.random.default_rng(seed)
    return generator.standard_normal((count, 3, HEIGHT, WIDTH)).astype(np.float32)


@cache
def program(name):
    torch.set_num_threads(1)
    net = Net(OPERATORS[name]).eval()
    exported = torch.export.export(net, (torch.zeros(1, 3, HEIGHT, WIDTH),))
    return quantized(exported, recipe("int8-quick"), images(8)).program


@pytest.mark.parametrize("name", NOWHERE)
def test_what_no_runtime_has_is_refused_by_name(name):
    with pytest.raises(ConversionError, match=r"pads with 0\.5|0 is not between its bounds"):
        program(name)


def outcome(name, target, folder):
    """How many steps an artifact is away from the integers, or the message that refuses it."""
    made, module = program(name), target_module(target)
    outputs = made.graph.output_node().args[0][0].meta["val"].shape[1]
    sides = Preprocessing(height=HEIGHT, width=WIDTH)
    card = ModelCard(name="tiny", classes=outputs, preprocessing=sides)
    artifact, given = folder / "tiny", images(3, seed=4)
    try:
        interface = module.convert(
            made, card, recipe("int8-quick"), TargetOptions(), artifact, lambda *_: None
        )
    except ConversionError as error:
        return error.message
    found = module.load(artifact, interface, threads=1)(given)
    away = np.abs(found - integer_outputs(made, given, 1)) / interface.output.grid.scale
    return float(away.max())


@pytest.mark.parametrize("target", ["tflite", "executorch", "onnxruntime"])
@pytest.mark.parametrize("name", [name for name in OPERATORS if name not in NOWHERE])
def test_an_argument_is_computed_or_refused(name, target, tmp_path):
    found = outcome(name, target, tmp_path)
    if name in REFUSED[target]:
        assert "aten." in found or "coremltools refused" in found
    else:
        assert found <= STEPS[target]


@pytest.mark.parametrize(
    "name", [name for name in OPERATORS if "pool" in name or "crop" in name or "alpha" in name]
)
def test_an_argument_is_computed_or_refused_by_core_ml(name, tmp_path):
    """Some alone: coremltools converts, which takes its time."""
    found = outcome(name, "coreml", tmp_path)
    if name in REFUSED["coreml"]:
        assert "aten." in found or "coremltools refused" in found
    else:
        assert found <= STEPS["coreml"]

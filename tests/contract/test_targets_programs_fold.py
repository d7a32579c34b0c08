"""Folding weights: the same numbers to the bit, from int8 parameters."""

import numpy as np
import pytest

from edgese.records.artifact import Grid

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from edgese.program.forms import (  # noqa: E402
    folded_weights,
    held_tensors,
    input_grid,
    output_grid,
)
from edgese.program.storage import read_program, write_program  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")
INPUT, OUTPUT = (0.02, 3), (0.05, -7)


def on_grid(x, scale, zero_point):
    import torch.ao.quantization.fx._decomposed  # registers the operators

    ops = torch.ops.quantized_decomposed
    what = (scale, zero_point, -128, 127, torch.int8)
    return ops.dequantize_per_tensor.default(ops.quantize_per_tensor.default(x, *what), *what)


class Quantized(nn.Module):
    """A weight behind its own pair of nodes, as a parameter or as a buffer."""

    def __init__(self, shape, *, is_parameter=True, is_persistent=True):
        super().__init__()
        weight = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        if is_parameter:
            self.weight = nn.Parameter(weight)
        else:
            self.register_buffer("weight", weight, persistent=is_persistent)
        self.register_buffer("scales", weight.abs().flatten(1).amax(1) / 127)
        self.register_buffer("zeros", torch.zeros(shape[0], dtype=torch.int64))

    def forward(self):
        """The weight as its codes have it."""
        ops = torch.ops.quantized_decomposed
        what = (self.scales, self.zeros, 0, -127, 127, torch.int8)
        codes = ops.quantize_per_channel.default(self.weight, *what)
        return ops.dequantize_per_channel.default(codes, *what)


class Net(nn.Module):
    """A convolution and a linear layer on grids."""

    def __init__(self, *, reads_floats=False, **how):
        super().__init__()
        self.conv = Quantized((6, 3, 3, 3), **how)
        self.linear = Quantized((5, 6), **how)
        self.reads_floats = reads_floats

    def forward(self, x):
        """(N, 3, H, W) to (N, 5)."""
        x = on_grid(x, *INPUT)
        x = on_grid(F.conv2d(x, self.conv()).mean((2, 3)), *OUTPUT)
        x = on_grid(F.linear(x, self.linear()), *OUTPUT)
        return x + self.conv.weight.sum() if self.reads_floats else x


def exported(**how):
    return torch.export.export(Net(**how).eval(), (torch.zeros(2, 3, 8, 8),))


def run(program, x):
    with torch.inference_mode():
        return program.module(check_guards=False)(x).numpy()


@pytest.mark.parametrize(
    "how", [{}, {"is_parameter": False}, {"is_parameter": False, "is_persistent": False}]
)
def test_the_fold_keeps_every_bit_and_leaves_int8(how):
    program = exported(**how)
    folded = folded_weights(program)
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    np.testing.assert_array_equal(run(folded, x), run(program, x))

    targets = {str(node.target) for node in folded.graph.nodes}
    assert "quantized_decomposed.quantize_per_channel.default" not in targets
    assert "quantized_decomposed.dequantize_per_channel.default" in targets
    held = {**folded.state_dict, **folded.constants}
    assert {name: held[name].dtype for name in ("conv.weight", "linear.weight")} == {
        "conv.weight": torch.int8,
        "linear.weight": torch.int8,
    }
    codes = held["conv.weight"].float() * held["conv.scales"].view(-1, 1, 1, 1)
    weight = {**program.state_dict, **program.constants}["conv.weight"]
    assert torch.all((codes - weight).abs() <= held["conv.scales"].view(-1, 1, 1, 1) / 2 + 1e-7)


def test_the_program_that_is_folded_stays_as_it_is():
    program = exported()
    before = str(program.graph), {name: t.clone() for name, t in program.state_dict.items()}
    folded_weights(program)
    assert str(program.graph) == before[0]
    assert {*program.state_dict} == {*before[1]}
    assert all(torch.equal(program.state_dict[name], t) for name, t in before[1].items())


def test_a_weight_that_is_read_as_floats_too_is_kept_beside_its_codes():
    program = exported(reads_floats=True)
    folded = folded_weights(program)
    kinds = sorted(str(t.dtype) for name, t in folded.state_dict.items() if "weight" in name)
    assert kinds == ["torch.float32", "torch.int8", "torch.int8"]
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    np.testing.assert_array_equal(run(folded, x), run(program, x))


def test_a_folded_program_can_be_stored_and_folded_again(tmp_path):
    program = exported()
    write_program(folded_weights(program), tmp_path / "folded.program")
    loaded = read_program(tmp_path / "folded.program")
    again = folded_weights(loaded)
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    np.testing.assert_array_equal(run(again, x), run(program, x))
    assert {*held_tensors(again)} == {*held_tensors(loaded)}


def test_the_grids_at_the_ends_are_told():
    program = exported()
    assert input_grid(program) == Grid(scale=INPUT[0], zero_point=INPUT[1])
    assert output_grid(program) == Grid(scale=OUTPUT[0], zero_point=OUTPUT[1])
    floats = torch.export.export(nn.Conv2d(3, 4, 1).eval(), (torch.zeros(1, 3, 8, 8),))
    assert input_grid(floats) is None
    assert output_grid(floats) is None

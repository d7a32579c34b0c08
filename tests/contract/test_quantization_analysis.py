"""What each layer costs alone, and what shows that a quantized network is broken."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from edgese.program.canonical import canonical  # noqa: E402
from edgese.quantization.analysis import analysed  # noqa: E402
from edgese.quantization.calibration import observe  # noqa: E402
from edgese.quantization.layout import layout  # noqa: E402
from edgese.quantization.plan import planned  # noqa: E402
from edgese.quantization.ptq import collapse  # noqa: E402
from edgese.records.quantization import QuantizationRecipe  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")
SIDE = 16


@pytest.fixture(scope="module")
def pictures():
    generator = np.random.default_rng(0)
    return generator.normal(0, 1, (8, 3, SIDE, SIDE)).astype(np.float32)


class Net(nn.Module):
    """Two convolutions with a SiLU between, and a classifier."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv2d(3, 8, 3)
        self.act = nn.SiLU()
        self.second = nn.Conv2d(8, 8, 3)
        self.head = nn.Linear(8, 5)

    def forward(self, x):
        """(N, 3, H, W) to (N, 5)."""
        return self.head(self.second(self.act(self.first(x))).mean((2, 3)))


def rows_of(net, pictures):
    """What is found of a network, and how often it was told how far it is."""
    program = torch.export.export(net.eval(), (torch.zeros(1, 3, SIDE, SIDE),))
    module = canonical(program)
    where = layout(module)
    seen = observe(module, where, pictures, "min_max", batch=8, seed=0)
    plan = planned(module, where, seen, QuantizationRecipe(ranges="min_max"))
    told = []
    rows = analysed(module, plan, pictures, told.append)
    assert told == sorted(told)
    assert told[-1] == 1
    assert len(rows) == len(plan.weights) + len(where.points)
    return {(row.layer, row.operator, row.part): row for row in rows}, rows


def test_every_part_is_told_the_costliest_first(pictures):
    by_part, rows = rows_of(Net(), pictures)
    assert [row.sqnr_db for row in rows] == sorted(row.sqnr_db for row in rows)
    assert {row.layer for row in rows if row.part == "weights"} == {"first", "second", "head"}
    # Eight bits for one tensor alone: far above what the whole network has.
    assert all(row.sqnr_db > 25 for row in rows)
    assert all(row.kl >= 0 for row in rows)
    assert by_part["first", "conv2d", "activations"].cause == "rounding"


def test_a_channel_that_stands_out_is_named(pictures):
    net = Net()
    with torch.no_grad():
        net.second.weight[5] *= 60
        net.head.weight[:, 5] /= 60
    by_part, _ = rows_of(net, pictures)
    row = by_part["second", "conv2d", "activations"]
    assert row.cause == "outlier channel"
    assert row.detail.startswith("channel 5 of 8")
    plain, _ = rows_of(Net(), pictures)
    assert row.sqnr_db < plain["second", "conv2d", "activations"].sqnr_db - 15


def test_a_single_far_value_makes_a_wide_range(pictures):
    far = pictures.copy()
    # In each channel, so that it is no channel's peculiarity.
    far[0, :, 0, 0] = 60
    _, rows = rows_of(Net(), far)
    assert "range" in {row.cause for row in rows if row.part == "activations"}


def test_a_shut_gate_is_told(pictures):
    net = Net()
    with torch.no_grad():
        net.first.bias.fill_(-20)
    by_part, _ = rows_of(net, pictures)
    (row,) = (row for (_, operator, _), row in by_part.items() if operator == "sigmoid")
    assert row.cause == "gate saturation"
    assert row.detail.startswith("100%")


@pytest.fixture
def float_logits():
    return np.eye(10, dtype=np.float32)[np.arange(40) % 10]


def test_what_answers_as_before_has_not_collapsed(float_logits):
    assert collapse(float_logits, float_logits) == ""
    noisy = float_logits + 0.1 * np.random.default_rng(0).normal(0, 1, float_logits.shape)
    assert collapse(noisy, float_logits) == ""


def test_one_answer_to_everything_is_a_collapse(float_logits):
    stuck = np.tile(float_logits[:1], (40, 1))
    assert "1 classes where the float network answers 10" in collapse(stuck, float_logits)


def test_other_answers_are_a_collapse(float_logits):
    assert "first class" in collapse(np.roll(float_logits, 1, axis=0), float_logits)


def test_a_network_that_always_gave_one_class_is_not_accused():
    same = np.ones((10, 3), np.float32)
    assert collapse(same, same) == ""

"""Every choice that the SE paper ablates is a field that builds, runs, exports and is counted."""

import itertools
import math

import msgspec
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from edgese.models.builder import build
from edgese.models.cost import cost
from edgese.models.registry import find_model
from edgese.models.untrained import plausible
from edgese.program.folding import folded
from edgese.records.model import (
    Head,
    ModelSpec,
    Preprocessing,
    SqueezeExcite,
    Stage,
    Stem,
)

pytestmark = pytest.mark.usefixtures("one_thread")

BLOCKS = ("mbconv", "fused_mbconv", "basic", "bottleneck")
PLACEMENTS = ("standard", "pre", "post", "identity", "spatial")
SQUEEZES = ("avg", "max", "none")
GATES = ("sigmoid", "hard_sigmoid", "relu", "tanh")
ACTIVATIONS = ("silu", "hard_swish", "relu", "relu6")


def tiny(block, **gate):
    """Two blocks, the second with a shortcut of its own shape."""
    se = SqueezeExcite(**{"reduction": 4} | gate)
    stage = Stage(
        block=block,
        channels=16,
        depth=2,
        stride=2,
        expansion=2 if "mbconv" in block else 1,
        inner=(8, 8) if block == "bottleneck" else None,
        se=se,
    )
    return ModelSpec(
        name="tiny",
        family="tiny",
        stem=Stem(channels=(8,)),
        stages=(stage,),
        head=Head(channels=24),
        classes=5,
        preprocessing=Preprocessing(height=20, width=16),
    )


def check(spec, peak_allocation):
    """Builds, runs, exports and counts; returns the outputs."""
    size = spec.preprocessing
    network = plausible(build(spec), seed=0)
    pictures = torch.randn(2, 3, size.height, size.width, generator=torch.manual_seed(1))
    with torch.no_grad():
        outputs = network(pictures)
        with FlopCounterMode(display=False) as counter:
            network(pictures[:1])
        program = torch.export.export(folded(network), (pictures[:1],))
        exported = program.module()(pictures[:1])
    counts = cost(spec)

    assert outputs.shape == (2, spec.classes)
    assert torch.isfinite(outputs).all()
    assert (outputs[0] - outputs[1]).abs().max() > 1e-3
    torch.testing.assert_close(exported, outputs[:1], rtol=1e-4, atol=1e-4)
    assert counts.macs == counter.get_total_flops() / 2
    assert counts.parameters == sum(parameter.numel() for parameter in network.parameters())
    assert counts.peak_activation_bytes == peak_allocation(program, pictures[:1])
    return outputs


# The gates take turns, so that each meets every block, every placement and every squeeze.
TURNS = tuple(
    (BLOCKS[b], PLACEMENTS[p], SQUEEZES[s], GATES[(b + p + s) % len(GATES)])
    for b, p, s in itertools.product(
        range(len(BLOCKS)), range(len(PLACEMENTS)), range(len(SQUEEZES))
    )
)


def test_the_turns_hold_every_gate_with_every_other_choice():
    for position, choices in enumerate((BLOCKS, PLACEMENTS, SQUEEZES)):
        met = {(turn[position], turn[3]) for turn in TURNS}
        assert met == set(itertools.product(choices, GATES))


@pytest.mark.parametrize(("block", "placement", "squeeze", "gate"), TURNS)
def test_every_squeeze_at_every_place_of_every_block(
    block, placement, squeeze, gate, peak_allocation
):
    check(tiny(block, placement=placement, squeeze=squeeze, gate=gate), peak_allocation)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("padding", ["symmetric", "same"])
def test_every_activation_in_backbone_and_gate(activation, padding, peak_allocation):
    spec = tiny("mbconv", activation=activation, placement="spatial")

    check(msgspec.structs.replace(spec, activation=activation, padding=padding), peak_allocation)


def test_a_gate_without_biases(peak_allocation):
    with_biases, without = tiny("basic"), tiny("basic", bias=False)

    check(without, peak_allocation)

    assert cost(with_biases).parameters - cost(without).parameters == 2 * (4 + 16)


def test_a_subset_of_the_stages_carries_gates(peak_allocation):
    spec = msgspec.structs.replace(
        find_model("resnet18"), preprocessing=Preprocessing(height=32, width=32)
    )
    gate = SqueezeExcite(reduction=8)
    # The paper's table 13: leaving the last stage's gates out costs next to nothing.
    stages = tuple(
        msgspec.structs.replace(stage, se=None if index == 3 else gate)
        for index, stage in enumerate(spec.stages)
    )
    spec = msgspec.structs.replace(spec, stages=stages)

    check(spec, peak_allocation)

    assert [stage.gates for stage in cost(spec).stages] == [0, 2, 2, 2, 0, 0]
    weights = 2 / 8 * sum(2 * width**2 for width in (64, 128, 256))
    assert math.isclose(cost(spec).gate_weights, weights)


def test_the_reduction_is_a_stages_own(peak_allocation):
    spec = tiny("basic")
    stages = tuple(
        Stage(block="basic", channels=16, depth=1, se=SqueezeExcite(reduction=reduction))
        for reduction in (2, 8)
    )
    spec = msgspec.structs.replace(spec, stages=stages)

    check(spec, peak_allocation)

    assert cost(spec).gate_weights == 2 * 16 * 8 + 2 * 16 * 2


@pytest.mark.parametrize("stride_in", ["1x1", "3x3"])
@pytest.mark.parametrize("pool", ["none", "max", "max_ceil"])
@pytest.mark.parametrize("shortcut", ["conv1x1", "conv3x3"])
def test_what_tells_implementations_apart(stride_in, pool, shortcut, peak_allocation):
    spec = tiny("bottleneck")
    stage = msgspec.structs.replace(
        spec.stages[0], stride_in=stride_in, shortcut=shortcut, groups=2
    )
    stem = Stem(channels=(8, 8), pool=pool)

    check(msgspec.structs.replace(spec, stages=(stage,), stem=stem), peak_allocation)


def test_an_activation_at_the_branchs_end(peak_allocation):
    spec = tiny("basic")
    stage = msgspec.structs.replace(spec.stages[0], active_end=True)

    check(msgspec.structs.replace(spec, stages=(stage,)), peak_allocation)


def test_a_standard_gate_and_one_after_the_addition_differ():
    standard, post = (tiny("basic", placement=placement) for placement in ("standard", "post"))
    networks = [plausible(build(spec), seed=0) for spec in (standard, post)]
    pictures = torch.randn(1, 3, 20, 16, generator=torch.manual_seed(0))

    # The same numbers at two places.
    networks[1].load_state_dict(
        {
            name.replace("branch.se.", "se_after."): tensor
            for name, tensor in networks[0].state_dict().items()
        }
    )
    with torch.no_grad():
        assert (networks[0](pictures) - networks[1](pictures)).abs().max() > 1e-3

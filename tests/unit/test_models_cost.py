"""Counts from the rows: published figures, the SE paper's arithmetic, and what the rows imply."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgese.errors import ConfigError
from edgese.models.cost import cost, without_gates
from edgese.models.operators import live_bytes, operators
from edgese.models.registry import customized, find_model, models

PARAMETERS = {
    "efficientnet_b0": 5_288_548,
    "efficientnet_b1": 7_794_184,
    "efficientnet_b2": 9_109_994,
    "efficientnet_b3": 12_233_232,
    "efficientnet_b4": 19_341_616,
    "efficientnet_b5": 30_389_784,
    "efficientnet_b6": 43_040_704,
    "efficientnet_b7": 66_347_960,
    "efficientnet_v2_s": 21_458_488,
    "efficientnet_v2_m": 54_139_356,
    "efficientnet_v2_l": 118_515_272,
}
GATED = [name for name, spec in models().items() if any(stage.se for stage in spec.stages)]


@pytest.mark.parametrize(("name", "parameters"), PARAMETERS.items())
def test_parameters_are_the_published_ones(name, parameters):
    assert cost(find_model(name)).parameters == parameters


@pytest.mark.parametrize("name", ["se_resnet50", "se_resnet50_v1"])
def test_gate_weights_of_se_resnet50_are_the_papers_formula(name):
    # arXiv:1709.01507, equation 5: 2/r times the sum over stages of N_s * C_s^2.
    formula = 2 / 16 * sum(n * c**2 for n, c in ((3, 256), (4, 512), (6, 1024), (3, 2048)))

    assert formula == 2_514_944
    assert cost(find_model(name)).gate_weights == formula


def test_the_papers_flops_of_se_resnet50_go_from_3_86_to_3_87_g():
    plain, gated = (cost(find_model(name)) for name in ("resnet50_v1", "se_resnet50_v1"))

    assert round(plain.paper_flops / 1e9, 2) == 3.86
    assert round(gated.paper_flops / 1e9, 2) == 3.87


def test_pooling_and_scaling_are_what_lifts_the_papers_flops_to_3_87_g():
    assert round(cost(find_model("se_resnet50_v1")).macs / 1e9, 2) == 3.86


def test_the_stride_in_the_3x3_takes_4_09_g_multiply_adds():
    assert round(cost(find_model("se_resnet50")).macs / 1e9, 2) == 4.09


def test_the_papers_flops_add_pooling_and_scaling_of_every_gated_tensor():
    counts = cost(find_model("se_resnet18"))
    gated = sum(n * c * side**2 for n, c, side in ((2, 64, 56), (2, 128, 28), (2, 256, 14)))
    gated += 2 * 512 * 7**2
    last_pool = 512 * 7**2

    assert counts.paper_flops - counts.macs == 2 * gated + last_pool


@pytest.mark.parametrize("name", models())
def test_stages_add_up_to_the_whole(name):
    counts = cost(find_model(name))

    assert sum(stage.parameters for stage in counts.stages) == counts.parameters
    assert sum(stage.macs for stage in counts.stages) == counts.macs
    assert sum(stage.paper_flops for stage in counts.stages) == counts.paper_flops
    assert max(s.peak_activation_bytes for s in counts.stages) == counts.peak_activation_bytes


@pytest.mark.parametrize("name", GATED)
def test_the_share_of_the_gates_is_what_the_plain_twin_lacks(name):
    spec = find_model(name)
    counts, plain = cost(spec), cost(without_gates(spec))

    assert plain.gate_weights == 0
    assert counts.parameters - plain.parameters == pytest.approx(
        counts.gate_share.parameters * counts.parameters
    )
    assert counts.gate_share.parameters > 0.005
    assert 0 < counts.gate_share.macs < counts.gate_share.paper_flops
    assert counts.gate_share.peak_activation_bytes >= 0


def test_gates_are_counted_by_stage():
    stages = {stage.name: stage for stage in cost(find_model("efficientnet_v2_b0")).stages}

    assert stages["stages.2"].gates == 0
    assert stages["stages.2"].gate_share.parameters == 0
    assert stages["stages.3"].gates == 3
    assert stages["stages.3"].gate_share.parameters > 0


def test_a_network_without_classes_ends_in_pooled_features():
    spec = customized(find_model("efficientnet_lite0"), classes=0)

    head = cost(spec).stages[-1]

    assert (head.channels, head.height, head.width) == (1280, 1, 1)


def test_a_head_that_is_a_pool_alone_has_no_multiply_adds_and_no_share():
    head = cost(customized(find_model("se_resnet18"), classes=0)).stages[-1]

    assert (head.macs, head.gate_share.macs) == (0, 0.0)
    assert head.paper_flops == 512 * 7 * 7


def test_twice_the_side_is_four_times_the_macs_and_no_more_parameters():
    spec = customized(find_model("efficientnet_lite0"), classes=0)
    own, twice = cost(spec), cost(spec, 448, 448)

    assert twice.parameters == own.parameters
    assert twice.macs == 4 * own.macs
    assert (twice.height, twice.width) == (448, 448)


@pytest.mark.parametrize(("height", "width"), [(0, 224), (224, -1)])
def test_a_resolution_below_one_is_a_config_error(height, width):
    with pytest.raises(ConfigError, match=f"{height}x{width}"):
        cost(find_model("efficientnet_b0"), height, width)


def test_a_resolution_that_a_pool_cannot_take_is_a_config_error():
    with pytest.raises(ConfigError, match="pool"):
        cost(find_model("se_resnet50_v1"), 1, 1)


@given(
    name=st.sampled_from(["efficientnet_v2_b0", "se_resnet18_v1", "efficientnet_lite0"]),
    height=st.integers(4, 97),
    width=st.integers(4, 97),
)
def test_every_tensor_is_made_before_it_is_read(name, height, width):
    steps = operators(find_model(name), height, width)
    made = {steps[0].inputs[0].name: steps[0].inputs[0]}
    for step in steps:
        for feature in step.inputs:
            assert made[feature.name] == feature
        assert step.output.name not in made
        made[step.output.name] = step.output


def test_a_residual_keeps_the_blocks_input_alive():
    steps = operators(find_model("se_resnet20_small"), 32, 32)
    alive = {step.name: live for step, live in zip(steps, live_bytes(steps), strict=True)}
    feature = 16 * 32 * 32 * 4

    # Input of the block, input of the convolution, and its output.
    assert alive["stages.0.0.branch.second.conv"] == 3 * feature

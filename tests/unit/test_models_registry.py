"""Names, spec files, and back."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgese.errors import ConfigError, InputError
from edgese.models.registry import find_model, models, to_toml
from edgese.records.model import ModelSpec, SqueezeExcite


@pytest.mark.parametrize("name", models())
def test_a_spec_survives_its_file(name, tmp_path):
    file = tmp_path / "model.toml"
    file.write_text(to_toml(find_model(name)), encoding="utf-8")

    assert find_model(str(file)) == find_model(name)


@given(
    gate=st.builds(
        SqueezeExcite,
        reduction=st.floats(0.5, 64),
        reference=st.sampled_from(["gated", "block"]),
        divisor=st.integers(1, 16),
        squeeze=st.sampled_from(["avg", "max", "none"]),
        gate=st.sampled_from(["sigmoid", "hard_sigmoid", "relu", "tanh"]),
        placement=st.sampled_from(["standard", "pre", "post", "identity", "spatial"]),
        bias=st.booleans(),
    ),
    carries=st.lists(st.booleans(), min_size=4, max_size=4),
)
def test_any_gate_in_any_stages_survives_its_file(gate, carries):
    spec = find_model("resnet18")
    stages = tuple(
        msgspec.structs.replace(stage, se=gate if carry else None)
        for stage, carry in zip(spec.stages, carries, strict=True)
    )
    spec = msgspec.structs.replace(spec, stages=stages)

    assert ModelSpec.from_toml(to_toml(spec), "a file") == spec


@pytest.mark.parametrize(
    ("typed", "near"),
    [
        ("b0", "efficientnet_b0, tf_efficientnet_b0, efficientnet_v2_b0."),
        ("EfficientNet-B0", "efficientnet_b0, tf_efficientnet_b0."),
        ("efficientnetv2_s", "efficientnet_v2_s, tf_efficientnet_v2_s."),
        ("seresnet50", "se_resnet50, se_resnet50_v1."),
        ("efficentnet_b7", "efficientnet_b7, "),
        ("mobilenet", ""),
    ],
)
def test_an_unknown_name_tells_those_that_end_in_it_hold_it_or_resemble_it(typed, near):
    with pytest.raises(ConfigError) as caught:
        find_model(typed)

    assert repr(typed) in caught.value.message
    assert caught.value.hint.startswith(f"Near it: {near}" if near else "`edgese models`")


@pytest.mark.parametrize("phi", [20.5, -20.5, 10**9])
def test_a_scale_beyond_reason_is_a_config_error(phi):
    with pytest.raises(ConfigError, match="phi"):
        find_model(f"efficientnet_phi{phi}")


FILE = """
name = "mine"
family = "mine"
classes = 3
{spec}
[stem]
channels = [8]
{stem}
[[stages]]
block = "{block}"
channels = 8
depth = 1
{stage}
"""


@pytest.mark.parametrize(
    ("block", "part", "text", "said"),
    [
        ("basic", "stage", "kernel = 4", "kernel is 4"),
        ("basic", "stem", "kernel = 2", "kernel is 2"),
        ("basic", "stage", "expansion = 6", "no `expansion`"),
        ("mbconv", "stage", "inner = [8, 8]", "no `inner`"),
        ("mbconv", "stage", "active_end = true", "no `active_end`"),
        ("mbconv", "stage", "expansion = inf", "expansion is inf"),
        ("bottleneck", "stage", "", "needs its `inner`"),
        ("bottleneck", "stage", "inner = [8, 8]\ngroups = 3", "do not divide by 3"),
        ("basic", "spec", 'labels = ["cat", "dog"]', "2 labels and 3 classes"),
        ("basic", "spec", 'labels = "imagenet-1k"', "1000 labels and 3 classes"),
        ("basic", "spec", "preprocessing = { std = [0.2, 0.2, 0.0] }", "a std is above 0"),
        ("basic", "spec", "preprocessing = { mean = [nan, 0.2, 0.2] }", "mean is (nan"),
    ],
)
def test_a_spec_that_contradicts_itself_is_an_input_error(block, part, text, said, tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text(
        FILE.format_map({"stem": "", "stage": "", "spec": "", "block": block} | {part: text})
    )

    with pytest.raises(InputError) as caught:
        find_model(str(file))

    assert str(file) in caught.value.message
    assert said in caught.value.message


@pytest.mark.parametrize("suffix", ["tflite", "onnx", "pte", "mlpackage"])
def test_a_file_of_a_runtime_is_called_what_it_is(suffix):
    with pytest.raises(ConfigError, match=f"existing.{suffix} is a file of the target") as caught:
        find_model(f"existing.{suffix}")
    assert "--weights" in caught.value.hint


@pytest.mark.parametrize("suffix", ["pth", "safetensors", "ckpt"])
def test_a_weights_file_in_a_models_place_is_called_what_it_is(suffix):
    with pytest.raises(ConfigError, match=f"mine.{suffix} is a weights file") as caught:
        find_model(f"mine.{suffix}")
    assert f"--weights mine.{suffix}" in caught.value.hint

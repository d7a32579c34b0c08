"""Names, spec files, and back."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

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

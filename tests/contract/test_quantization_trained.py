"""A small SE-ResNet and its plain twin that were trained in earnest, in int8 in every runtime.

How the weights in tests/data/cifar came about is told there.
"""

import csv
import os
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("ai_edge_litert")
pytest.importorskip("onnxruntime")
pytest.importorskip("executorch")

from edgese import agreement, convert, evaluate, quantize

ARCHIVE = Path(os.environ.get("EDGESE_DATA", ""), "cifar10-jpeg", "cifar10_jpeg.npz")
WEIGHTS = Path(__file__).parents[1] / "data" / "cifar"
RUNTIMES = ("tflite", "executorch", "onnxruntime")
CALIBRATION, TEST = 128, 1000

pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.skipif(not ARCHIVE.is_file(), reason="EDGESE_DATA names no folder with CIFAR-10"),
]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A CSV of pictures of both splits."""
    folder = tmp_path_factory.mktemp("cifar")
    rows = [("file", "label", "split")]
    with np.load(ARCHIVE) as content:
        for part, split, count in (("train", "calibration", CALIBRATION), ("test", "test", TEST)):
            content_bytes, offsets = content[f"{part}_bytes"], content[f"{part}_offsets"]
            for index, label in enumerate(content[f"{part}_labels"][:count]):
                name = f"{part}-{index}.jpg"
                data = content_bytes[offsets[index] : offsets[index + 1]].tobytes()
                (folder / name).write_bytes(data)
                rows.append((name, int(label), split))
    with (folder / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return folder / "labels.csv"


@pytest.mark.parametrize("name", ["se_resnet20_small", "resnet20_small"])
def test_int8_keeps_what_was_learnt_and_the_runtimes_agree(name, pictures, tmp_path, monkeypatch):
    monkeypatch.setenv("EDGESE_CACHE_DIR", str(tmp_path / "cache"))
    weights = WEIGHTS / f"{name}.safetensors"
    floats, logits = {}, {}
    reference = evaluate(name, pictures, weights=weights, split="test", logits=floats)
    assert reference.top1.share > 0.8
    made = quantize(name, pictures, weights=weights, split="calibration", out=tmp_path)
    assert made.collapse == ""
    rows = convert(made.program, RUNTIMES, out=tmp_path)
    assert [row.error for row in rows] == [""] * 3
    firsts = []
    for row in rows:
        assert row.parity.max_abs_diff == 0
        found = evaluate(row.artifact, pictures, split="test", logits=logits)
        close = agreement(reference, found, (floats, logits))
        assert close.top1_difference > -0.01
        assert close.kl < 0.01
        firsts.append([prediction.classes[0] for prediction in found.predictions])
    assert firsts[0] == firsts[1] == firsts[2]

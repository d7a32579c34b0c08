"""Several processes that share each step reach what one reaches alone."""

import json
import os
import subprocess
import sys

import pytest
import torch

import edgese
from edgese.models.builder import build
from edgese.models.registry import find_model
from edgese.models.untrained import plausible
from edgese.models.weights import save_weights

pytestmark = pytest.mark.usefixtures("one_thread")

SPEC = """
name = "tiny"
family = "mine"
classes = 10

[stem]
channels = [8]
stride = 1

[[stages]]
block = "basic"
channels = 8
depth = 1
se = { reduction = 2 }

[preprocessing]
height = 8
width = 8
crop = 1.0
"""
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m")


def test_two_processes_reach_what_one_reaches(tmp_path, monkeypatch):
    from safetensors.torch import load_file

    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.toml").write_text(SPEC)
    save_weights(plausible(build(find_model("tiny.toml")), seed=1), tmp_path / "start.safetensors")
    # The recipe keeps BatchNorm's statistics, so a picture's result depends on no other one.
    one = edgese.train(
        "tiny.toml",
        recipe="finetune",
        weights="start.safetensors",
        out=tmp_path / "alone",
        epochs=1,
        device="cpu",
        workers=0,
        strict=False,
    )
    command = [sys.executable, *TORCHRUN, "edgese", "train", "tiny.toml", "--recipe", "finetune"]
    command += ["--weights", "start.safetensors", "--out", "together", "--epochs", "1", "--json"]
    together = subprocess.run(
        [*command, "--device", "cpu", "--workers", "0"],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert together.returncode == 0, together.stderr
    # One of the two reports, and nothing is in its way.
    two = json.loads(together.stdout)["log"]
    assert together.stderr.count("epoch 1 of 1") == 2
    assert (one.log.processes, two["processes"]) == (1, 2)

    start, first, second = (
        load_file(tmp_path / name)
        for name in ("start.safetensors", one.weights, "together/weights.safetensors")
    )
    for name, tensor in first.items():
        assert torch.allclose(tensor, second[name], atol=1e-5), name
    assert max((first[name] - start[name]).abs().max() for name in first) > 1e-3
    row, (other,) = one.log.epochs[0], two["epochs"]
    assert row.train_loss == pytest.approx(other["train_loss"], abs=1e-5)
    assert row.train_top1 == other["train_top1"]
    assert two["val"]["of"] == 359
    assert abs(one.log.val.count - two["val"]["count"]) <= 1

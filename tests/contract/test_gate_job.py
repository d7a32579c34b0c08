"""The jobs of docs/ci.md, run as a user's repository would run them; real artifacts, real times."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

ROOT = Path(__file__).parents[2]
DOCS = (ROOT / "docs/ci.md").read_text(encoding="utf-8")
# Enough for a network that is many times heavier, and little enough for a test.
QUICK = ("--threads=1", "--launches=4", "--blocks=8", "--min-runs=80", "--min-time=0")
# Of one artifact alone.
QUICKER = ("--threads=1", "--launches=2", "--blocks=4", "--min-runs=40", "--min-time=0")
# Everything of a busy machine that is not a heavier network.
BUDGET = """
[[budget]]
device = "host"
size_mb = 6.0
cpu_operators = 0
max_slowdown = 4.0
"""


def commands(pattern):
    """The `edgese` lines of the page that a pattern finds, without what installs."""
    return [shlex.split(line) for line in re.findall(pattern, DOCS, re.MULTILINE)]


GITHUB = commands(r"^      - run: (edgese .*)$")
GITLAB = commands(r"^    - (edgese .*)$")
RENEWING = commands(r"^(edgese baseline update .*)$")


def onnx_file(path, repeats):
    """An ONNX model that convolves ``repeats`` times."""
    from onnx import TensorProto, helper, numpy_helper, save

    weight = np.full((3, 3, 3, 3), 0.1, np.float32)
    nodes = [
        helper.make_node("Conv", [f"x{i}", "w"], [f"x{i + 1}"], pads=[1, 1, 1, 1])
        for i in range(repeats)
    ]
    nodes.append(helper.make_node("ReduceMean", [f"x{repeats}"], ["y"], axes=[2, 3], keepdims=0))
    shapes = {"x0": (1, 3, 64, 64), "y": (1, 3)}
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in shapes.items()]
    graph = helper.make_graph(
        nodes, "g", ends[:1], ends[1:], [numpy_helper.from_array(weight, "w")]
    )
    save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8),
        str(path),
    )


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """A repository with a model and a budget, whose committed baseline is of that model."""
    folder = tmp_path_factory.mktemp("repository")
    (folder / "models").mkdir()
    (folder / "edgese.toml").write_text(BUDGET)
    return folder


def run(folder, command, summary=None, plan=QUICK):
    """One line of a job, as its shell would run it."""
    assert command[0] == "edgese"
    environment = os.environ | {"EDGESE_CACHE_DIR": str(folder / ".cache")}
    if summary is not None:
        environment["GITHUB_STEP_SUMMARY"] = str(summary)
    return subprocess.run(
        [sys.executable, "-m", "edgese", *command[1:], *plan],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_page_has_the_lines_that_are_run_here():
    assert (len(GITHUB), len(GITLAB), len(RENEWING)) == (1, 1, 1)


def test_a_job_passes_rejects_a_heavier_variant_and_misses_its_baseline(repository, described):
    model = repository / "models" / "classifier.onnx"
    onnx_file(model, 2)
    described(model)
    made = run(repository, RENEWING[0])
    assert made.returncode == 0, made.stderr
    kept = list((repository / "baseline.json.artifacts").rglob("classifier.onnx"))
    assert [path.read_bytes() for path in kept] == [model.read_bytes()]

    same = run(repository, GITHUB[0])
    assert same.returncode == 0, same.stdout + same.stderr
    assert ET.parse(repository / "gate.xml").findall(".//failure") == []  # noqa: S314  # made here

    onnx_file(model, 60)
    described(model)
    summary = repository / "summary.md"
    heavier = run(repository, GITHUB[0], summary)
    assert heavier.returncode == 1, heavier.stdout + heavier.stderr
    assert "max_slowdown misses" in heavier.stderr
    assert "::error title=classifier.onnx on host%3A max_slowdown misses::" in heavier.stderr
    assert "**misses**" in summary.read_text()
    failures = ET.parse(repository / "gate.xml").findall(".//failure")  # noqa: S314  # made here
    assert [failure.get("type") for failure in failures] == ["misses"]
    in_gitlab = run(repository, GITLAB[0])
    assert in_gitlab.returncode == 1, in_gitlab.stdout + in_gitlab.stderr
    assert "**misses**" in (repository / "gate.md").read_text()

    (repository / "baseline.json").unlink()
    lost = run(repository, GITHUB[0])
    assert lost.returncode == 8, lost.stdout + lost.stderr
    assert "baseline.json cannot be read" in lost.stderr


def test_noise_is_measured_and_lets_files_be_compared(repository, described):
    """A second file of the same artifact is no slowdown; without noise nobody knows."""

    def quickly(command):
        return run(repository, command, plan=QUICKER)

    model = repository / "models" / "other.onnx"
    onnx_file(model, 2)
    described(model)
    (repository / "budget.toml").write_text(
        "[budget]\nmax_slowdown = 50.0\nlatency_p50_ms = 2000\n"
    )
    profile = ["edgese", "profile", "models/other.onnx", "--require-device"]
    assert quickly([*profile, "--out", "then.json"]).returncode == 0
    assert quickly([*profile, "--out", "now.json"]).returncode == 0
    # From files alone: nothing is measured, so nothing says how.
    judge = ["edgese", "gate", "now.json", "--baseline", "b.json", "--budget", "budget.toml"]
    update = ["edgese", "baseline", "update", "then.json", "--baseline", "b.json"]
    assert quickly(update).returncode == 0
    unclear = quickly(judge)
    assert unclear.returncode == 6
    # The slowdown and the latency itself.
    assert unclear.stderr.count("--calibrate-noise") == 2
    told = quickly([*profile[:-1], "--calibrate-noise", "--runs", "6"])
    assert told.returncode == 0, told.stderr
    assert (repository / "noise.json").is_file()
    passed = quickly(judge)
    assert passed.returncode == 0, passed.stdout + passed.stderr


def test_compare_tells_a_heavier_artifact_from_a_lighter_one(repository, described):
    for name, repeats in (("light", 2), ("heavy", 60)):
        onnx_file(repository / f"{name}.onnx", repeats)
        described(repository / f"{name}.onnx")
    told = run(repository, ["edgese", "compare", "light.onnx", "heavy.onnx"])
    assert (told.returncode, told.stdout.count("SLOWER:")) == (0, 1), told.stderr
    back = run(repository, ["edgese", "compare", "heavy.onnx", "light.onnx"])
    assert back.stdout.count("FASTER:") == 1, back.stdout

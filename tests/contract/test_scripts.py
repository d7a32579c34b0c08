"""What a user runs: a plain script without a guard around its code, and what the terminal shows."""

import os
import re
import subprocess
import sys

import pytest

from edgese import store

SCRIPT = """
import edgese

model = edgese.customized(edgese.find_model("se_resnet20_small"), resolution=(16, 16))
trained = edgese.train(
    model, "digits", recipe="digits", weights="none", out="run", epochs=1, workers=2, strict=False
)
made = edgese.quantize(
    model, "embedded", weights=trained.weights, recipe="int8-minmax", out="out", strict=False
)
rows = edgese.convert(made.program, ["onnxruntime", "coreml"], out="out", strict=False)
print(*(f"{row.target}={row.artifact}" for row in rows))
"""
LATER = """
import logging
from edgese.targets.coreml.package import import_coremltools
import_coremltools()
logging.getLogger("coremltools").warning("of the work")
"""
# What libraries say of themselves: nothing that a user could or should do anything about.
CHATTER = re.compile(
    r"Failed to load|has not been tested|W\d{4} |WARNING|Warning|TensorFlow|Created", re.IGNORECASE
)


def ran(folder, *command):
    return subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env=os.environ | {store.CACHE_VARIABLE: str(folder / "cache")},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    folder = tmp_path_factory.mktemp("script")
    (folder / "script.py").write_text(SCRIPT)
    return folder, ran(folder, "script.py")


def test_a_script_that_guards_nothing_trains_quantizes_and_converts(script):
    folder, outcome = script
    assert outcome.returncode == 0, outcome.stderr
    artifacts = dict(one.split("=") for one in outcome.stdout.split())
    assert set(artifacts) == {"onnxruntime", "coreml"}
    assert all((folder / artifact).exists() for artifact in artifacts.values())


def test_such_a_script_shows_nothing_of_the_libraries(script):
    _, outcome = script
    assert [line for line in outcome.stderr.splitlines() if CHATTER.search(line)] == []


@pytest.mark.parametrize("target", ["coreml", "onnxruntime"])
@pytest.mark.parametrize("how", ["command", "function"])
def test_inspecting_an_artifact_shows_nothing_of_the_libraries(script, target, how):
    folder, outcome = script
    artifact = dict(one.split("=") for one in outcome.stdout.split())[target]
    delegate = "coreml" if target == "coreml" else "cpu"
    told = (
        ran(folder, "-m", "edgese", "inspect", artifact, "--delegate", delegate)
        if how == "command"
        else ran(folder, "-c", f"import edgese; edgese.inspect({artifact!r}, {delegate!r})")
    )
    assert told.returncode == 0, told.stderr
    assert [line for line in told.stderr.splitlines() if CHATTER.search(line)] == []


def test_what_coremltools_logs_once_it_is_imported_is_shown():
    told = subprocess.run(
        [
            sys.executable,
            "-c",
            LATER,
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stderr.strip().endswith("of the work")
    assert "Failed to load" not in told.stderr

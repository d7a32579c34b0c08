"""What is imported when: the start of the command, and the direction between packages."""

import ast
import json
import resource
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "edgese"
HEAVY = ("torch", "coremltools", "onnx", "onnxruntime", "rich", "numpy", "PIL", "sklearn")

# From the rim inwards: a package may import from those that stand after it, never before.
LAYERS = (
    ("cli",),
    ("demonstration", "diagnosis"),
    ("story",),
    ("selection", "report"),
    ("results", "budgets"),
    ("conversion", "evaluation", "inspection", "measure", "prediction", "quantization", "training"),
    ("seals", "targets", "devices", "models", "data", "statistics", "store", "scratch"),
    ("program",),
    ("catalog", "project", "parallel", "machine"),
    ("protocols",),
    ("records",),
    ("bounds", "workers"),
    ("lifeline",),
    ("guard", "errors", "paths"),
)
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}


def loaded_after(code: str) -> set[str]:
    script = f"import sys, json\n{code}\nprint(json.dumps(sorted(sys.modules)))"
    outcome = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    return set(json.loads(outcome.stdout.splitlines()[-1]))


@pytest.mark.parametrize(
    "arguments", [["--help"], ["convert", "--help"], ["profile", "--help"], ["--version"]]
)
def test_help_loads_no_heavy_library(arguments):
    code = f"from edgese.__main__ import run\nrun({arguments!r})"
    assert loaded_after(code).isdisjoint(HEAVY)


def test_importing_edgese_loads_no_heavy_library():
    assert loaded_after("import edgese").isdisjoint(HEAVY)


def processor_seconds(command: list[str]) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, capture_output=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def test_help_starts_in_time():
    """150 ms where a bare interpreter starts in 11, and in proportion on a slower machine.

    In turns, so that a machine that slows down half-way slows both.
    """
    bare, command = [sys.executable, "-c", ""], [sys.executable, "-m", "edgese", "--help"]
    processor_seconds(command)  # what is compiled once
    turns = [(processor_seconds(bare), processor_seconds(command)) for _ in range(20)]
    own = statistics.median(taken for _, taken in turns)
    ratio = statistics.median(taken / start for start, taken in turns)
    assert own < 0.150 or ratio < 0.150 / 0.011, f"{own:.3f} s, {ratio:.1f} bare starts"


def imports_of(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            if node.module == "edgese":
                found |= {f"edgese.{alias.name}" for alias in node.names}
            else:
                found.add(node.module)
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {name.split(".")[1] for name in found if name.startswith("edgese.")}


def test_imports_go_one_way():
    wrong = []
    for path in PACKAGE.rglob("*.py"):
        layer = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if layer in ("__init__", "__main__"):
            continue
        assert layer in RANK, f"{layer} has no place in LAYERS"
        wrong += [
            f"{path.relative_to(PACKAGE)} imports edgese.{other}"
            for other in imports_of(path)
            if other in RANK and RANK[other] < RANK[layer]
        ]
    assert wrong == []


def test_rich_is_drawn_with_in_one_file():
    users = {
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        if "import rich" in path.read_text() or "from rich" in path.read_text()
    }
    assert users == {"cli/ui.py"}

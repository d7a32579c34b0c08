"""What is imported when: the start of the command, and the direction between packages."""

import ast
import json
import os
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
    ("seals", "targets", "devices", "models", "data", "statistics", "store"),
    ("catalog", "project", "machine"),
    ("protocols",),
    ("records",),
    ("errors",),
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


def test_help_starts_in_time():
    """Of a processor's time, which a busy machine leaves about as it is."""

    def seconds(command):
        taken = []
        for _ in range(20):
            before = os.times()
            subprocess.run(command, capture_output=True, check=True)
            after = os.times()
            user = after.children_user - before.children_user
            taken.append(user + after.children_system - before.children_system)
        return statistics.median(taken)

    # 150 ms is the promise on a quiet machine; a slow one shows in the bare interpreter's start.
    allowance = max(0.0, seconds([sys.executable, "-c", ""]) - 0.03) * 4
    assert seconds([sys.executable, "-m", "edgese", "--help"]) < 0.150 + allowance


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

"""What is imported when: the start of the command, and the direction between packages."""

import ast
import json
import resource
import statistics
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "edgese"
HEAVY = ("torch", "coremltools", "onnx", "onnxruntime", "rich", "numpy", "PIL", "sklearn")

# Lowest first: a room may import from those before it, in functions and for types too.
ROOMS = (
    *("errors", "paths", "bounds", "records", "protocols"),
    *("guard", "lifeline", "machine", "parallel", "workers"),
    *("project", "catalog", "seals", "store", "scratch", "statistics", "version"),
    *("program", "data", "models", "training", "targets", "devices"),
    *("quantization", "conversion", "prediction", "evaluation", "inspection", "results", "measure"),
    *("budgets", "selection", "report", "story", "demonstration", "diagnosis"),
    *("__init__", "cli", "__main__"),
)
# Folders of one room whose modules know nothing of each other: a runtime is one folder.
APART = ("coreml", "executorch", "onnxruntime", "tflite")


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


def module_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in PACKAGE.rglob("*.py")}


def imports_of(source: str) -> set[str]:
    """Modules of edgese that a source imports, wherever in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            whole = [f"{node.module}.{alias.name}" for alias in node.names]
            found |= {name if name in MODULES else node.module for name in whole}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {name for name in found if name.split(".")[0] == "edgese"}


def room_of(module: str) -> str:
    return [*module.split("."), "__init__"][1]


def runtime_of(module: str) -> str:
    parts = [*module.split("."), "", ""]
    return parts[2] if parts[1] == "targets" and parts[2] in APART else ""


def against_the_order(module: str, source: str) -> list[str]:
    """Imports that lead to a later room, or from one runtime's folder into another's."""
    wrong = []
    for other in sorted(imports_of(source)):
        if ROOMS.index(room_of(other)) > ROOMS.index(room_of(module)):
            wrong.append(f"{module} imports {other}, which stands above it")
        if (mine := runtime_of(module)) and runtime_of(other) not in ("", mine):
            wrong.append(f"{module} imports {other}, another runtime")
    return wrong


def test_every_module_has_a_room_and_every_room_a_module():
    assert {room_of(module) for module in MODULES} == set(ROOMS)
    assert len(set(ROOMS)) == len(ROOMS)


def test_imports_go_one_way():
    wrong = [
        fault
        for module, path in MODULES.items()
        for fault in against_the_order(module, path.read_text(encoding="utf-8"))
    ]
    assert wrong == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("edgese.quantization.api", "from edgese.conversion.api import convert"),
        ("edgese.quantization.ptq", "def f():\n    from edgese.measure import statistics"),
        ("edgese.measure.api", "from edgese import selection"),
        ("edgese.records.model", "import edgese.store"),
        ("edgese.errors", "import edgese"),
        ("edgese.targets.tflite.graph", "from edgese.targets.coreml import pairs"),
        ("edgese.targets.coreml.mil.steps", "from edgese.targets.executorch import pte"),
    ],
)
def test_an_import_against_the_order_is_found(module, source):
    assert module in MODULES
    assert len(against_the_order(module, source)) == 1


def test_no_modules_import_each_other_in_a_circle():
    sorter = TopologicalSorter(
        {
            module: imports_of(path.read_text(encoding="utf-8")) - {module}
            for module, path in MODULES.items()
        }
    )
    sorter.prepare()


def test_rich_is_drawn_with_in_one_file():
    users = {
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        if "import rich" in path.read_text() or "from rich" in path.read_text()
    }
    assert users == {"cli/ui.py"}

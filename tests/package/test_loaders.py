"""Whatever reads a file in a way that could execute it stands in the table of the architecture."""

import ast
import re
from collections import defaultdict
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "edgese"
TITLE = "## What is read, and why it cannot run code"

# Functions of modules, whatever the module: none of pickle's, yaml's or marshal's is in the table.
FUNCTIONS = {
    *("load", "loads", "load_file", "load_model", "load_library", "load_module", "safe_open"),
    *("loadtxt", "genfromtxt", "fromfile", "memmap", "open_memmap", "read_pickle", "Unpickler"),
    *("import_module", "exec_module", "module_from_spec", "run_path", "run_module", "entry_points"),
    *("CDLL", "PyDLL", "LoadLibrary", "dlopen", "ZipFile", "open", "unpack_archive"),
    *("InferenceSession", "MLModel", "Popen", "check_output", "check_call", "call", "system"),
    *("popen", "execv", "execve", "execvp", "execvpe", "posix_spawn", "spawnv", "fork", "eval"),
    *("exec", "compile", "create_subprocess_exec", "create_subprocess_shell", "expand_urls"),
    *("get_context", "hub", "package", "jit", "sympify", "literal_eval"),
}
# A few that are said with their module alone, since others have the same name for other things.
FULL = {"subprocess.run", "ray.init", "ai_edge_litert.interpreter.Interpreter"}
# Methods of objects that a library gives.
METHODS = {"extract", "extractall", "ParseFromString", "_load_program", "find_class"}
BUILTINS = {"eval", "exec", "compile", "__import__"}
HARMLESS = {
    "json.loads",  # data alone
    "os.open",  # bytes
    "platform.system",  # a name
    "re.compile",
}


def imported(tree):
    """What each name of a file stands for that an import gives."""
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                first = alias.name.partition(".")[0]
                names[alias.asname or first] = alias.name if alias.asname else first
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                names[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    return names


def dotted(node, names):
    """The full name of an attribute of something imported; None for any other."""
    parts = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if isinstance(node, ast.Name) and node.id in names:
        return ".".join([names[node.id], *reversed(parts)])
    return None


def watched(node, names):
    """The name under which a reference is watched; None where it is not."""
    name = dotted(node, names)
    if isinstance(node, ast.Name) and node.id in BUILTINS and name is None:
        return node.id
    if name is None:
        return node.attr if isinstance(node, ast.Attribute) and node.attr in METHODS else None
    if name.startswith("edgese") or name in HARMLESS:
        return None
    if name in FULL or name.rpartition(".")[2] in FUNCTIONS | METHODS:
        return name
    return None


def references(text):
    """Watched names of a source text, and the calls of each."""
    tree = ast.parse(text)
    names = imported(tree)
    calls = {id(node.func): node for node in ast.walk(tree) if isinstance(node, ast.Call)}
    found = defaultdict(list)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute | ast.Name) and (name := watched(node, names)):
            found[name].append(calls.get(id(node)))
    return found


@cache
def all_references():
    return {
        path.relative_to(PACKAGE).as_posix(): references(path.read_text())
        for path in PACKAGE.rglob("*.py")
    }


def table():
    """The names and files of the table."""
    text = (ROOT / "docs" / "architecture.md").read_text()
    section = text.partition(f"{TITLE}\n")[2].partition("\n## ")[0]
    rows = [row.split("|")[1:-1] for row in section.splitlines() if row.startswith("| `")]
    return {
        (name, file)
        for what, where, *_ in rows
        for name in re.findall(r"`([^`]+)`", what)
        for file in re.findall(r"`([^`]+\.py)`", where)
    }


def test_the_table_has_exactly_what_the_code_has():
    found = {(name, file) for file, names in all_references().items() for name in names}
    assert found == table()


def test_the_scan_sees_other_ways_to_say_the_same():
    text = """
import pickle as p, numpy as np, os
from torch import export, hub
from pickle import loads as read
from torch.jit import load
def f(path):
    p.load(path); read(path); export.load(path); load(path); np.load(path); hub.load(path)
    return map(p.loads, path), eval(path), os.system(path), archive.extractall(path)
"""
    assert set(references(text)) == {
        *("pickle.load", "pickle.loads", "torch.export.load", "torch.jit.load", "numpy.load"),
        *("torch.hub", "torch.hub.load", "eval", "os.system", "extractall"),
    }


# What makes a function safe that is not so by itself.
NEEDED = {
    "torch.load": ("weights_only", True),
    "numpy.load": ("allow_pickle", False),
    "onnx.load": ("load_external_data", False),
    "PIL.Image.open": ("formats", ...),
    "extract": ("filter", "data"),
}


def test_calls_say_what_makes_them_safe():
    seen = set()
    for file, names in all_references().items():
        for name, (keyword, value) in NEEDED.items():
            for call in names.get(name, ()):
                assert call is not None, f"{file} hands {name} on"
                given = {one.arg: one.value for one in call.keywords}
                assert keyword in given, f"{file}:{call.lineno}"
                assert value is ... or ast.literal_eval(given[keyword]) == value
                seen.add(name)
    assert seen == set(NEEDED)


STARTERS = ("subprocess.run", "subprocess.Popen", "lifeline.run", "lifeline.Child", "Child")


def test_no_program_is_started_through_a_shell():
    starts = 0
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                assert "shell" not in {one.arg for one in node.keywords}, f"{path}:{node.lineno}"
                starts += ast.unparse(node.func) in STARTERS
    assert starts > 10

"""The examples in docstrings and in the README run as they are written.

What takes minutes or is a user's own has a small substitute; the text of an example is what runs.
"""

import ast
import inspect
import re
import textwrap
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from fake_devices.phone import FakePhone

import edgese
from edgese import catalog, project, store
from edgese.models import registry, weights
from edgese.records.model import ModelSpec

ROOT = Path(__file__).parents[2]
# Blocks that are no Python: a chart, a tree of files, a shell's command, an outline.
TEXTS = {
    "edgese/conversion/cache.py",
    "edgese/devices/sysroot/__init__.py",
    "edgese/measure/sweep.py",
    "edgese/report/chart.py",
}
NAMED = "efficientnet_lite0"
TARGETS = ("onnxruntime", "tflite")


def blocks_of(docstring):
    """The indented blocks after ``::``, and the sessions of ``>>>``."""
    text = inspect.cleandoc(docstring)
    found = re.findall(r"::\n\n((?:(?:[ ]+.*)?\n)*(?:[ ]+.*))", text + "\n")
    sessions = re.findall(r"(?:^ *>>> .*\n?(?: *\.\.\. .*\n?)*)+", text, re.MULTILINE)
    return [textwrap.dedent(block).strip("\n") for block in found] + [
        "\n".join(re.findall(r"^ *(?:>>>|\.\.\.) (.*)", session, re.MULTILINE))
        for session in sessions
    ]


def is_python(text):
    try:
        ast.parse(text)
    except SyntaxError:
        return False
    return True


def every_block():
    for path in sorted((ROOT / "edgese").rglob("*.py")):
        name = str(path.relative_to(ROOT))
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                yield from ((name, block) for block in blocks_of(ast.get_docstring(node) or ""))
    for block in re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL):
        yield "README.md", block


BLOCKS = list(every_block())
EXAMPLES = [pytest.param(text, id=name) for name, text in BLOCKS if name not in TEXTS]


def test_every_example_was_found_and_is_python():
    assert {name for name, _ in BLOCKS if name in TEXTS} == TEXTS
    assert [name for name, text in BLOCKS if name not in TEXTS and not is_python(text)] == []
    assert {"README.md", "edgese/__init__.py", "edgese/conversion/api.py"} <= {
        name for name, _ in BLOCKS
    }


@pytest.fixture
def small(tmp_path, monkeypatch, tiny_spec):
    """A place where a published name is a tiny network whose weights a package brings."""
    monkeypatch.chdir(tmp_path)
    project.root.cache_clear()
    monkeypatch.setenv(store.CACHE_VARIABLE, str(tmp_path / "cache"))
    spec = ModelSpec.from_toml(tiny_spec.replace('"tiny"', f'"{NAMED}"'), "tiny.toml")
    torch.manual_seed(0)
    network, _ = edgese.load_network(spec, edgese.resolve_weights(spec, "none"))
    edgese.save_weights(network, tmp_path / "packaged.safetensors")
    monkeypatch.setattr(registry, "models", lambda: {NAMED: spec})
    monkeypatch.setattr(weights, "_packaged", lambda _: tmp_path / "packaged.safetensors")
    monkeypatch.setattr(catalog, "target_names", lambda: TARGETS)
    fewest = {"launches": 4, "blocks": 4, "min_runs": 4, "min_time_s": 0.01, "warmup_time_s": 0.01}
    for name, value in fewest.items():
        monkeypatch.setitem(edgese.profile.__kwdefaults__, name, value)
    from edgese.data.embedded import sample_pictures

    (tmp_path / "pictures").mkdir()
    for number in range(64):
        name, image = list(sample_pictures())[number % 2]
        image.rotate(number).save(tmp_path / "pictures" / f"{number}-{Path(name).stem}.png")
    yield network
    project.root.cache_clear()


@pytest.mark.parametrize("text", EXAMPLES)
def test_an_example_runs_as_it_is_written(text, small, tmp_path):
    commands = []
    names = {
        "edgese": edgese,
        "my_module": small,
        # The phone is there; the client of adb is tried in tests/device.
        "FakePhone": FakePhone,
        "folder": tmp_path,
        "subprocess": SimpleNamespace(run=commands.append),
    }
    exec(compile(text, "example", "exec"), names)  # noqa: S102  # that is the test
    if "rows" in names:
        assert {row.target for row in names["rows"]} <= set(TARGETS)
        assert all(Path(row.artifact).exists() for row in names["rows"])
    if "result" in names:
        assert len(names["result"].profiles) == len(TARGETS)
    assert all(command[:2] == ["adb", "connect"] for command in commands)

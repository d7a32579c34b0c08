"""Every command and every option that a hint names exists."""

import ast
import importlib.util
from pathlib import Path

import pytest

import edgese
from edgese.__main__ import run
from edgese.errors import ConfigError

_SPEC = importlib.util.spec_from_file_location("hints", Path(__file__).parents[1] / "hints.py")
hints = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(hints)


def text_of(node):
    """The literal text of an expression; what it computes is X."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=values):
            return "".join(map(text_of, values))
        case ast.BinOp(left=left, right=right):
            return text_of(left) + text_of(right)
        case ast.IfExp(body=body, orelse=orelse):
            return f"{text_of(body)} {text_of(orelse)}"
        case ast.BoolOp(values=values):
            return " ".join(map(text_of, values))
    return "X"


def hints_in(source):
    """The hints in a module's source, with the numbers of their lines."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            for keyword in node.keywords:
                if keyword.arg in ("hint", "remake"):
                    yield node.lineno, text_of(keyword.value)


def test_commands_and_options_in_hints_exist():
    root = Path(edgese.__file__).parent
    found = [
        (f"{path.relative_to(root)}:{line}", hint)
        for path in sorted(root.rglob("*.py"))
        for line, hint in hints_in(path.read_text(encoding="utf-8"))
    ]
    assert len(found) > 400
    wrong = {place: said for place, hint in found if (said := hints.check_hint(hint))}
    assert not wrong


@pytest.mark.parametrize(
    ("hint", "command", "said"),
    [
        ("Give --classes 5.", "evaluate", ""),
        ("Give --qat.", "evaluate", "`edgese evaluate` has no --qat"),
        ("`edgese quantize MODEL --qat` does.", "evaluate", ""),
        ("`edgese quantize MODEL --gat` does.", "evaluate", "'edgese quantize MODEL --gat' has no"),
        ("`edgese squeeze MODEL` does.", "evaluate", "there is no command 'edgese squeeze MODEL'"),
        ("`edgese cache prune --older-than 3` does.", "evaluate", ""),
        ("pip install --force-reinstall x", "evaluate", ""),
    ],
)
def test_a_name_that_does_not_exist_is_found(hint, command, said):
    assert hints.check_hint(hint, command).startswith(said)
    assert bool(hints.check_hint(hint, command)) == bool(said)


def test_a_test_fails_whose_command_ends_in_a_hint_of_another_command(monkeypatch):
    def fails(*_, **__):
        raise ConfigError("It failed.", hint="Give --qat.")

    monkeypatch.setattr("edgese.evaluation.subjects.find_subject", fails)
    with pytest.raises(AssertionError, match="--qat"):
        run(["evaluate", "efficientnet_lite0", "--data", "x"])

"""The documentation says what the program does."""

import re
import shlex
from pathlib import Path
from types import SimpleNamespace

import pytest

from edgese.cli.reference import help_texts, reference

ROOT = Path(__file__).parents[2]
COMMANDS = dict(help_texts())


def test_the_command_reference_is_up_to_date():
    assert reference() == (ROOT / "docs/cli.md").read_text()


@pytest.mark.parametrize("command", COMMANDS)
def test_every_help_text_ends_in_an_example(command):
    last = COMMANDS[command].strip().splitlines()[-1].strip()
    assert last.startswith(("Example: edgese", "edgese ")), last


@pytest.mark.parametrize("command", [name for name in COMMANDS if name.count(" ") == 1])
def test_every_command_is_told_in_the_readme(command):
    assert command in (ROOT / "README.md").read_text()


def ci_lines():
    """The commands of docs/ci.md, in the order of the page: of shells, and of jobs."""
    text = (ROOT / "docs/ci.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```(?:sh|yaml)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = (line.strip().removeprefix("- ") for line in "".join(blocks).splitlines())
    commands = [line.removeprefix("run: ") for line in lines]
    return [line for line in commands if line.startswith(("edgese ", "cp "))]


@pytest.mark.parametrize("line", [line for line in ci_lines() if line.startswith("edgese ")])
def test_every_command_of_the_page_on_builds_exists(line, parses):
    parses(line)


def test_the_page_on_builds_renames_what_convert_makes():
    """The name that the budget and the baseline go by is no name that convert gives."""
    from edgese import catalog
    from edgese.models.registry import find_model
    from edgese.models.subject import model_name

    words = shlex.split(next(line for line in ci_lines() if line.startswith("edgese convert")))
    options = dict(zip(words[3::2], words[4::2], strict=True))
    spec = find_model(words[2])
    card = SimpleNamespace(name=spec.name, preprocessing=spec.preprocessing, classes=spec.classes)
    name = model_name(card, native=spec, batch=1, trained=True)
    suffix = catalog.target_facts(options["--target"]).suffix
    made = f"{name}-{options['--recipe']}{suffix}"
    copied = [shlex.split(line)[1:] for line in ci_lines() if line.startswith("cp ")]
    assert copied == [
        [f"{options['--out']}/{made}{end}", f"models/classifier.onnx{end}"] for end in ("", ".json")
    ]
    judged = [line for line in ci_lines() if line.startswith("edgese gate")]
    assert all("models/classifier.onnx" in line for line in judged)

"""The documentation says what the program does."""

from pathlib import Path

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

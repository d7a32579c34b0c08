"""Writes the reference of all commands: ``python -m edgese.cli.reference``.

``docs/cli.md`` is its output, made from the help texts; a test holds that it is up to date.
"""

import sys
from collections.abc import Iterator
from typing import Final

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from edgese.cli.app import app

WIDTH: Final = 100
PREFACE: Final = """\
# Commands

Written by `python -m edgese.cli.reference > docs/cli.md` from the commands' own help texts.
Results go to stdout, progress and notes to stderr. The exit codes are in
[architecture.md](architecture.md#errors).
"""


def reference() -> str:
    """The whole page, in Markdown."""
    return PREFACE + "".join(f"\n## {name}\n\n```text\n{text}```\n" for name, text in help_texts())


def help_texts() -> Iterator[tuple[str, str]]:
    """Every command's full name with its help text; a group before its commands."""
    command = get_command(app)
    if isinstance(command, TyperGroup):
        yield from _walk(command, "edgese", None)


def _walk(
    command: TyperCommand | TyperGroup, name: str, parent: typer.Context | None
) -> Iterator[tuple[str, str]]:
    context = typer.Context(
        command, info_name=name, parent=parent, terminal_width=WIDTH, max_content_width=WIDTH
    )
    yield context.command_path, command.get_help(context) + "\n"
    if isinstance(command, TyperGroup):
        for child in command.list_commands(context):
            found = command.get_command(context, child)
            if isinstance(found, TyperCommand | TyperGroup):
                yield from _walk(found, child, context)


if __name__ == "__main__":
    sys.stdout.write(reference())

"""Finds commands and options that a message names, and compares them with the command line's own.

``check_hint`` is used on every error that a test's command ends in (see conftest.py), and on every
hint in the source (see unit/test_hints.py).
"""

import re
from functools import cache

from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from edgese.cli.app import app

_OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*")
_COMMAND = re.compile(r"edgese ((?:[a-z]+ ?){1,2})")
# Options of other programs that messages name.
FOREIGN = frozenset({"--head", "--resources", "--force-reinstall", "--upgrade", "--write"})
_FOREIGN_COMMAND = re.compile(r"\b(?:pip install|ray start|python tests/bench/\w+\.py)[^`;.]*")


@cache
def options():
    """The options of every command by its name, as in ``cache prune``; "" has those of all."""
    found = {}

    def walk(command, name):
        if isinstance(command, TyperGroup):
            for child, inner in command.commands.items():
                walk(inner, f"{name} {child}".strip())
        elif isinstance(command, TyperCommand):
            found[name] = {
                option for each in command.params for option in (*each.opts, *each.secondary_opts)
            }

    walk(get_command(app), "")
    return found | {"": frozenset().union(*found.values())}


def command_of(text):
    """The command whose name begins a text; None where none does."""
    words = text.split()
    names = (" ".join(words[:length]) for length in (2, 1) if len(words) >= length)
    return next((name for name in names if name and name in options()), None)


def check_hint(hint, command=""):
    """Say what is wrong with a hint of a command; "" where each name in it exists.

    Options in `` `edgese COMMAND ...` `` are that command's, others those of ``command``.
    """
    wrong = []
    rest = _FOREIGN_COMMAND.sub("", hint)
    for quoted in re.findall(r"`(edgese [^`]*)`", rest):
        rest = rest.replace(f"`{quoted}`", "")
        words = quoted.removeprefix("edgese ")
        named = command_of(words)
        group = words.split()[0] if words.split() else ""
        if named is None and not any(name.startswith(f"{group} ") for name in options()):
            wrong.append(f"there is no command {quoted!r}")
        known = options().get(named or "", frozenset()) | {"--help"}
        wrong += [f"{quoted!r} has no {o}" for o in _OPTION.findall(quoted) if o not in known]
    known = options()[command] | FOREIGN | {"--help"}
    wrong += [
        f"`edgese {command}` has no {option}"
        for option in _OPTION.findall(rest)
        if option not in known
    ]
    return "; ".join(wrong)

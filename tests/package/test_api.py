"""The public face of the package."""

import ast
from pathlib import Path

import pytest

import edgese


def test_the_public_names_are_sorted_and_complete():
    assert sorted(edgese.__all__) == edgese.__all__
    tree = ast.parse(Path(edgese.__file__).read_text())
    promised_to_type_checkers = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.If)
        for statement in node.body
        if isinstance(statement, ast.ImportFrom)
        for alias in statement.names
    }
    assert promised_to_type_checkers == set(edgese.__all__)


@pytest.mark.parametrize("name", edgese.__all__)
def test_every_public_name_can_be_had_and_is_documented(name):
    assert getattr(edgese, name).__doc__


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'deploy'"):
        _ = edgese.deploy

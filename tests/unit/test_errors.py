"""Errors carry their exit code and their remedy."""

import pickle

import pytest

from edgese import errors


def every_error():
    kinds = [value for value in vars(errors).values() if isinstance(value, type)]
    own = [kind for kind in kinds if issubclass(kind, errors.EdgeseError)]
    return [kind for kind in own if kind is not errors.EdgeseError]


def test_every_exit_code_is_documented_and_used_once():
    codes = {kind.__name__: kind.exit_code for kind in every_error()}
    told = {
        line.split()[1]: int(line.split()[2])
        for line in errors.__doc__.splitlines()
        if line.startswith("|- ")
    }
    assert codes == told
    kinds = [kind for kind in every_error() if kind.__base__ is errors.EdgeseError]
    assert len({kind.exit_code for kind in kinds}) == len(kinds)


@pytest.mark.parametrize("kind", every_error())
def test_an_error_keeps_its_hint_across_processes(kind):
    error = pickle.loads(pickle.dumps(kind("what was found", hint="what to do")))  # noqa: S301
    assert isinstance(error, kind)
    assert (error.message, error.hint) == ("what was found", "what to do")
    assert str(error) == "what was found\nwhat to do"

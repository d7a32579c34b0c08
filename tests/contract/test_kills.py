"""A training that is killed leaves nothing that runs, lies about or is half; see tests/bench."""

import importlib.util
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def kills():
    """The bench, as a module."""
    path = Path(__file__).parents[1] / "bench/kills.py"
    spec = importlib.util.spec_from_file_location("kills", path)
    module = importlib.util.module_from_spec(spec)
    # Its dataclasses look for it there.
    sys.modules["kills"] = module
    spec.loader.exec_module(module)
    return module


def test_a_training_that_is_killed_leaves_nothing_and_goes_on_to_the_same_weights(kills, tmp_path):
    model = tmp_path / "model"
    model.mkdir()
    kills.inputs(model)
    command = kills.COMMANDS["train"]
    with kills.fresh(model, tmp_path) as whole:
        kills.done(command.argv, whole, kills.executed)
        wanted = command.facts(whole)
        assert kills.debris(whole) == []
    row = kills.Row("train")
    # While its processes read images and nothing is kept yet; and with a checkpoint.
    for pattern, after_s in (("temporary/*", 0.3), ("out/checkpoint*", 0.01)):
        with kills.fresh(model, tmp_path) as place:
            kills.attempt(command, place, wanted, pattern, after_s, pattern, row, kills.executed)
    assert row.faults == []
    assert (row.moments, row.too_late) == (2, 0)


def test_the_bench_sees_what_is_left_over(kills, tmp_path):
    for name in ("temporary", "out", "cache/work/key"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "temporary/pymp-1").touch()
    (tmp_path / "out/.x.json.edgese-partial").touch()
    (tmp_path / "out/.edgese-training.lock").touch()
    (tmp_path / "out/log.json").write_text('{"half": ')
    assert kills.debris(tmp_path) == [
        "cache/work/key",
        "out/.edgese-training.lock",
        "out/.x.json.edgese-partial",
        "temporary/pymp-1",
    ]
    (found,) = kills.unsound(tmp_path)
    assert found.startswith("out/log.json: ")

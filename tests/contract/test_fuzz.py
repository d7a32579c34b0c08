"""Damaged inputs through the real commands, in small; `tests/bench/fuzz.py` does it at length."""

import importlib.util
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from edgese import __main__

BENCH = Path(__file__).parents[1] / "bench" / "fuzz.py"


@pytest.fixture(scope="module")
def bench():
    specification = importlib.util.spec_from_file_location("bench_fuzz", BENCH)
    module = importlib.util.module_from_spec(specification)
    sys.modules["bench_fuzz"] = module
    specification.loader.exec_module(module)
    return module


def test_no_damaged_file_crashes_a_command_hangs_it_or_passes_the_gate():
    # 2.5 s for what is damaged; the rest is libraries, one conversion and one profile.
    ended = subprocess.run(
        [sys.executable, BENCH, "--target", "tflite", "--tries", "60", "--seconds", "60"],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr[-2000:]
    total = next(line for line in ended.stdout.splitlines() if line.startswith("| all"))
    tries, *_, crashes, hangs, wrong = [int(cell) for cell in total.split("|")[2:-1]]
    assert tries >= 10
    assert (crashes, hangs, wrong) == (0, 0, 0)


def ends(name):
    match name:
        case "bug":
            raise ZeroDivisionError
        case "abort":
            os.abort()
        case "exit":
            return 70
        case "sleep":
            time.sleep(60)
    return int(name)


@pytest.mark.parametrize(
    ("end", "what"),
    [
        ("bug", "crash"),
        ("abort", "crash"),
        ("exit", "crash"),
        ("sleep", "hang"),
        ("0", "wrong pass"),
        ("1", ""),
        ("8", ""),
    ],
)
def test_the_fuzzer_sees_each_fault(bench, tmp_path, monkeypatch, end, what):
    monkeypatch.setattr(__main__, "run", lambda _: ends(end))
    monkeypatch.setattr(bench, "MEMORY", 2**36)
    (tmp_path / "seeds").mkdir()
    (tmp_path / "seeds" / "x.json").write_text('{"seal": "0", "schema": 1, "value": 0.5}')
    record = msgspec.defstruct("Sealed", [("seal", str), ("schema", int), ("value", float)])
    kind = bench.Kind("made up", "x.json", ("gate", "{}"), "json", gated=True, record=record)
    tally = bench.fuzz(
        tmp_path / "seeds",
        [kind],
        seed=3,
        tries=1,
        seconds=60,
        limit_s=0.1,
        report=lambda _: None,
    )
    assert [fault.what for fault in tally.faults] == ([what] if what else [])
    assert "| made up | 1 | " in bench.table(tally)


def test_the_same_seed_damages_alike(bench):
    raw = b'{"schema": 1, "values": [1, 2, 3], "name": "x"}'
    once, again, other = (
        [bench.damaged_json(raw, random.Random(seed), None)[0] for seed in seeds]
        for seeds in (range(40), range(40), range(40, 80))
    )
    assert once == again != other
    assert len({*once} - {raw}) > 25

"""A device that is not there: what predictions can decide, and what they cannot."""

import json

import pytest

from edgese.__main__ import run

pytest.importorskip("sklearn")


@pytest.fixture
def asked(tmp_path, capsys, nothing_attached):  # noqa: ARG001  # no phone, whatever is attached
    """Runs a selection for a phone that is not there, under a budget."""

    def ask(budget, *more):
        path = tmp_path / "budget.toml"
        path.write_text(f"[[budget]]\n{budget}\n")
        code = run(
            [
                "select",
                "efficientnet_lite0..lite2",
                *("--target", "tflite", "--device", "pixel8", "--budget", str(path)),
                *("--folder", str(tmp_path / "work"), "--json", *more),
            ]
        )
        return code, json.loads(capsys.readouterr().out)

    return ask


def states(told):
    return {one["candidate"]["model"][-5:]: one["state"] for one in told["decision"]["standings"]}


def test_a_prediction_decides_where_the_budget_accepts_it(asked):
    code, told = asked('latency_p50_ms = 10000.0\nsources = ["measured", "predicted"]')
    assert code == 0
    assert told["decision"]["chosen"].startswith("efficientnet_lite2,")
    # Everything is known from rows and tables, so that nothing is converted.
    assert [one["round"] for one in told["rounds"]] == ["rows", "predictions"]


def test_a_prediction_alone_never_meets_what_must_be_measured(asked):
    code, told = asked("latency_p50_ms = 10000.0")
    assert code == 6
    assert set(states(told).values()) == {"unclear"}
    assert told["findings"] == []
    assert any("must be measured" in note for note in told["notes"])


def test_a_prediction_rules_out_what_is_far_too_slow(asked):
    code, told = asked("latency_p50_ms = 0.01")
    assert code == 1
    assert set(states(told).values()) == {"misses"}


def test_rows_rule_out_before_anything_is_predicted(asked):
    code, told = asked("macs = 1e6")
    assert code == 1
    assert told["rounds"][0]["ruled_out"] == 3
    assert told["rounds"][1]["looked_at"] == 0


def test_a_budget_is_needed(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(["select", "efficientnet_lite0", "--target", "tflite"]) == 2
    assert "budget" in capsys.readouterr().err

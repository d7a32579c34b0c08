"""Selecting for real: tiny networks, converted and measured on this host."""

import json
from functools import partial

import msgspec
import pytest

from edgese.__main__ import run
from edgese.errors import ConfigError
from edgese.measure.sustained import sustained
from edgese.models.registry import find_model, to_toml
from edgese.records.artifact import Manifest
from edgese.records.budget import BudgetTable
from edgese.records.measurement import MeasurePlan
from edgese.records.model import Published
from edgese.records.selection import SelectionResult
from edgese.selection.api import select
from edgese.selection.candidates import enumerated, spec_of
from edgese.selection.deciding import Aim
from edgese.selection.work import Order

PLAN = MeasurePlan(threads=1, launches=4, blocks=4, min_runs=8, min_time_s=0.02)


@pytest.fixture
def candidates(tmp_path, monkeypatch):
    """Three networks of one family, whose accuracies are told by a table of the project's own."""
    base = find_model("efficientnet_lite0")
    rows = []
    for number, depth in enumerate((1, 2, 3)):
        stages = tuple(msgspec.structs.replace(one, depth=depth) for one in base.stages[:3])
        pixels = msgspec.structs.replace(base.preprocessing, height=48, width=48)
        spec = msgspec.structs.replace(
            base,
            name=f"tiny_{number}",
            stages=stages,
            preprocessing=pixels,
            published=Published(top1=70.0 + number, source="a test"),
        )
        path = tmp_path / f"tiny_{number}.toml"
        path.write_text(to_toml(spec))
        rows.append(str(path))
    # A spec of one's own is known to nobody, so its accuracy is what it says of itself here.
    monkeypatch.setattr("edgese.selection.api.published", told_by_itself)
    return enumerated(rows, targets=["onnxruntime"], recipes=["fp32"])


def told_by_itself(candidate):
    from edgese.records.budget import Observation

    share = find_model(candidate.model).published.top1 / 100
    return Observation(quantity="accuracy", value=share, low=share, high=share, source="published")


def order(folder):
    return Order(device="host", plan=PLAN, folder=str(folder))


def aim(**limits):
    return Aim(BudgetTable(**limits).limits())


def chosen_launches(result):
    """Of the last profile of what was chosen."""
    found = [
        one.profile.profiles[0].launches
        for one in result.findings
        if one.candidate.label == result.decision.chosen and one.profile
    ]
    return found[-1]


def test_the_most_accurate_that_fits_is_found_measured_and_found_again(candidates, tmp_path):
    asked = aim(latency_p50_ms=1000.0, partitions=1)
    first = select(candidates, asked, order(tmp_path / "work"))
    (chosen,) = [one for one in first.decision.standings if one.label == first.decision.chosen]
    assert chosen.candidate.model.endswith("tiny_2.toml")
    latency = chosen.figure("latency_p50_ms")
    assert latency.source == "measured"
    assert 0 < latency.low <= latency.value <= latency.high
    assert {one.quantity: one.source for one in chosen.figures}["partitions"] == "read"
    # The cheapest is looked at to know what the others take, and then the best, which alone is
    # measured in full.
    assert len(first.findings) == 3
    assert len(chosen_launches(first)) == PLAN.launches
    assert {one.state for one in first.decision.standings} == {"chosen", "cannot win"}

    again = select(candidates, asked, order(tmp_path / "work"))
    assert again.decision == first.decision
    told = {one.round: (one.looked_at, one.resumed) for one in again.rounds}
    assert (told["looks"], told["artifacts"]) == ((2, 2), (1, 1))

    other = select(candidates, aim(latency_p50_ms=1e-4), order(tmp_path / "work"))
    assert other.decision.chosen == ""
    assert other.decision.nearest[0].relax[0].needed > 1e-4
    assert SelectionResult.from_json(other.to_json(), "it") == other


def test_an_interrupted_selection_goes_on_with_what_was_found(candidates, tmp_path, monkeypatch):
    from edgese.selection import executors

    real, done = executors.perform, []

    def interrupted(step, order, artifact="", progress=None):
        if done:
            raise KeyboardInterrupt
        done.append(step)
        return real(step, order, artifact, progress)

    monkeypatch.setattr(executors, "perform", interrupted)
    asked = aim(latency_p50_ms=1000.0)
    with pytest.raises(KeyboardInterrupt):
        select(candidates, asked, order(tmp_path / "work"))
    monkeypatch.setattr(executors, "perform", real)
    found = select(candidates, asked, order(tmp_path / "work"))
    assert found.decision.chosen
    assert next(one for one in found.rounds if one.round == "looks").resumed == 1


def test_several_are_converted_at_once(candidates, tmp_path):
    asked = aim(latency_p50_ms=1000.0)
    several = select(candidates, asked, order(tmp_path / "several"), everything=True, workers=2)
    assert {one.candidate for one in several.findings} == set(candidates)
    assert all(one.profile and not one.exit_code for one in several.findings)
    assert several.decision.chosen.startswith(candidates[2].label)


def test_a_candidate_that_cannot_be_converted_is_told_and_the_others_go_on(candidates, tmp_path):
    broken = msgspec.structs.replace(candidates[2], weights=str(tmp_path / "none.safetensors"))
    found = select([*candidates[:2], broken], aim(latency_p50_ms=1000.0), order(tmp_path / "work"))
    states = {one.label: one for one in found.decision.standings}
    assert found.decision.chosen == candidates[1].label
    assert states[broken.label].state == "failed"
    assert "none.safetensors" in states[broken.label].reason


def test_an_artifact_that_collapsed_is_ruled_out_and_the_next_best_is_chosen(
    candidates, tmp_path, monkeypatch
):
    name = spec_of(candidates[1]).name
    monkeypatch.setattr(
        Manifest, "collapse", property(lambda self: "chance" if self.model.name == name else "")
    )
    found = select(candidates[:2], aim(latency_p50_ms=1000.0), order(tmp_path / "work"))
    states = {one.label: one for one in found.decision.standings}
    assert states[candidates[1].label].state == "failed"
    assert "collapsed: chance" in states[candidates[1].label].reason
    assert found.decision.chosen == candidates[0].label


def test_results_alone_are_chosen_from_without_torch(candidates, tmp_path, capsys):
    """As a CI would: the selection's own findings, judged again under another budget."""
    select(candidates, aim(latency_p50_ms=1000.0), order(tmp_path / "work"))
    budget = tmp_path / "budget.toml"
    budget.write_text("[[budget]]\nsize_mb = 100\n")
    files = sorted((tmp_path / "work" / "findings").glob("*.json"))
    options = [part for file in files for part in ("--from-results", str(file))]
    code = run(["select", *options, "--budget", str(budget), "--json"])
    told = json.loads(capsys.readouterr().out)
    # Nobody published an accuracy of these networks, so that none of them can be chosen.
    assert code == 6
    assert [one["state"] for one in told["decision"]["standings"]] == ["unclear", "unclear"]


@pytest.fixture
def weighted(candidates, tmp_path):
    """The smallest of them with weights of its own, and pictures that it is judged on."""
    import torch
    from safetensors.torch import save_file

    from edgese.data.classes import ClassNames
    from edgese.data.digits import digit_pictures
    from edgese.data.folders import write_digits
    from edgese.models.builder import build
    from edgese.selection.candidates import spec_of

    (first,) = enumerated(
        [candidates[0].model], targets=["onnxruntime"], recipes=["int8-minmax"], classes=10
    )
    torch.manual_seed(0)
    save_file(build(spec_of(first)).state_dict(), tmp_path / "tiny.safetensors")
    _, held_out = digit_pictures(ClassNames(classes=10))
    write_digits(held_out, tmp_path / "pictures", range(40))
    return msgspec.structs.replace(first, weights=str(tmp_path / "tiny.safetensors"))


def test_the_drop_from_fp32_is_judged_on_the_same_pictures(weighted, tmp_path):
    full = msgspec.structs.replace(weighted, recipe="fp32")
    there = msgspec.structs.replace(order(tmp_path / "work"), data=str(tmp_path / "pictures"))
    found = select([weighted, full], aim(accuracy_drop=0.9), there, everything=True)
    drops = {one.candidate.recipe: one.figure("accuracy_drop") for one in found.decision.standings}
    right = {
        one.candidate.recipe: one.evaluation.top1.count for one in found.findings if one.evaluation
    }
    assert drops["fp32"].value == 0
    assert drops["int8-minmax"].value == pytest.approx((right["fp32"] - right["int8-minmax"]) / 40)
    assert drops["int8-minmax"].low <= drops["int8-minmax"].value <= drops["int8-minmax"].high
    assert found.decision.chosen

    # The evaluation in fp32 serves the next time too, and so do its findings from results alone.
    (kept,) = (tmp_path / "work" / "findings").glob("reference-*.json")
    before = kept.read_bytes()
    select([weighted], aim(accuracy_drop=0.9, size_mb=50.0), there, everything=True)
    assert kept.read_bytes() == before


def test_a_sustained_limit_is_measured_for_as_long_as_was_asked(candidates, tmp_path, monkeypatch):
    # Windows of 5 s make it half a minute at least.
    for place in ("edgese.measure.api", "edgese.selection.api"):
        monkeypatch.setattr(f"{place}.check_length", lambda _: None)
    monkeypatch.setattr("edgese.measure.api.sustained", partial(sustained, window_s=0.1))
    asked = aim(sustained_p50_ms=1000.0)
    with pytest.raises(ConfigError, match="nobody said how long"):
        select(candidates, asked, order(tmp_path / "work"))
    there = msgspec.structs.replace(order(tmp_path / "work"), sustained_s=1.0)
    found = select(candidates, asked, there)
    chosen = next(one for one in found.decision.standings if one.state == "chosen")
    told = chosen.figure("sustained_p50_ms")
    assert told.source == "measured"
    assert 0 < told.low < told.value < told.high < 1000
    # It runs long, so it comes after the others were measured, and only for what can win.
    assert [one.round for one in found.rounds] == ["rows", "looks", "artifacts", "sustained"]
    assert found.rounds[-1].looked_at == 1

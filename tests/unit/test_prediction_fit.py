"""The regression finds what was planted; what is left out is left out; intervals cover."""

import numpy as np
import pytest

from edgese.prediction import regression, validation
from edgese.prediction.regression import Effect, Rows
from edgese.prediction.study import Study, columns, fitted, outside, with_rows
from edgese.prediction.validation import Residuals

EFFECTS = (
    Effect("", "facts", 0.5),
    Effect("device", "one", 0.3),
    Effect("device", "shares", 0.3),
    Effect("network", "one", 0.1),
)
COSTS = np.array([1.0, 2.0, 0.5])


def planted(devices=12, nets=10, seed=0, spread=0.3):
    """Networks of three kinds of work on devices that follow one fact, and deviate from it."""
    random = np.random.default_rng(seed)
    loads = random.lognormal(3, 1, (nets, 3))
    facts = random.normal(0, 1, devices)
    offsets = random.normal(0, spread, devices)
    works, known, log_ms, device, network = [], [], [], [], []
    for i in range(devices):
        for j in range(nets):
            works.append(loads[j])
            known.append([facts[i]])
            device.append(f"device {i}")
            network.append(f"network {j}")
            noise = random.normal(0, 0.02)
            log_ms.append(np.log(loads[j] @ COSTS) - 0.8 * facts[i] + offsets[i] + noise)
    groups = {"device": device, "network": network, "setting": device, "soc": device}
    return Study(
        "planted", "fp32", columns(works, known, groups), np.array(log_ms), EFFECTS, ("here",)
    )


def test_unit_costs_are_found_up_to_a_factor():
    study = planted()
    costs = regression.unit_costs(
        study.rows.work, study.log_ms, study.rows.groups["setting"], strictness=0.01
    )
    assert costs / costs[0] == pytest.approx(COSTS / COSTS[0], rel=0.1)


def test_a_device_that_was_left_out_follows_its_facts_and_one_anchor_pins_it():
    study = planted()
    facts_alone = validation.devices_left_out(study)
    anchored = validation.devices_left_out(study, ["network 0"])
    assert np.abs(anchored.off).mean() < 0.4 * np.abs(facts_alone.off).mean()
    assert len(anchored.off) == len(facts_alone.off) - 12


def test_nothing_of_what_is_left_out_reaches_the_fit():
    study = planted()
    spoilt = study.log_ms.copy()
    spoilt[study.rows.groups["device"] == "device 3"] += 5.0
    changed = Study(study.name, study.precision, study.rows, spoilt, study.effects, study.sources)
    before, after = validation.devices_left_out(study), validation.devices_left_out(changed)
    own = before.group == "device 3"
    assert (before.off - after.off)[own] == pytest.approx(5.0)


def test_a_network_left_out_with_a_device_is_in_neither_half():
    study = planted(devices=5, nets=5)
    both = validation.both_left_out(study)
    assert len(both.off) == len(study.log_ms)


def test_the_order_of_rows_does_not_matter():
    study = planted()
    shuffled = np.random.default_rng(1).permutation(len(study.log_ms))
    asked = study.rows.take(np.arange(10))
    straight = fitted(study).log_ms(asked)
    assert fitted(study, shuffled).log_ms(asked) == pytest.approx(straight, abs=1e-6)


def test_a_mistyped_row_hardly_moves_its_device():
    study = planted()
    asked = study.rows.take(np.arange(1, 10))
    straight = fitted(study).log_ms(asked)
    study.log_ms[0] += np.log(10)
    assert fitted(study).log_ms(asked) == pytest.approx(straight, abs=0.12)


def test_more_rows_are_more_measurements():
    study = planted(devices=3, nets=4)
    more = with_rows(study, study.rows.take(np.array([0])), np.array([1.0]))
    assert len(more.log_ms) == len(study.log_ms) + 1
    assert more.rows.groups["device"][-1] == "device 0"


def test_unseen_levels_add_nothing():
    study = planted()
    model = fitted(study)
    row = study.rows.take(np.array([0]))
    strange = columns(row.work, row.facts, {name: ["new"] for name in row.groups})
    base, shares = regression.base_and_shares(strange.work, model.costs)
    facts = Rows(base, shares, strange.facts, strange.groups)
    alone = regression.fit(
        Rows(*_parts(study, model.costs), study.log_ms), (Effect("", "facts", 0.5),)
    )
    # Device effects take up what the facts leave, so the two agree only roughly.
    assert model.fitted.log_ms(facts) == pytest.approx(alone.log_ms(facts), abs=0.3)


def test_an_interval_counts_groups_alike_and_needs_enough_of_them():
    off = np.concatenate([np.full(1000, 0.01), np.arange(1, 20) / 10])
    group = np.array(["large"] * 1000 + [f"small {i}" for i in range(19)])
    assert validation.spread(Residuals(off, group, group)) == pytest.approx(1.8)
    few = Residuals(off[-5:], group[-5:], group[-5:])
    assert validation.spread(few) == float("inf")


def test_intervals_cover_nine_tenths_of_new_groups():
    covered = []
    for seed in range(30):
        random = np.random.default_rng(seed)
        shifts = random.normal(0, 0.3, 30)
        group = np.repeat([f"group {i}" for i in range(30)], 8)
        off = np.repeat(shifts, 8) + random.normal(0, 0.05, 240)
        covered.append(validation.coverage(Residuals(off, group, group)))
    assert 0.87 < np.mean(covered) < 0.95


def test_a_network_unlike_all_that_were_measured_is_told_why():
    work = np.zeros((2, 13))
    work[:, 0], work[:, 6] = [100.0, 200.0], [10.0, 20.0]
    study = Study("x", "fp32", columns(work, [[0.0]] * 2, {"soc": ["a", "b"]}), np.zeros(2), (), ())
    like = np.zeros(13)
    like[0], like[6] = 120.0, 15.0
    assert outside(study, like) == ""
    assert "9.1 times as large" in outside(study, np.eye(13)[0] * 2000)
    strange = like.copy()
    strange[8] = 500.0
    assert "grouped of numbers" in outside(study, strange)
    assert "smaller" in outside(study, like / 100)


def _parts(study, costs):
    base, shares = regression.base_and_shares(study.rows.work, costs)
    return base, shares, study.rows.facts, study.rows.groups

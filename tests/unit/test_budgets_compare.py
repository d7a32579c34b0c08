"""Two artifacts held against each other: faster, slower, or cannot tell."""

from pathlib import Path

import pytest

from edgese.budgets import api
from edgese.errors import ConfigError, MeasurementError
from edgese.measure.summary import ratio
from edgese.records.evaluation import Agreement
from edgese.records.profile import ProfileResult
from edgese.statistics import mcnemar

A, B = Path("a.tflite"), Path("b.tflite")


@pytest.fixture
def compared(monkeypatch, profile_of, result_of):
    """Compares 10 ms with another time, as a device would have measured them in turns."""

    def made(ms, *, noise=0.01, agreement=None, **options):
        profiles = (
            profile_of("a.tflite", seed=1, spread=noise),
            profile_of("b.tflite", ms=ms, seed=4, spread=noise),
        )
        found = result_of(*profiles, result={"ratios": (ratio(profiles[1], profiles[0]),)})
        monkeypatch.setattr(api, "measure", lambda *_, **__: found)
        monkeypatch.setattr(api, "_agreement", lambda *_: agreement)
        return api.compare(A, B, **options)

    return made


def agreement(only_first, only_second):
    return Agreement(
        first="a",
        second="b",
        pictures=100,
        same_top1=100 - only_first - only_second,
        differing=(),
        only_first_right=only_first,
        only_second_right=only_second,
        top1_difference=(only_second - only_first) / 100,
        p_value=mcnemar(only_first, only_second),
    )


def test_the_interval_over_launches_decides(compared):
    verdicts = [compared(ms).verdict for ms in (8.0, 10.0, 12.0)]
    assert verdicts == ["faster", "cannot tell", "slower"]


def test_a_noisy_machine_cannot_tell(compared):
    loud = compared(11.0, noise=0.3)
    assert loud.verdict == "cannot tell"
    assert loud.smallest_seen > 4 * compared(11.0).smallest_seen


def test_what_is_within_the_margin_does_not_matter(compared):
    assert [compared(10.8, margin=margin).verdict for margin in (0.0, 0.1)] == [
        "slower",
        "cannot tell",
    ]
    assert compared(9.3, margin=0.1).verdict == "cannot tell"


def test_answers_are_judged_in_pairs_and_not_by_two_accuracies(compared):
    """Five points are clear where few pictures differ, and nothing where many do."""
    told = [
        compared(10.0, data=Path("d"), agreement=agreement(*counts)).accuracy_verdict
        for counts in ((8, 0), (0, 8), (22, 17))
    ]
    assert told == ["worse", "better", "cannot tell"]


@pytest.mark.parametrize("margin", [-0.1, 1.0, float("nan")])
def test_a_margin_that_cannot_be_is_refused(margin):
    with pytest.raises(ConfigError, match="margin"):
        api.compare(A, B, margin=margin)


def test_what_was_not_measured_is_not_compared(monkeypatch):
    absent = ProfileResult(device="pixel8", edgese="", created="", absence="It is gone.")
    monkeypatch.setattr(api, "measure", lambda *_, **__: absent)
    with pytest.raises(MeasurementError, match="no times"):
        api.compare(A, B, device="pixel8")

"""Sweeps in groups: who is measured with whom, and what may be resumed."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgese.errors import ConfigError, InputError, StoreError
from edgese.measure.sweep import extended, groups, missing, resumed, started
from edgese.records.base import Interval
from edgese.records.measurement import (
    Block,
    DeviceInfo,
    LatencySummary,
    Launch,
    MeasurePlan,
    Profile,
    ProfileFailure,
    Ratio,
)
from edgese.records.profile import ProfileResult
from edgese.store import write_record

INFO = DeviceInfo(
    name="host",
    cpu="x",
    architecture="x86_64",
    cores=8,
    physical_cores=4,
    system="Linux",
    load_average=0.1,
)
PLAN = MeasurePlan(threads=2)
LABELS = ["a", "b", "c", "d"]
LAUNCH = Launch(
    import_ms=1,
    load_ms=1,
    first_run_ms=1,
    memory_before_load_mb=1,
    peak_memory_mb=1,
    peak_since_load=True,
    overhead_ns=1,
    blocks=(Block(start_ms=0, samples_ns=(1_000_000,)),),
)


@pytest.fixture
def sweep(subject_of):
    """Starts a sweep of four artifacts, two beside the baseline in each group."""

    def made(labels=LABELS, plan=PLAN, info=INFO, size=3, runner=b"runner", sha256="0" * 64):
        subjects = [subject_of(label, sha256=sha256) for label in labels]
        return started(subjects, plan, info, size, runner)

    return made


def profile(label, version="1.0"):
    latency = LatencySummary(count=1, mean_ms=1, min_ms=1, p50_ms=1, p90_ms=1, p99_ms=1, max_ms=1)
    return Profile(
        label=label,
        sha256="",
        size_bytes=1,
        target="onnxruntime",
        delegate="cpu",
        recipe="fp32",
        model="m",
        resolution=(224, 224),
        batch=1,
        trained=False,
        source="measured",
        device=INFO,
        threads=2,
        load_ms=1,
        first_run_ms=1,
        latency=latency,
        throughput_per_s=1,
        memory_before_load_mb=1,
        peak_memory_mb=1,
        throttle_events=None,
        versions={"onnxruntime": version},
        cautions=(),
        launches=(LAUNCH,),
    )


def measured(*labels, version="1.0", failed=()):
    """One interleaved job, as profiling gives it."""
    worked = [label for label in labels if label not in failed]
    ratios = [
        Ratio(
            artifact=label,
            baseline=labels[0],
            ratio=1.0,
            interval=Interval(low=0.9, high=1.1, confidence=0.95),
            launches=6,
            rounds=24,
        )
        for label in worked
        if label != labels[0] and labels[0] in worked
    ]
    return ProfileResult(
        device="host",
        plan=PLAN,
        profiles=tuple(profile(label, version) for label in worked),
        ratios=tuple(ratios),
        failures=tuple(
            ProfileFailure(label=label, error="e", hint="h", exit_code=5) for label in failed
        ),
        edgese="0.1.0",
        created="now",
    )


@given(count=st.integers(1, 60), size=st.integers(2, 12))
def test_every_artifact_is_in_one_group_beside_the_baseline(count, size):
    found = groups(count, size)
    assert all(group[0] == 0 for group in found)
    assert [place for group in found for place in group[1:]] == list(range(1, count))
    assert max(map(len, found)) <= size


@given(count=st.integers(2, 60), size=st.integers(2, 12))
def test_groups_are_as_few_as_can_be_and_even(count, size):
    found = groups(count, size)
    assert (len(found) - 1) * (size - 1) < count - 1
    assert max(map(len, found)) - min(map(len, found)) <= 1


@pytest.mark.parametrize(("count", "size"), [(0, 4), (3, 1), (3, 0)])
def test_groups_that_cannot_be_are_config_errors(count, size):
    with pytest.raises(ConfigError):
        groups(count, size)


def test_a_sweep_begins_with_nothing_and_ends_complete(sweep):
    result = sweep()
    assert not result.complete
    assert missing(result) == ((0, 1, 2), (0, 3))
    result = extended(result, measured("a", "b", "c"))
    assert not result.complete
    assert missing(result) == ((0, 3),)
    result = extended(result, measured("a", "d"))
    assert result.complete
    assert missing(result) == ()


def test_every_profile_of_the_baseline_is_kept_and_ratios_are_of_their_own_group(sweep):
    result = extended(extended(sweep(), measured("a", "b", "c")), measured("a", "d"))
    assert [one.label for one in result.profiles] == ["a", "b", "c", "a (group 2)", "d"]
    assert [(one.artifact, one.baseline) for one in result.ratios] == [
        ("b", "a"),
        ("c", "a"),
        ("d", "a (group 2)"),
    ]


def test_an_artifact_that_failed_is_told_and_the_sweep_goes_on(sweep):
    result = extended(sweep(), measured("a", "b", "c", failed=["b"]))
    result = extended(result, measured("a", "d", failed=["a"]))
    assert [failure.label for failure in result.failures] == ["b", "a (group 2)"]
    assert result.complete


def test_a_sweep_that_is_complete_takes_no_further_group(sweep):
    result = extended(extended(sweep(), measured("a", "b", "c")), measured("a", "d"))
    with pytest.raises(ValueError, match="no group"):
        extended(result, measured("a", "d"))


def test_other_packages_than_before_are_a_store_error(sweep):
    result = extended(sweep(), measured("a", "b", "c"))
    with pytest.raises(StoreError, match=r"onnxruntime 1\.0 then, 1\.1 now"):
        extended(result, measured("a", "d", version="1.1"))


def test_a_partial_result_is_resumed_where_it_stopped(sweep, tmp_path):
    path = tmp_path / "out.json"
    left = extended(sweep(), measured("a", "b", "c"))
    write_record(left, path)
    assert resumed(path, sweep()) == left


def test_without_a_file_the_sweep_starts(sweep, tmp_path):
    fresh = sweep()
    assert resumed(tmp_path / "none.json", fresh) is fresh


def test_a_busier_machine_is_still_the_same(sweep, tmp_path):
    path = tmp_path / "out.json"
    left = sweep()
    write_record(left, path)
    assert resumed(path, sweep(info=msgspec.structs.replace(INFO, load_average=3.0))) == left


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"plan": MeasurePlan(threads=4)}, r"plan changed since \(threads was 2, is 4\)"),
        ({"info": msgspec.structs.replace(INFO, cpu="y")}, r"device .*cpu was 'x', is 'y'"),
        ({"sha256": "1" * 64}, "artifacts .*a has another hash"),
        ({"labels": ["a", "b", "c", "e"]}, "artifacts .*e stands where d stood"),
        ({"labels": ["a", "b", "c"]}, "artifacts and groups .*there were 4, there are 3"),
        ({"size": 2}, "groups changed"),
        ({"runner": b"other"}, "runner changed"),
    ],
)
def test_another_measurement_cannot_be_resumed(sweep, tmp_path, changed, says):
    path = tmp_path / "out.json"
    write_record(sweep(), path)
    with pytest.raises(StoreError, match=says):
        resumed(path, sweep(**changed))


def test_another_edgese_cannot_resume(sweep, tmp_path):
    path = tmp_path / "out.json"
    write_record(msgspec.structs.replace(sweep(), edgese="0.0.1"), path)
    with pytest.raises(StoreError, match=r"edgese changed since \(it was 0\.0\.1"):
        resumed(path, sweep())


def test_a_result_that_was_measured_at_once_cannot_be_resumed(sweep, tmp_path):
    path = tmp_path / "out.json"
    write_record(measured("a", "b"), path)
    with pytest.raises(StoreError, match="not measured in groups"):
        resumed(path, sweep())


def test_a_truncated_file_is_an_input_error(sweep, tmp_path):
    path = tmp_path / "out.json"
    path.write_text(sweep().to_json()[:200], encoding="utf-8")
    with pytest.raises(InputError):
        resumed(path, sweep())

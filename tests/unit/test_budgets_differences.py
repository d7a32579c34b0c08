"""What is told of two artifacts or profiles that are not the same; seals; stored noise."""

import json

import msgspec
import pytest

from edgese.budgets.diff_inputs import read_diff_input
from edgese.budgets.differences import Side, differences
from edgese.budgets.noise import calibrated, read_noise
from edgese.budgets.regression import slowdown_seen, spread
from edgese.errors import ConfigError, InputError, MeasurementError, StoreError
from edgese.models.registry import find_model
from edgese.records.artifact import OutsideOperator
from edgese.records.profile import ProfileResult
from edgese.seals import check_seal, sealed
from edgese.store import read_record, sha256_of, write_record


@pytest.fixture
def before(manifest_of):
    return manifest_of("a.tflite", target="tflite", delegate="xnnpack")


def told(before, after):
    return differences(Side("a", before), Side("b", after))


def test_the_same_artifact_has_no_differences(before):
    assert told(before, before).changes == ()


def test_what_left_the_delegate_is_the_likeliest_reason(before):
    report = msgspec.structs.replace(
        before.operators,
        partitions=3,
        operators={"CONV_2D": 5, "GELU": 2},
        outside=(OutsideOperator(operator="GELU", count=2, reason="it has no kernel"),),
    )
    after = msgspec.structs.replace(before, operators=report, size_bytes=2000, sha256="1" * 64)
    found = told(before, after)
    assert found.reasons[0] == "2 GELU run outside the delegate: it has no kernel"
    assert "3 pieces instead of 1" in found.reasons[1]
    assert "the file is 100% larger" in found.reasons[-1]
    assert {one.what for one in found.changes} >= {"GELU", "size", "sha256"}


def test_a_heavier_network_is_told_by_its_multiply_adds(before):
    heavier = find_model("efficientnet_b2")
    card = msgspec.structs.replace(
        before.model, name="efficientnet_b2", preprocessing=heavier.preprocessing
    )
    after = msgspec.structs.replace(before, spec=heavier, model=card)
    found = told(before, after)
    assert any("more multiply-adds" in reason for reason in found.reasons)
    # In the other direction it is a change, and no reason.
    back = told(after, before)
    assert back.reasons == ()
    assert "multiply-adds" in {one.what for one in back.changes}


def test_another_runtime_and_fewer_threads_are_told_of_profiles(profile_of):
    then = profile_of()
    now = profile_of(threads=1, versions={"ai-edge-litert": "2.4.0"}, ms=12.0)
    found = differences(Side("a", profile=then), Side("b", profile=now))
    assert found.reasons == (
        "it was measured with threads 1 instead of 2",
        "another version executes it: ai-edge-litert 2.4.0 instead of 2.3.0",
    )
    assert "p50" in {one.what for one in found.changes}


def test_a_profile_brings_its_artifacts_manifest_while_that_stands(
    tmp_path, described, result_of, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    artifact = tmp_path / "a.tflite"
    artifact.write_bytes(b"model")
    described(artifact, target="tflite")
    write_record(result_of(sha256=sha256_of(artifact), size_bytes=5), tmp_path / "p.json")
    assert read_diff_input(tmp_path / "p.json").manifest is not None
    assert read_diff_input(artifact).profile is None


def test_a_result_of_several_artifacts_is_no_side(tmp_path, profile_of, result_of):
    write_record(result_of(profile_of("a"), profile_of("b")), tmp_path / "p.json")
    with pytest.raises(ConfigError, match="2 profiles"):
        read_diff_input(tmp_path / "p.json")


def test_a_seal_outlives_the_way_to_a_file_and_back(tmp_path, result_of):
    path = tmp_path / "p.json"
    write_record(result_of(), path)
    found = read_record(ProfileResult, path, remake="it")
    check_seal(found, path, "it")
    # As `--json` prints it, and as an editor may put it into order.
    path.write_text(json.dumps(json.loads(path.read_text()), sort_keys=True))
    check_seal(read_record(ProfileResult, path, remake="it"), path, "it")


def test_a_broken_seal_and_none_are_told_apart(tmp_path, result_of):
    result = result_of()
    with pytest.raises(StoreError, match="seal"):
        check_seal(msgspec.structs.replace(result, device="pixel8"), tmp_path, "it")
    with pytest.raises(InputError, match="no seal"):
        check_seal(msgspec.structs.replace(result, seal=""), tmp_path, "it")


def test_runs_of_one_artifact_add_up_over_calibrations(tmp_path, result_of):
    path = tmp_path / "noise.json"
    seeds = iter(range(100))
    heard = []

    def measure():
        return result_of(seed=next(seeds))

    for _ in range(2):
        calibrated(measure, path, runs=6, told=lambda number, ms: heard.append((number, ms)))
    (noise,) = read_noise(path).noises
    assert (len(noise.levels_ms), len(heard)) == (12, 12)
    runs, freedom = spread(noise)
    assert freedom == 11
    # Launches differ by 1 %; the median of six has half of that.
    assert 0.002 < runs < 0.01
    assert 0.05 < slowdown_seen(noise, 0.05) < 0.1


def test_another_artifact_or_plan_has_noise_of_its_own(tmp_path, result_of):
    path = tmp_path / "noise.json"
    for changes in ({}, {"sha256": "b" * 64}, {"threads": 1}):
        calibrated(lambda c=changes: result_of(**c), path, runs=6, told=lambda *_: None)
    assert len(read_noise(path).noises) == 3


def test_what_an_interruption_left_is_gone_on_with(tmp_path, result_of):
    path = tmp_path / "noise.json"
    left = iter([result_of(), result_of(seed=2)])
    with pytest.raises(StopIteration):
        calibrated(lambda: next(left), path, runs=6, told=lambda *_: None)
    assert len(read_noise(path).noises[0].levels_ms) == 2


def test_noise_needs_runs_and_something_that_was_measured(tmp_path, result_of):
    path = tmp_path / "noise.json"
    with pytest.raises(ConfigError, match="5 runs"):
        calibrated(result_of, path, runs=5, told=lambda *_: None)
    absent = sealed(ProfileResult(device="pixel8", edgese="", created="", absence="It is gone."))
    with pytest.raises(MeasurementError, match="gone"):
        calibrated(lambda: absent, path, runs=6, told=lambda *_: None)
    assert not path.exists()

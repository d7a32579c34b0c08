"""What a device says, read: recorded from the real runner, then broken in every way."""

import hashlib
import json
from pathlib import Path

import msgspec
import pytest

from edgese.errors import ConfigError, DeviceError
from edgese.measure.job import failure_message, launches_of, parsed
from edgese.measure.plan import checked, default_threads
from edgese.records.measurement import DeviceInfo, MeasurePlan, Outcome

DATA = Path(__file__).parents[1] / "data" / "measure"
PLAN = MeasurePlan(threads=2, launches=4, blocks=8, min_runs=16)
RECORDED = Outcome(
    returncode=0,
    stdout=(DATA / "stdout.txt").read_text(encoding="utf-8"),
    files={"result.json": (DATA / "result.json").read_bytes()},
)
INFO = DeviceInfo(
    name="host", cpu="x", architecture="x86_64", cores=8, physical_cores=6, system="Linux"
)


def changed(**fields):
    return msgspec.structs.replace(RECORDED, **fields)


def rewritten(**fields):
    """The recorded outcome with other fields in its result, its end mark following suit."""
    content = json.dumps(json.loads(RECORDED.files["result.json"]) | fields).encode()
    end = json.dumps({"end": hashlib.sha256(content).hexdigest()})
    return changed(stdout=end, files={"result.json": content})


def test_a_recorded_result_is_read():
    *runs, _ = parsed(RECORDED, PLAN, 4, "host").artifacts
    for run in runs:
        launches = launches_of(run, "host")
        assert [len(launch.blocks) for launch in launches] == [2, 2, 2, 2]
        assert all(len(b.samples_ns) == 2 for launch in launches for b in launch.blocks)
        assert all(x.peak_memory_bytes > x.memory_before_load_bytes > 0 for x in launches)
    assert launches[0].versions["executorch"] == "1.4.1"


def test_an_artifact_that_failed_is_told_with_the_last_thing_that_it_said():
    broken = parsed(RECORDED, PLAN, 4, "host").artifacts[3]
    assert failure_message(broken.failure, "host") == (
        "On host its process ended with code 1 during load: "
        "ValueError: The model is not a valid Flatbuffer buffer"
    )


@pytest.mark.parametrize(
    ("outcome", "says"),
    [
        (changed(returncode=3, stderr="a\nno space left\n"), "code 3: no space left"),
        (changed(returncode=-9), "ended by SIGKILL"),
        (changed(returncode=-250), "ended by signal 250"),
        (Outcome(returncode=0), "without its end mark"),
        (changed(stdout=RECORDED.stdout[:-30]), "without its end mark"),
        (changed(stdout='{"stage": "round 3 of 6", "fraction": 0.4}'), "without its end mark"),
        (changed(stdout="[1]"), "without its end mark"),
        (changed(files={}), "did not come back"),
        (changed(files={"result.json": RECORDED.files["result.json"][:1000]}), "another hash"),
        (rewritten(surprise=1), "not in the runner's format"),
        (rewritten(complete=False), "does not hold what the plan asked for"),
        (rewritten(schema=99), "does not hold what the plan asked for"),
        (rewritten(artifacts=[]), "does not hold what the plan asked for"),
    ],
    ids=[
        "return code",
        "killed",
        "unknown signal",
        "dropped connection",
        "cut end mark",
        "died silently",
        "other output",
        "no result",
        "truncated result",
        "unknown key",
        "not complete",
        "other schema",
        "no artifacts",
    ],
)
def test_anything_less_than_a_whole_result_is_a_device_error(outcome, says):
    with pytest.raises(DeviceError, match=says) as caught:
        parsed(outcome, PLAN, 4, "pixel")
    assert "pixel" in caught.value.message
    assert caught.value.hint


def test_a_result_with_fewer_blocks_than_planned_is_a_device_error():
    longer = msgspec.structs.replace(PLAN, blocks=12)
    with pytest.raises(DeviceError, match="does not hold"):
        parsed(RECORDED, longer, 4, "host")


def test_a_launch_that_told_nothing_is_a_device_error():
    run = parsed(RECORDED, PLAN, 4, "host").artifacts[0]
    silent = msgspec.structs.replace(run, launches=({},))
    with pytest.raises(DeviceError, match="import_ns"):
        launches_of(silent, "host")


@pytest.mark.parametrize(("physical", "expected"), [(1, 1), (2, 2), (6, 4)])
def test_default_threads_are_the_physical_cores_but_at_most_four(physical, expected):
    info = msgspec.structs.replace(INFO, physical_cores=physical)
    assert default_threads(info) == expected


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ({"threads": 0}, "0 threads"),
        ({"threads": 9}, "host has 8 cores"),
        ({"launches": 3}, "3 launches"),
        ({"blocks": 9}, "9 blocks"),
        ({"blocks": 0}, "0 blocks"),
        ({"min_runs": 0}, "min_runs is 0"),
        ({"min_time_s": -1.0}, "min_time_s is -1"),
        ({"warmup_runs": 0}, "warmup_runs is 0"),
        ({"timeout_s": 0.0}, "timeout_s is 0"),
    ],
)
def test_a_setting_that_cannot_be_is_a_config_error(setting, says):
    plan = msgspec.structs.replace(PLAN, **setting)
    with pytest.raises(ConfigError, match=says):
        checked(plan, INFO, 2)


def test_a_plan_that_can_be_stays_as_it_is():
    assert checked(PLAN, INFO, 2) is PLAN


def test_an_artifact_alone_may_be_launched_once():
    plan = msgspec.structs.replace(PLAN, launches=1)
    assert checked(plan, INFO, 1) is plan

"""Minutes without a pause on a device that a recorded answer stands in for, and interruptions.

Recorded from the runner: EfficientNet-Lite0 in int8 on ONNX Runtime for 0.3 s.
"""

import hashlib
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from fake_devices import FakeDevice

from edgese.devices.qemu import Emulated
from edgese.errors import ConfigError, DeviceError
from edgese.measure.sustained import sustained
from edgese.records.measurement import Outcome, SustainedResult

DATA = Path(__file__).parents[1] / "data" / "measure"
STDOUT = (DATA / "sustained.txt").read_text(encoding="utf-8")
CONTENT = (DATA / "sustained.json").read_bytes()
RECORDED = Outcome(returncode=0, stdout=STDOUT, files={"result.json": CONTENT})
QUICK = {"seconds": 0.3, "window_s": 0.05, "rest_s": 0.0, "threads": 1}
LINES = STDOUT.splitlines()
WINDOWS = [json.loads(line)["window"] for line in LINES if line.startswith('{"window"')]


def rewritten(**fields):
    content = json.dumps(json.loads(CONTENT) | fields).encode()
    end = json.dumps({"end": hashlib.sha256(content).hexdigest()})
    return Outcome(returncode=0, stdout=end, files={"result.json": content})


class Breaking(FakeDevice):
    """Tells the lines of a run until it has told ``windows`` of its windows, then raises."""

    def __init__(self, error, windows):
        super().__init__(lambda _: RECORDED)
        self._error = error
        self._windows = windows

    def run(self, job, hear):
        """See the class."""
        self.jobs.append(job)
        told = 0
        for line in LINES:
            if told == self._windows:
                raise self._error
            hear(line)
            told += line.startswith('{"window"')
        raise AssertionError("There were not that many windows.")


def test_a_recorded_run_becomes_a_curve_with_every_sample(subject_of):
    result = sustained([subject_of("a.onnx")], FakeDevice(lambda _: RECORDED), **QUICK)
    (curve,) = result.curves
    assert [list(block.samples_ns) for block in curve.launch.blocks] == [
        window["samples_ns"] for window in WINDOWS
    ]
    assert curve.complete
    assert result.complete
    assert curve.ratio == pytest.approx(curve.last.p50_ms / curve.first.p50_ms)
    assert curve.span_s == pytest.approx(0.1)
    assert curve.versions["onnxruntime"] == "1.31.0"
    assert SustainedResult.from_json(result.to_json(), "x") == result


def test_each_artifact_has_a_job_of_its_own_that_names_time_and_windows(subject_of):
    device = FakeDevice(lambda _: RECORDED)
    result = sustained([subject_of("a.onnx"), subject_of("b.onnx")], device, **QUICK)
    assert [curve.label for curve in result.curves] == ["a.onnx", "b.onnx"]
    assert set(result.ranks_first) == {"a.onnx", "b.onnx"}
    plans = [
        json.loads(push.content) for job in device.jobs for push in job.push if "plan" in push.name
    ]
    assert [(plan["time_s"], plan["window_s"]) for plan in plans] == [(0.3, 0.05)] * 2
    assert [plan["artifact"]["name"] for plan in plans] == ["a.onnx", "b.onnx"]


def test_progress_goes_over_all_artifacts(subject_of):
    news = []
    sustained(
        [subject_of("a.onnx"), subject_of("b.onnx")],
        FakeDevice(lambda _: RECORDED),
        progress=lambda stage, fraction: news.append((stage, fraction)),
        **QUICK | {"rest_s": 0.01},
    )
    fractions = [fraction for _, fraction in news]
    assert fractions == sorted(fractions)
    assert news[-1] == ("done", 1.0)
    assert ("rest 0 s", 0.5) in news
    assert any(stage.startswith("b.onnx: minute 1") for stage, _ in news)


@pytest.mark.parametrize("windows", [1, 3])
def test_ctrl_c_saves_what_was_seen_and_goes_on(subject_of, windows):
    saved = []
    with pytest.raises(KeyboardInterrupt):
        sustained(
            [subject_of("a.onnx")],
            Breaking(KeyboardInterrupt(), windows),
            save=saved.append,
            **QUICK,
        )
    (curve,) = saved[-1].curves
    assert len(curve.launch.blocks) == windows
    assert not curve.complete
    assert not saved[-1].complete
    assert "INTERRUPTED" in [caution.code for caution in curve.cautions]


def test_an_interrupted_curve_takes_part_in_no_rank(subject_of):
    result = sustained([subject_of("a.onnx")], Breaking(DeviceError("cable pulled"), 2), **QUICK)
    assert len(result.curves) == 1
    assert result.ranks_first == result.ranks_last == ()
    assert [failure.error for failure in result.failures] == ["cable pulled"]
    assert not result.complete


def test_a_device_that_breaks_before_the_first_window_is_its_error(subject_of):
    with pytest.raises(DeviceError, match=r"a\.onnx: cable pulled"):
        sustained([subject_of("a.onnx")], Breaking(DeviceError("cable pulled"), 0), **QUICK)


def test_one_artifact_that_fails_does_not_take_the_others_with_it(subject_of):
    answers = iter([Outcome(returncode=1, stderr="no space"), RECORDED])
    result = sustained(
        [subject_of("a.onnx"), subject_of("b.onnx")], FakeDevice(lambda _: next(answers)), **QUICK
    )
    assert [curve.label for curve in result.curves] == ["b.onnx"]
    assert [failure.label for failure in result.failures] == ["a.onnx"]
    assert not result.complete


def test_a_process_that_dies_leaves_its_windows_and_is_told(subject_of):
    artifact = json.loads(CONTENT)["artifact"]
    artifact["failure"] = {"during": "measuring", "reason": "ended with code -9", "stderr": "oom"}
    result = sustained(
        [subject_of("a.onnx")], FakeDevice(lambda _: rewritten(artifact=artifact)), **QUICK
    )
    assert len(result.curves[0].launch.blocks) == len(WINDOWS)
    assert not result.curves[0].complete
    assert "ended with code -9 during measuring: oom" in result.failures[0].error


@pytest.mark.parametrize(
    "outcome",
    [
        rewritten(complete=False),
        rewritten(schema=9),
        rewritten(surprise=1),
        Outcome(returncode=0),
        rewritten(artifact=json.loads(CONTENT)["artifact"] | {"launches": [{"blocks": [1]}]}),
    ],
    ids=["not complete", "other schema", "unknown key", "no end mark", "other launch"],
)
def test_anything_less_than_a_whole_answer_is_a_device_error(subject_of, outcome):
    with pytest.raises(DeviceError):
        sustained([subject_of("a.onnx")], FakeDevice(lambda _: outcome), **QUICK)


@pytest.mark.parametrize(
    "settings",
    [
        {"seconds": 0.29},
        {"seconds": float("nan")},
        {"window_s": 0},
        {"rest_s": -1},
        {"threads": 0},
        {"warmup_runs": 0},
    ],
)
def test_numbers_that_cannot_be_are_config_errors(subject_of, settings):
    device = FakeDevice(lambda _: pytest.fail("It was run."))
    with pytest.raises(ConfigError):
        sustained([subject_of("a.onnx")], device, **QUICK | settings)


def test_no_artifact_is_a_config_error():
    with pytest.raises(ConfigError, match="No artifact"):
        sustained([], FakeDevice(lambda _: RECORDED), **QUICK)


def test_times_of_an_emulated_processor_are_refused(subject_of):
    emulated = object.__new__(Emulated)
    emulated.cpu = SimpleNamespace(name="arm64-a76")
    with pytest.raises(ConfigError, match="arm64-a76 is emulated"):
        sustained([subject_of("a.onnx")], emulated, **QUICK)

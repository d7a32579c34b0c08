"""Times of operators, read from a recorded trace of ONNX Runtime, and refused where there are none.

The trace is of one warm-up and two inferences of EfficientNet-Lite0 in int8 on an x86 processor.
"""

import hashlib
import json
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest
from fake_devices import FakeDevice

from edgese.devices.qemu import Emulated
from edgese.errors import ConfigError, DeviceError
from edgese.measure.operators import OperatorResult, TraceEvent, operator_times, recorded
from edgese.records.measurement import OperatorTimes, Outcome

RECORDED = (Path(__file__).parents[1] / "data" / "measure" / "operators.json").read_bytes()
EVENTS = msgspec.json.decode(RECORDED, type=OperatorResult).events


def answer(content):
    end = json.dumps({"end": hashlib.sha256(content).hexdigest()})
    return Outcome(returncode=0, stdout=end, files={"result.json": content})


def node(name, ts, dur, **fields):
    return TraceEvent(cat="Node", name=f"{name}_kernel_time", ts=ts, dur=dur, **fields)


def run_event(ts, dur):
    return TraceEvent(cat="Session", name="model_run", ts=ts, dur=dur)


def test_each_operator_has_the_mean_of_its_counted_inferences():
    found = recorded(EVENTS, 1, 2)
    durations = [
        e.dur for e in EVENTS if e.name == "quantize_per_tensor_kernel_time" and e.cat == "Node"
    ]
    assert len(durations) == 3
    first = found.operators[0]
    assert first.operator == "QuantizeLinear"
    assert (first.dtype, first.output) == ("uint8", (1, 3, 224, 224))
    assert first.mean_ms == pytest.approx(sum(durations[1:]) / 2 / 1000)


def test_operators_and_what_is_outside_of_them_make_the_whole_inference():
    found = recorded(EVENTS, 1, 2)
    assert len(found.operators) == sum(kind.count for kind in found.kinds) == 66
    inside = sum(kind.share for kind in found.kinds)
    assert inside + found.outside_ms / found.inference_ms == pytest.approx(1)
    assert 0.5 < inside < 1


def test_kinds_come_with_the_most_expensive_first():
    kinds = recorded(EVENTS, 1, 2).kinds
    assert (kinds[0].operator, kinds[0].count) == ("QLinearConv", 50)
    assert [kind.share for kind in kinds] == sorted((k.share for k in kinds), reverse=True)


def test_warm_up_does_not_count():
    everything = recorded(EVENTS, 0, 3)
    assert everything.inference_ms != recorded(EVENTS, 1, 2).inference_ms
    runs = [event.dur for event in EVENTS if event.name == "model_run"]
    assert recorded(EVENTS, 1, 2).inference_ms == pytest.approx(sum(runs[1:]) / 2000)


def test_the_order_of_a_trace_does_not_matter():
    assert recorded(EVENTS[::-1], 1, 2) == recorded(EVENTS, 1, 2)


def test_an_operator_inside_another_is_not_counted_twice():
    events = [node("loop", 10, 50), node("body", 20, 30), node("after", 60, 20), run_event(5, 100)]
    found = recorded(events, 0, 1)
    assert [(one.name, one.mean_ms) for one in found.operators] == [("loop", 0.05), ("after", 0.02)]
    assert found.outside_ms == pytest.approx(0.03)


@pytest.mark.parametrize(
    ("events", "says"),
    [
        ([run_event(0, 10)], "1 inferences, not 2"),
        ([run_event(0, 10), run_event(10, 10)], "same operators"),
        (
            [node("a", 1, 2), run_event(0, 10), node("b", 11, 2), run_event(10, 10)],
            "same operators",
        ),
    ],
    ids=["too few", "no operators", "others each time"],
)
def test_a_trace_that_cannot_be_averaged_is_refused(events, says):
    with pytest.raises(ValueError, match=says):
        recorded(events, 0, 2)


def test_a_recorded_answer_becomes_times_that_say_what_they_are_of(subject_of):
    device = FakeDevice(lambda _: answer(RECORDED))
    found = operator_times(subject_of("a.onnx"), device, threads=2, runs=2, warmup_runs=1)
    assert (found.label, found.threads, found.runs, found.unavailable) == ("a.onnx", 2, 2, "")
    assert found.versions["onnxruntime"] == "1.31.0"
    assert OperatorTimes.from_json(found.to_json(), "x") == found
    (job,) = device.jobs
    assert job.argv[2:4] == ("runner.py", "operators")


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("tflite", "benchmark_model with --enable_op_profiling"),
        ("executorch", "EXECUTORCH_ENABLE_EVENT_TRACER"),
        ("coreml", "coremltools"),
        ("mine", "no profiler of mine"),
    ],
)
def test_a_runtime_that_tells_nothing_is_not_run_and_the_reason_is_told(subject_of, target, says):
    device = FakeDevice(lambda _: pytest.fail("It was run."))
    found = operator_times(subject_of("a", target), device)
    assert says in found.unavailable
    assert found.operators == found.kinds == ()
    assert found.inference_ms is None


@pytest.mark.parametrize("content", [b"{}", b'{"versions": {}, "events": []}', RECORDED[:-40]])
def test_an_answer_that_is_no_trace_is_a_device_error(subject_of, content):
    with pytest.raises(DeviceError, match=r"trace of a\.onnx from fake"):
        operator_times(subject_of("a.onnx"), FakeDevice(lambda _: answer(content)), runs=2)


@pytest.mark.parametrize("settings", [{"runs": 0}, {"warmup_runs": -1}, {"threads": 5}])
def test_numbers_that_cannot_be_are_config_errors(subject_of, settings):
    with pytest.raises(ConfigError):
        operator_times(
            subject_of("a.onnx"), FakeDevice(lambda _: Outcome(returncode=0)), **settings
        )


def test_times_of_an_emulated_processor_are_refused(subject_of):
    emulated = object.__new__(Emulated)
    emulated.cpu = SimpleNamespace(name="arm64-a76")
    with pytest.raises(ConfigError, match="arm64-a76 is emulated"):
        operator_times(subject_of("a.onnx"), emulated)

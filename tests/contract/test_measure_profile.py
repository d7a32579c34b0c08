"""`edgese.measure.api.profile`: on this host with tiny real artifacts, and on a fake device."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest
from fake_devices import FakeDevice

from edgese.catalog import recipe, target_facts
from edgese.devices import host
from edgese.errors import ConfigError, DeviceError, InputError, StoreError
from edgese.measure.api import profile
from edgese.measure.job import RUNNER, Subject, measuring_job, parsed
from edgese.models.cost import cost
from edgese.models.registry import find_model
from edgese.records.artifact import (
    ModelCard,
    TargetOptions,
)
from edgese.records.measurement import MeasurePlan, Outcome
from edgese.records.profile import ProfileResult
from edgese.store import read_manifest, sha256_of
from edgese.targets import TARGETS

DATA = Path(__file__).parents[1] / "data" / "measure"
RECORDED = Outcome(
    returncode=0,
    stdout=(DATA / "stdout.txt").read_text(encoding="utf-8"),
    files={"result.json": (DATA / "result.json").read_bytes()},
)
QUICK = {
    "threads": 1,
    "launches": 4,
    "blocks": 8,
    "min_runs": 80,
    "min_time_s": 0.0,
    "warmup_time_s": 0.0,
}
SPEC = find_model("efficientnet_b0")


def onnx_file(path, repeats=1, dtype="FLOAT"):
    """An ONNX model that convolves ``repeats`` times."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper, save

    kind = getattr(TensorProto, dtype)
    weight = np.full((3, 3, 3, 3), 0.1, helper.tensor_dtype_to_np_dtype(kind))
    nodes = [
        helper.make_node("Conv", [f"x{i}", "w"], [f"x{i + 1}"], pads=[1, 1, 1, 1])
        for i in range(repeats)
    ]
    sides = [helper.make_tensor_value_info(n, kind, (1, 3, 16, 16)) for n in ("x0", f"x{repeats}")]
    graph = helper.make_graph(
        nodes, "tiny", sides[:1], sides[1:], [numpy_helper.from_array(weight, "w")]
    )
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("artifacts")


@pytest.fixture(scope="module")
def tiny(folder, described):
    return described(onnx_file(folder / "tiny.onnx"))


@pytest.fixture(scope="module")
def deep(folder, described):
    return described(onnx_file(folder / "deep.onnx", repeats=60))


@pytest.fixture(scope="module")
def broken(folder, described):
    path = folder / "broken.onnx"
    path.write_bytes(b"no model at all")
    return described(path)


@pytest.fixture(scope="module")
def measured(tiny, deep, broken):
    """One real job: two artifacts that work, the first once more, and one that does not load."""
    news = []
    result = profile(
        [tiny, deep, broken, tiny],
        strict=False,
        progress=lambda stage, fraction: news.append((stage, fraction)),
        **QUICK,
    )
    return result, news


def blocks_of(one):
    return [block for launch in one.launches for block in launch.blocks]


def test_every_sample_is_kept_in_its_block_and_launch(measured):
    result, _ = measured
    for one in result.profiles:
        assert [len(launch.blocks) for launch in one.launches] == [2, 2, 2, 2]
        assert all(len(block.samples_ns) == 10 for block in blocks_of(one))
        assert all(sample > 0 for block in blocks_of(one) for sample in block.samples_ns)
        assert one.latency.count == 80


def test_blocks_of_the_artifacts_alternate_there_and_back(measured):
    starts = sorted(
        (block.start_ms, name)
        for name, one in zip("ABC", measured[0].profiles, strict=True)
        for block in blocks_of(one)
    )
    assert "".join(name for _, name in starts) == ("ABCCBA" + "CBAABC") * 2


def test_only_one_artifact_runs_at_a_time(measured):
    blocks = sorted(
        (block.start_ms, sum(block.samples_ns) / 1e6)
        for one in measured[0].profiles
        for block in blocks_of(one)
    )
    for (start, length), (following, _) in pairwise(blocks):
        assert start + length <= following


def test_the_figures_agree_with_the_samples(measured):
    for one in measured[0].profiles:
        samples = sorted(ns / 1e6 for block in blocks_of(one) for ns in block.samples_ns)
        assert one.latency.min_ms == samples[0]
        assert one.latency.max_ms == samples[-1]
        assert one.latency.p50_ms == pytest.approx((samples[39] + samples[40]) / 2)
        assert one.latency.p50_ms <= one.latency.p90_ms <= one.latency.p99_ms
        assert one.throughput_per_s == pytest.approx(1000 * 80 / sum(samples))


def test_a_deeper_network_is_slower_and_its_ratio_says_so(measured):
    slower, _ = measured[0].ratios
    assert slower.baseline == measured[0].profiles[0].label
    assert 1.5 < slower.interval.low <= slower.ratio <= slower.interval.high


def test_an_artifact_beside_itself_has_a_ratio_near_one(measured):
    _, same = measured[0].ratios
    assert same.artifact == f"{same.baseline} (2)"
    assert same.ratio == pytest.approx(1.0, rel=0.3)


def test_what_was_measured_is_told_with_what_it_was(measured, tiny):
    one = measured[0].profiles[0]
    assert one.sha256 == sha256_of(tiny)
    assert (one.target, one.recipe, one.model, one.threads) == ("onnxruntime", "fp32", "tiny", 1)
    assert one.source == "measured"
    assert not one.trained
    assert one.macs == cost(SPEC).macs
    assert one.versions["onnxruntime"]
    assert one.device.name == "host"


def test_memory_and_start_are_told(measured):
    one = measured[0].profiles[0]
    assert 10 < one.memory_before_load_mb <= one.peak_memory_mb < 2000
    assert all(launch.import_ms > 0 for launch in one.launches)
    assert all(0 < launch.overhead_ns < 100_000 for launch in one.launches)
    for name in ("load_ms", "first_run_ms"):
        values = sorted(getattr(launch, name) for launch in one.launches)
        assert 0 < values[0] <= getattr(one, name) <= values[-1]


def test_an_artifact_that_does_not_load_is_told_and_the_others_are_measured(measured, broken):
    (failure,) = measured[0].failures
    assert failure.label == str(broken)
    assert "during load" in failure.error
    assert "InvalidProtobuf" in failure.error
    assert failure.exit_code == DeviceError.exit_code


def test_progress_goes_from_loading_through_all_rounds(measured):
    _, news = measured
    assert news[0] == ("launch 1 of 4: load tiny.onnx", 0.0)
    assert news[-1][0] == "launch 4 of 4: round 2"
    fractions = [fraction for _, fraction in news]
    assert fractions == sorted(fractions)
    assert fractions[-1] < 1


def test_a_result_survives_being_written_and_read(measured):
    assert ProfileResult.from_json(measured[0].to_json(), "profile.json") == measured[0]


def test_where_nothing_can_be_measured_it_is_a_device_error(broken):
    with pytest.raises(DeviceError, match=r"broken\.onnx.*during load"):
        profile([broken], **QUICK)


def test_min_time_makes_more_runs_than_min_runs(tiny):
    settings = QUICK | {"min_runs": 1, "min_time_s": 0.3}
    latency = profile([tiny], **settings).profiles[0].latency
    assert latency.count % 8 == 0
    # Warm-up decides on the count, so that the time is met as well as it predicts.
    assert 0.1 < latency.count * latency.mean_ms / 1000 < 3


def test_an_fp16_artifact_gets_fp16_input(folder, described):
    half = described(onnx_file(folder / "half.onnx", dtype="FLOAT16"))
    assert profile([half], **QUICK).profiles[0].latency.count == 80


def processes_with(marker):
    """Ids of the processes that were started with an environment variable."""
    ((name, value),) = marker.items()
    wanted = f"{name}={value}".encode()
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if wanted in path.read_bytes().split(b"\0"):
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


@contextmanager
def running_profile(artifact):
    """A process that is in the middle of profiling, and the marker that all its processes carry."""
    script = (
        "import sys; from pathlib import Path; from edgese.measure.api import profile;"
        "profile([Path(sys.argv[1])], launches=1, blocks=1000, min_time_s=60,"
        " progress=lambda stage, fraction: print(stage, flush=True))"
    )
    marker = {"EDGESE_TEST_RUN": f"{os.getpid()}-{time.monotonic_ns()}"}
    with subprocess.Popen(
        [sys.executable, "-c", script, str(artifact)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=os.environ | marker,
    ) as process:
        for line in process.stdout:
            if "round" in line:
                break
        # The command, the guard of its children, the driver and one serving process.
        assert len(processes_with(marker)) == 4
        yield process, marker


def all_end(marker):
    deadline = time.monotonic() + 10
    while processes_with(marker) and time.monotonic() < deadline:
        time.sleep(0.02)
    return processes_with(marker) == []


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_however_a_profile_is_ended_no_process_stays(tiny, sent):
    with running_profile(tiny) as (process, marker):
        process.send_signal(sent)
    assert all_end(marker)


def test_a_fake_device_is_given_everything_that_the_job_needs(tiny, deep):
    device = FakeDevice(lambda _: Outcome(returncode=1, stderr="nothing here"))
    with pytest.raises(DeviceError, match="on fake ended with code 1: nothing here"):
        profile([tiny, deep], device=device, **QUICK)
    (job,) = device.jobs
    pushed = {push.name: push for push in job.push}
    assert job.argv[:3] == ("{python}", "-P", "runner.py")
    assert set(job.argv[4:]) == {"plan.json", "result.json"}
    assert b"edgese" not in pushed["runner.py"].content.split(b'"""', 2)[2]
    plan = json.loads(pushed["plan.json"].content)
    assert [artifact["runtime"] for artifact in plan["artifacts"]] == ["onnxruntime"] * 2
    assert {pushed[artifact["path"]].source for artifact in plan["artifacts"]} == {
        str(tiny),
        str(deep),
    }
    assert job.pull == ("result.json",)


def test_a_recorded_answer_becomes_profiles(tiny):
    settings = QUICK | {"min_runs": 16, "strict": False}
    result = profile([tiny] * 4, device=FakeDevice(lambda _: RECORDED), **settings)
    assert [one.latency.count for one in result.profiles] == [16, 16, 16]
    assert [one.artifact for one in result.ratios] == [f"{tiny} (2)", f"{tiny} (3)"]
    assert len(result.failures) == 1


def test_what_could_not_be_measured_raises_once_the_others_are_written(tiny, tmp_path):
    settings = QUICK | {"min_runs": 16, "out": str(tmp_path / "result.json")}
    with pytest.raises(DeviceError, match=r"1 of the artifacts could not be measured\.\n.*tiny"):
        profile([tiny] * 4, device=FakeDevice(lambda _: RECORDED), **settings)
    stored = ProfileResult.from_json((tmp_path / "result.json").read_text(), "result.json")
    assert (len(stored.profiles), len(stored.failures)) == (3, 1)


def test_without_the_baseline_there_is_no_ratio(tiny):
    content = json.loads(RECORDED.files["result.json"])
    content["artifacts"] = content["artifacts"][::-1]
    for number, artifact in enumerate(content["artifacts"]):
        artifact["id"] = str(number)
    data = json.dumps(content).encode()
    end = json.dumps({"end": hashlib.sha256(data).hexdigest()})
    outcome = msgspec.structs.replace(RECORDED, stdout=end, files={"result.json": data})
    result = profile([tiny] * 4, device=FakeDevice(lambda _: outcome), strict=False, **QUICK)
    assert len(result.profiles) == 3
    assert result.ratios == ()


# Stands in for a runtime: chats on standard output, and behaves as the artifact's content says.
UNRULY = """
import os, time
class ExecutionMode:
    ORT_SEQUENTIAL = 0
class SessionOptions:
    def add_session_config_entry(self, name, value): pass
class Side:
    name, type, shape = "x", "tensor(float)", [1, 3, 4, 4]
class InferenceSession:
    def __init__(self, path, *_, **__):
        self.behaviour = open(path).read()
        self.runs = 0
        os.write(1, b"loaded\\n")
    def get_inputs(self):
        return [Side]
    def run(self, *_):
        print("running")
        os.write(1, b'{"load_ns": -1}\\n')
        self.runs += 1
        if self.behaviour == "dies" and self.runs > 20:
            os.abort()
        if self.behaviour == "hangs" and self.runs > 20:
            time.sleep(600)
"""


@pytest.fixture
def unruly(tmp_path, monkeypatch, described):
    """Artifacts for a runtime that behaves as they say."""
    modules = tmp_path / "modules"
    modules.mkdir()
    (modules / "onnxruntime.py").write_text(UNRULY, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(modules))

    def artifact(behaviour):
        path = tmp_path / f"{behaviour}.onnx"
        path.write_text(behaviour, encoding="utf-8")
        return described(path)

    return artifact


def test_what_a_runtime_prints_does_not_disturb_the_protocol(unruly):
    (one,) = profile([unruly("chats")], **QUICK).profiles
    assert one.latency.count == 80
    assert one.load_ms > 0


def test_a_runtime_that_dies_while_measuring_is_told_and_the_others_go_on(unruly):
    result = profile([unruly("chats"), unruly("dies")], strict=False, **QUICK)
    (failure,) = result.failures
    assert "ended with code -6 during measuring" in failure.error
    assert [one.latency.count for one in result.profiles] == [80]


def test_a_runtime_that_falls_silent_is_given_up_and_the_others_go_on(unruly):
    plan = MeasurePlan(
        launches=4, threads=1, blocks=8, min_runs=80, min_time_s=0, reply_timeout_s=3
    )
    subjects = [
        Subject(label=str(path), path=str(path), manifest=read_manifest(path))
        for path in (unruly("hangs"), unruly("chats"))
    ]
    outcome = host.run(measuring_job(subjects, plan, RUNNER.read_bytes()), lambda _: None)
    hung, fine = parsed(outcome, plan, 2, "host").artifacts
    assert hung.failure.reason == "gave no answer within 3 s"
    assert hung.failure.during == "warm-up"
    assert fine.failure is None


@pytest.fixture(scope="module")
def program():
    """A network that every runtime takes, 16 px, 4 classes."""
    import torch
    from torch import nn

    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 4),
    )
    return torch.export.export(network.eval(), (torch.zeros(1, 3, 16, 16),))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("target", "precision"),
    [("tflite", "fp32"), ("executorch", "fp16")],
)
# What the converters warn of is the matter of the tests of targets.
@pytest.mark.filterwarnings("ignore")
def test_other_runtimes_are_measured_alike(target, precision, program, folder, described):
    card = ModelCard(name="tiny", classes=4, preprocessing=SPEC.preprocessing)
    path = folder / f"tiny{target_facts(target).suffix}"
    chosen = recipe(precision)
    TARGETS[target].convert(program, card, chosen, TargetOptions(), path, lambda *_: None)
    described(path, target=target, delegate="xnnpack")
    (one,) = profile([path], **QUICK | {"launches": 1}).profiles
    assert one.latency.count == 80
    assert one.memory_before_load_mb <= one.peak_memory_mb
    assert len(one.versions) >= 2


def no_device(_):
    raise AssertionError("The job was run although its input is bad.")


def test_no_artifact_is_a_config_error():
    with pytest.raises(ConfigError, match="No artifact"):
        profile([], device=FakeDevice(no_device))


def test_an_artifact_without_a_manifest_is_an_input_error(tmp_path):
    path = onnx_file(tmp_path / "alone.onnx")
    with pytest.raises(InputError, match=r"alone\.onnx\.json"):
        profile([path], device=FakeDevice(no_device))


def test_an_artifact_that_changed_since_its_manifest_is_a_store_error(tmp_path, described):
    path = described(onnx_file(tmp_path / "changed.onnx"))
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(StoreError, match=r"changed\.onnx"):
        profile([path], device=FakeDevice(no_device))


def test_more_threads_than_cores_are_a_config_error(tiny):
    with pytest.raises(ConfigError, match="fake has 4 cores"):
        profile([tiny], device=FakeDevice(no_device), threads=5)

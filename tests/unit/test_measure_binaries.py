"""The runtimes' own programs: what they are called with, and how recorded output is read."""

from pathlib import Path

import pytest

from edgese.errors import ConfigError, DeviceError
from edgese.measure.binaries import binary_job, parsed_run, tool_of
from edgese.records.measurement import Outcome

DATA = Path(__file__).parents[1] / "data" / "runners"
TFLITE = Path("/b/android_aarch64_benchmark_model")
TORCH = Path("/b/executor_runner")
ONNX = Path("/b/onnxruntime_perf_test")
# The format strings of executor_runner.cpp (April 2026), filled in.
EXECUTORCH_LOG = """\
Model file artifact.pte is loaded.
Model loaded in 12.500000 ms.
Iteration 1 of 5: 9.000000 ms
Iteration 2 of 5: 5.000000 ms
Iteration 3 of 5: 4.000000 ms
Iteration 4 of 5: 2.000000 ms
Iteration 5 of 5: 3.000000 ms
Model executed successfully 5 time(s) in 23.000000 ms.
"""


def told(log, returncode=0):
    return Outcome(returncode=returncode, files={"log.txt": log.encode()})


def read(binary, log, **settings):
    settings = {"delegate": "", "device": "pixel8"} | settings
    return parsed_run(binary, told(log), **settings)


def recorded(name):
    return (DATA / name).read_text(encoding="utf-8")


def test_benchmark_model_is_read():
    run = read(TFLITE, recorded("benchmark_model.txt"), delegate="xnnpack")
    assert run.count == 50
    assert run.mean_ms == pytest.approx(899.641)
    assert (run.min_ms, run.p50_ms, run.p95_ms, run.max_ms) == (898.007, 899.281, 904.305, 906.121)
    assert run.std_ms == pytest.approx(1.549)
    assert (run.load_ms, run.first_run_ms) == (614.333, 905.463)
    assert run.memory_mb == 150.141
    assert run.samples_ms == ()
    assert "partially executed by the delegate w/ 1 delegate kernels" in run.remainder


@pytest.mark.parametrize(
    ("number", "says"),
    [
        (0, ""),
        (1, ""),
        (2, "2136 of 2168 nodes were delegated"),
        (3, "will not be executed by the delegate"),
    ],
)
def test_what_a_delegate_left_is_told(number, says):
    line = recorded("delegates.txt").splitlines()[number]
    text = recorded("benchmark_model.txt")
    kept = [one for one in text.splitlines() if "Explicitly applied" not in one]
    run = read(TFLITE, "\n".join([line, *kept]), delegate="gpu")
    assert says in run.remainder
    assert bool(run.remainder) == bool(says)


def test_onnxruntime_perf_test_is_read():
    run = read(ONNX, recorded("onnxruntime_perf_test.txt"))
    assert run.count == 100
    assert run.mean_ms == 1.85739
    assert run.p50_ms == pytest.approx(1.85674)
    assert run.p90_ms == pytest.approx(1.87215)
    assert run.p99_ms == run.max_ms == pytest.approx(1.90312)
    assert run.load_ms == pytest.approx(10.2016)
    assert run.first_run_ms == 2
    assert run.memory_mb == pytest.approx(34.996, abs=0.001)


def test_a_newer_onnxruntime_perf_test_is_read():
    # "Average inference time cost total" is what its README shows since 2026.
    text = recorded("onnxruntime_perf_test.txt").replace("time cost: 1.8", "time cost total: 1.8")
    assert read(ONNX, text).mean_ms == 1.85739


def test_executor_runner_is_read_without_its_warm_up():
    run = read(TORCH, EXECUTORCH_LOG, warmup_runs=2)
    assert run.samples_ms == (4.0, 2.0, 3.0)
    assert (run.count, run.mean_ms, run.min_ms, run.max_ms) == (3, 3.0, 2.0, 4.0)
    assert (run.load_ms, run.first_run_ms) == (12.5, 9.0)


def test_an_older_executor_runner_tells_only_the_mean():
    text = "Model executed successfully 4 time(s) in 10.000000 ms.\n"
    run = read(TORCH, text)
    assert (run.count, run.mean_ms, run.samples_ms) == (4, 2.5, ())


@pytest.mark.parametrize("binary", [TFLITE, TORCH, ONNX])
def test_output_without_figures_is_a_device_error(binary):
    with pytest.raises(DeviceError, match="told no figures"):
        read(binary, "STARTING!\n")


def test_a_program_that_failed_tells_its_last_words():
    with pytest.raises(DeviceError, match=r"code 1: ERROR: Model file not found"):
        parsed_run(TFLITE, told("x\nERROR: Model file not found\n", 1), delegate="", device="p")


def test_each_program_is_called_in_its_own_way():
    artifact = Path("/a/b0 int8.tflite")
    job = binary_job(TFLITE, artifact, "tflite", delegate="gpu", threads=4, runs=50)
    assert job.argv[3:] == (
        "sh",
        "./benchmark_model",
        "--graph=artifact.tflite",
        "--num_threads=4",
        "--num_runs=50",
        "--warmup_runs=10",
        "--use_gpu=true",
    )
    assert [(push.name, push.source) for push in job.push] == [
        ("benchmark_model", str(TFLITE)),
        ("artifact.tflite", str(artifact)),
    ]
    job = binary_job(TORCH, Path("m.pte"), "executorch", threads=2, runs=50, warmup_runs=5)
    assert "--num_executions=55" in job.argv
    job = binary_job(ONNX, Path("m.onnx"), "onnxruntime", delegate="xnnpack", threads=2)
    assert job.argv[-3:] == ("-e", "xnnpack", "artifact.onnx")


def test_a_delegate_that_a_program_has_not_is_refused():
    with pytest.raises(ConfigError, match="no delegate named 'tpu'") as caught:
        binary_job(TFLITE, Path("m.tflite"), "tflite", delegate="tpu")
    assert "gpu" in caught.value.hint
    with pytest.raises(ConfigError, match="fixes the delegate at conversion"):
        binary_job(TORCH, Path("m.pte"), "executorch", delegate="vulkan")


def test_a_program_of_another_runtime_is_refused():
    with pytest.raises(ConfigError, match="runs executorch artifacts"):
        binary_job(TORCH, Path("m.tflite"), "tflite")


def test_an_unknown_program_is_refused():
    with pytest.raises(ConfigError, match="no benchmark program") as caught:
        tool_of(Path("/usr/bin/python3"))
    assert "benchmark_model" in caught.value.hint

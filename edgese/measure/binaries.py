"""The runtimes' own benchmark programs, for delegates that no Python reaches on a phone; pure.

The user brings the program. What it is called with and how its words are read follows
https://github.com/tensorflow/tensorflow/tree/master/tensorflow/lite/tools/benchmark,
https://github.com/pytorch/executorch/blob/main/examples/portable/executor_runner/executor_runner.cpp
and https://github.com/microsoft/onnxruntime/tree/main/onnxruntime/test/perftest.
None of the three has been run by edgese's tests; their recorded output has been read.
"""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from edgese.errors import ConfigError, DeviceError
from edgese.records.measurement import BinaryRun, Job, Outcome, Push, Tool

LOG: Final = "log.txt"
# executor_runner's messages go to Android's log and nowhere else (runtime/platform/default/
# android.cpp); `logcat --pid` came with Android 7.
_LOGGED: Final = (
    f'"$@" >{LOG} 2>&1 & pid=$!; wait $pid; code=$?; if command -v logcat >/dev/null; then '
    f"logcat -d -v raw --pid=$pid -s ExecuTorch:I >>{LOG} 2>&1; fi; exit $code"
)
_TARGETS: Final[dict[Tool, str]] = {
    "benchmark_model": "tflite",
    "executor_runner": "executorch",
    "onnxruntime_perf_test": "onnxruntime",
}
_DELEGATES: Final[dict[str, tuple[str, ...]]] = {
    "": (),
    "cpu": ("--use_xnnpack=false",),
    "xnnpack": ("--use_xnnpack=true",),
    "gpu": ("--use_gpu=true",),
    # Without this, NNAPI may quietly take its own slow implementation on the CPU.
    "nnapi": ("--use_nnapi=true", "--disable_nnapi_cpu=true"),
}
_PROVIDERS: Final = ("", "cpu", "xnnpack", "nnapi")
DEFAULT_WARMUP_RUNS: Final = 10
_NUMBER: Final = r"([-+.\deE]+)"


def tool_of(binary: Path) -> Tool:
    """Which program a file is, by its name: "android_aarch64_benchmark_model" is one, too.

    Raises:
        ConfigError: none of those that are known.
    """
    for tool in _TARGETS:
        if tool in binary.name:
            return tool
    raise ConfigError(
        f"{binary.name} is no benchmark program that edgese can read.",
        hint=f"Its name must contain one of: {', '.join(_TARGETS)}.",
    )


def binary_job(
    binary: Path,
    artifact: Path,
    target: str,
    *,
    delegate: str = "",
    threads: int = 1,
    runs: int = 100,
    warmup_runs: int = DEFAULT_WARMUP_RUNS,
    timeout_s: float = 3600.0,
) -> Job:
    """The job that measures one artifact with its runtime's own program.

    Args:
        target: of the artifact.
        delegate: "" for the program's default.

    Raises:
        ConfigError: an unknown program, one of another runtime, or a delegate that it has not.
    """
    tool = tool_of(binary)
    if _TARGETS[tool] != target:
        raise ConfigError(
            f"{binary.name} runs {_TARGETS[tool]} artifacts, and {artifact.name} is for {target}.",
            hint="Name the program of its runtime.",
        )
    name = f"artifact{artifact.suffix}"
    words = _ARGUMENTS[tool](name, delegate, threads, runs, warmup_runs)
    return Job(
        argv=("sh", "-c", _LOGGED, "sh", f"./{tool}", *words),
        push=(Push(name=tool, source=str(binary)), Push(name=name, source=str(artifact))),
        pull=(LOG,),
        timeout_s=timeout_s,
    )


def parsed_run(
    binary: Path,
    outcome: Outcome,
    *,
    delegate: str,
    device: str,
    warmup_runs: int = DEFAULT_WARMUP_RUNS,
) -> BinaryRun:
    """Reads what the program told.

    Args:
        delegate, warmup_runs: as the job was made with.

    Raises:
        DeviceError: it failed, or told no figures.
    """
    tool = tool_of(binary)
    log = outcome.files.get(LOG, b"").decode("utf-8", "replace")
    if outcome.returncode:
        said = [line for line in f"{outcome.stderr}\n{log}".splitlines() if line.strip()]
        raise DeviceError(
            f"{binary.name} on {device} ended with code {outcome.returncode}: "
            f"{said[-1].strip() if said else 'it said nothing.'}",
            hint="Run it there by hand to see more.",
        )
    run = _READERS[tool](log, delegate, warmup_runs)
    if run is None:
        raise DeviceError(
            f"{binary.name} on {device} ended well, but told no figures.",
            hint="Take a version whose output is as documented; executor_runner needs a build with "
            "logging.",
        )
    return run


def _benchmark_model_arguments(
    name: str, delegate: str, threads: int, runs: int, warmup_runs: int
) -> tuple[str, ...]:
    return (
        f"--graph={name}",
        f"--num_threads={threads}",
        f"--num_runs={runs}",
        f"--warmup_runs={warmup_runs}",
        *_known(delegate, _DELEGATES, "benchmark_model"),
    )


def _executor_runner_arguments(
    name: str, delegate: str, threads: int, runs: int, warmup_runs: int
) -> tuple[str, ...]:
    if delegate:
        raise ConfigError(
            f"executor_runner cannot be told to use {delegate!r}: ExecuTorch fixes the delegate at "
            "conversion.",
            hint="Convert with that delegate, and name none here.",
        )
    # It does not warm up by itself; the first ones are left out when it is read.
    return (
        f"--model_path={name}",
        f"--num_executions={runs + warmup_runs}",
        f"--cpu_threads={threads}",
    )


def _perf_test_arguments(
    name: str, delegate: str, threads: int, runs: int, _: int
) -> tuple[str, ...]:
    provider = _known(delegate, {one: (one,) for one in _PROVIDERS}, "onnxruntime_perf_test")[0]
    return (
        *("-I", "-m", "times", "-r", str(runs), "-x", str(threads), "-y", "1", "-s"),
        *(("-e", provider) if provider else ()),
        name,
    )


_ARGUMENTS: Final[dict[Tool, Callable[[str, str, int, int, int], tuple[str, ...]]]] = {
    "benchmark_model": _benchmark_model_arguments,
    "executor_runner": _executor_runner_arguments,
    "onnxruntime_perf_test": _perf_test_arguments,
}


def _known(delegate: str, delegates: dict[str, tuple[str, ...]], tool: Tool) -> tuple[str, ...]:
    if delegate not in delegates:
        raise ConfigError(
            f"{tool} has no delegate named {delegate!r}.",
            hint=f"It has: {', '.join(filter(None, delegates))}.",
        )
    return delegates[delegate]


def benchmark_model(log: str, delegate: str, _: int = 0) -> BinaryRun | None:
    """Reads `benchmark_model`; its times are in microseconds."""
    timings = re.search(
        rf"Inference timings in us: Init: {_NUMBER}, First inference: {_NUMBER}, "
        rf"Warmup \(avg\): {_NUMBER}, Inference \(avg\): {_NUMBER}",
        log,
    )
    if timings is None:
        return None
    # The line of the warm-up comes first.
    figures = re.findall(r"count=(\d+)((?: \w+=[-+.\deE]+)+)", log[: timings.start()])
    count, text = figures[-1] if figures else ("0", "")
    told = {name: float(value) / 1000 for name, value in re.findall(rf"(\w+)={_NUMBER}", text)}
    taken = re.findall(r"Replacing (\d+) out of (\d+) node\(s\) with delegate", log)
    memory = re.search(rf"Memory footprint delta .*overall={_NUMBER}", log) or re.search(
        rf"Overall peak memory footprint \(MB\).*: {_NUMBER}", log
    )
    return BinaryRun(
        tool="benchmark_model",
        delegate=delegate,
        count=int(count),
        mean_ms=float(timings[4]) / 1000,
        min_ms=told.get("min"),
        max_ms=told.get("max"),
        std_ms=told.get("std"),
        p50_ms=told.get("median"),
        p95_ms=told.get("p95"),
        load_ms=float(timings[1]) / 1000,
        first_run_ms=float(timings[2]) / 1000,
        memory_mb=float(memory[1]) if memory else None,
        nodes=int(taken[-1][1]) if taken else None,
        delegated=int(taken[-1][0]) if taken else None,
        remainder=_remainder(log, taken),
    )


def executor_runner(log: str, delegate: str, warmup_runs: int = 0) -> BinaryRun | None:
    """Reads `executor_runner`; its times are in milliseconds.

    A version that does not tell single inferences has the warm-up in its mean.
    """
    total = re.search(rf"Model executed successfully (\d+) time\(s\) in {_NUMBER} ms", log)
    if total is None:
        return None
    samples = [float(one) for one in re.findall(rf"Iteration \d+ of \d+: {_NUMBER} ms", log)]
    counted = samples[warmup_runs:]
    loaded = re.search(rf"Model loaded in {_NUMBER} ms", log)
    return BinaryRun(
        tool="executor_runner",
        delegate=delegate,
        count=len(counted) or int(total[1]),
        mean_ms=sum(counted) / len(counted) if counted else float(total[2]) / int(total[1]),
        min_ms=min(counted, default=None),
        max_ms=max(counted, default=None),
        load_ms=float(loaded[1]) if loaded else None,
        first_run_ms=samples[0] if samples else None,
        samples_ms=tuple(counted),
    )


def onnxruntime_perf_test(log: str, delegate: str, _: int = 0) -> BinaryRun | None:
    """Reads `onnxruntime_perf_test`; the average is in milliseconds, the quantiles in seconds."""
    mean = re.search(rf"Average inference time cost(?: total)?: {_NUMBER} ms", log)
    count = re.search(r"Total inference requests: (\d+)", log)
    if mean is None or count is None:
        return None

    def found(pattern: str, factor: float) -> float | None:
        match = re.search(rf"{pattern}: {_NUMBER}", log)
        return float(match[1]) * factor if match else None

    return BinaryRun(
        tool="onnxruntime_perf_test",
        delegate=delegate,
        count=int(count[1]),
        mean_ms=float(mean[1]),
        min_ms=found("Min Latency", 1000),
        max_ms=found("Max Latency", 1000),
        p50_ms=found("P50 Latency", 1000),
        p90_ms=found("P90 Latency", 1000),
        p95_ms=found("P95 Latency", 1000),
        p99_ms=found("P99 Latency", 1000),
        load_ms=found("Session creation time cost", 1000),
        first_run_ms=found("First inference time cost", 1),
        memory_mb=found("Peak working set size", 2**-20),
    )


_READERS: Final[dict[Tool, Callable[[str, str, int], BinaryRun | None]]] = {
    "benchmark_model": benchmark_model,
    "executor_runner": executor_runner,
    "onnxruntime_perf_test": onnxruntime_perf_test,
}


def _remainder(log: str, taken: Sequence[tuple[str, str]]) -> str:
    """The program's own words where a delegate took less than all; it goes on without it."""
    for line in log.splitlines():
        if "will not be executed by the delegate" in line or "partially executed" in line:
            return _without_level(line)
        if re.search(r"operations will run on the \w+, and the remaining", line):
            return _without_level(line)
    if taken and taken[-1][0] != taken[-1][1]:
        return f"{taken[-1][0]} of {taken[-1][1]} nodes were delegated"
    return ""


def _without_level(line: str) -> str:
    return re.sub(r"^\s*(?:INFO|WARNING|ERROR|VERBOSE): ", "", line).strip()

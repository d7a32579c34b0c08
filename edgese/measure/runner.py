"""Measures artifacts, and stands alone: it is pushed as it is to boards, phones and emulators.

It needs Python 3.11, numpy and the one runtime that an artifact is for; nothing of edgese.

    python -P runner.py drive plan.json result.json
    python -P runner.py serve '{"runtime": ..., "path": ..., "threads": ..., ...}'
    python -P runner.py count plan.json result.json
    python -P runner.py operators plan.json result.json
    python -P runner.py sustain plan.json result.json

``serve`` loads one artifact and measures on request: JSON lines in, JSON lines out. ``drive``
launches one such process for each artifact of the plan, lets only one of them run at a time, and
writes all samples. It launches them several times, because where a process's memory happens to lie
makes it a few percent faster or slower for its whole life (Kalibera & Tuma, "Precise Regression
Benchmarking with Random Effects", EPEW 2006). A process that dies or falls silent is told as that
artifact's failure, and the others go on.

``count`` is for an emulator that counts instructions: it measures no time, but marks where each
inference begins and ends. ``operators`` lets a runtime that can do so time each of its operators,
which slows it down, so nothing else is measured meanwhile. ``sustain`` runs one artifact without a
pause, and tells every window of time as soon as it is over, so that whoever listens keeps what was
measured before an interruption.

Progress and the end mark are JSON lines on standard output. The end mark carries the hash of the
result, so that a lost connection or a truncated copy cannot pass for success.

All times are in nanoseconds from the monotonic clock, memory is in bytes.
"""

import gc
import hashlib
import json
import os
import queue
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from importlib.metadata import version
from math import ceil
from pathlib import Path
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any, Final, TextIO, TypeVar

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

RESULT_SCHEMA: Final = 1
_OVERHEAD_RUNS: Final = 1000
# No system call of Linux, on any machine: the kernel refuses it, and an emulator sees it pass.
MARK: Final = 0x5E5E
_TAIL_BYTES: Final = 4000
_SENSORS: Final = (
    ("/sys/class/thermal", "thermal_zone*/temp"),
    ("/sys/class/hwmon", "hwmon*/temp*_input"),
)
# Sensors that are not there often read 0; none of a machine that runs is hotter than this.
_PLAUSIBLE_C: Final = (1.0, 150.0)
_ONNX_TYPES: Final = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(int8)": "int8",
    "tensor(uint8)": "uint8",
}
_TRACE_ARGUMENTS: Final = ("op_name", "node_index", "provider", "output_type_shape")
# torch's own numbers of its types, as an ExecuTorch program keeps them.
_TORCH_TYPES: Final = {0: "uint8", 1: "int8", 5: "float16", 6: "float32"}

Item = TypeVar("Item")
Facts = dict[str, Any]
Infer = Callable[[], object]
# A runtime stops twice on its way, so that each step can be timed: imported, loaded, and then it
# gives what runs one inference. One that is "traced" gives what ends the recording after that.
Steps = Iterator[Infer | None]


def fixed_input(shape: tuple[int, ...], dtype: str) -> "NDArray[np.generic]":
    """The same numbers on every machine: normal ones for floats, the whole range for integers."""
    import numpy as np

    generator = np.random.default_rng(0)
    kind = np.dtype(dtype)
    if kind.kind == "f":
        return generator.standard_normal(shape).astype(kind)
    limits = np.iinfo(kind)
    return generator.integers(limits.min, limits.max, size=shape, dtype=kind, endpoint=True)


def tflite(artifact: Facts) -> Steps:
    """LiteRT's interpreter; XNNPACK is its default delegate."""
    from ai_edge_litert.interpreter import Interpreter

    yield None
    interpreter = Interpreter(artifact["path"], num_threads=artifact["threads"])
    interpreter.allocate_tensors()
    yield None
    (entry,) = interpreter.get_input_details()
    exits = [details["index"] for details in interpreter.get_output_details()]
    given = fixed_input(tuple(map(int, entry["shape"])), entry["dtype"].__name__)

    def infer() -> object:
        # The other runtimes take their input within the call that executes, so this is timed too.
        interpreter.set_tensor(entry["index"], given)
        interpreter.invoke()
        return [interpreter.get_tensor(index) for index in exits]

    yield infer


def onnxruntime(artifact: Facts) -> Steps:
    """ONNX Runtime on its CPU provider, one operator after the other."""
    # Else importing it starts a thread that tells its makers of its use, and computes meanwhile.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime as ort

    yield None
    traced = artifact.get("traced", False)

    def session_of(*, exact: bool) -> ort.InferenceSession:
        options = ort.SessionOptions()
        # On x86, where uint8 is faster, int8 activations would otherwise be computed in float.
        options.add_session_config_entry("session.qdqisint8allowed", "1")
        if exact:
            options.add_session_config_entry("session.x64quantprecision", "1")
            # What is refused is tried without it, and nobody need read of it.
            options.log_severity_level = 4
        options.intra_op_num_threads = artifact["threads"]
        options.inter_op_num_threads = 1
        options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        if traced:
            options.enable_profiling = True
            options.profile_file_prefix = "operators"
        return ort.InferenceSession(artifact["path"], options, providers=["CPUExecutionProvider"])

    # Without VNNI, sums of uint8 by int8 saturate, and what is fast is wrong. Activations of int8
    # are exact as they are, and have no kernel with that entry.
    try:
        session = session_of(exact=_is_x86_without_vnni())
    except ort.capi.onnxruntime_pybind11_state.NotImplemented:
        session = session_of(exact=False)
    yield None
    (entry,) = session.get_inputs()
    if not all(isinstance(side, int) for side in entry.shape):
        raise ValueError(f"The input {entry.name!r} has no fixed shape: {entry.shape}.")
    feed = {entry.name: fixed_input(tuple(entry.shape), _ONNX_TYPES[entry.type])}
    yield lambda: session.run(None, feed)
    if traced:
        # Ends the recording, and gives the name of the file that it is in.
        yield session.end_profiling


def _is_x86_without_vnni() -> bool:
    """Whether ONNX Runtime has to be asked for exact sums of int8 products."""
    if os.uname().machine not in ("x86_64", "i686"):
        return False
    cpuinfo = Path("/proc/cpuinfo")
    words = cpuinfo.read_text("utf-8").split() if cpuinfo.exists() else []
    return {"avx_vnni", "avx512_vnni"}.isdisjoint(words)


def executorch(artifact: Facts) -> Steps:
    """ExecuTorch's Python runtime, which hands tensors over as torch's."""
    import torch

    # `executorch.runtime` would import the compiler as well: 130 MB and two seconds more.
    from executorch.extension.pybindings import _portable_lib as runtime

    yield None
    # The pool belongs to the process; delegates take it as it is when their method is loaded.
    runtime._unsafe_reset_threadpool(artifact["threads"])  # noqa: SLF001  # the only way
    threads = runtime._threadpool_get_thread_count()  # noqa: SLF001  # the only way
    if threads != artifact["threads"]:
        raise ValueError(f"ExecuTorch computes with {threads} threads whatever it is told.")
    program = runtime._load_program(artifact["path"])  # noqa: SLF001  # as executorch.runtime does
    method = program.load_method("forward")
    yield None
    entry = method.method_meta().input_tensor_meta(0)
    given = (torch.from_numpy(fixed_input(entry.sizes(), _TORCH_TYPES[entry.dtype()])),)
    yield lambda: [tensor.numpy() for tensor in method(given)]


def coreml(artifact: Facts) -> Steps:
    """Core ML through coremltools; on macOS only."""
    import coremltools as ct

    yield None
    units = ct.ComputeUnit[artifact["compute_units"].upper() or "ALL"]
    model = ct.models.MLModel(artifact["path"], compute_units=units)
    yield None
    (entry,) = model.get_spec().description.input
    if entry.type.WhichOneof("Type") != "multiArrayType":
        raise ValueError("The artifact takes a picture; only one that takes a tensor can be timed.")
    given = {entry.name: fixed_input(tuple(entry.type.multiArrayType.shape), "float32")}
    yield lambda: model.predict(given)


RUNTIMES: Final[dict[str, Callable[[Facts], Steps]]] = {
    "tflite": tflite,
    "onnxruntime": onnxruntime,
    "executorch": executorch,
    "coreml": coreml,
}
PACKAGES: Final = {
    "tflite": ("ai-edge-litert", "numpy"),
    "onnxruntime": ("onnxruntime", "numpy"),
    "executorch": ("executorch", "torch", "numpy"),
    "coreml": ("coremltools", "numpy"),
}


def measured(call: Infer, runs: int, time_ns: int) -> list[int]:
    """Times calls one by one until there are ``runs`` of them that took ``time_ns`` together."""
    samples: list[int] = []
    total = 0
    gc.collect()
    gc.disable()
    try:
        while len(samples) < runs or total < time_ns:
            start = perf_counter_ns()
            call()
            samples.append(perf_counter_ns() - start)
            total += samples[-1]
    finally:
        gc.enable()
    return samples


def memory(field: str) -> int:
    """``VmRSS`` (resident now) or ``VmHWM`` (the most so far) of this process."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except FileNotFoundError:
        # macOS has no /proc; it tells the most so far, in bytes.
        most: int = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))


def reset_peak() -> bool:
    """Forgets the most memory so far, so that importing does not count; False where it cannot."""
    try:
        # See proc_pid_clear_refs(5): 5 resets the peak resident set size, from Linux 4.0 on.
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return False
    return True


def serve(artifact: Facts) -> None:
    """Loads an artifact, tells how long that took, then answers requests until its input ends."""
    # Runtimes print what they like to standard output; the protocol keeps the only way to it.
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def tell(**facts: object) -> None:
        channel.write(json.dumps(facts) + "\n")
        channel.flush()

    steps = RUNTIMES[artifact["runtime"]](artifact)
    start = perf_counter_ns()
    next(steps)
    tell(
        import_ns=perf_counter_ns() - start,
        versions={name: version(name) for name in PACKAGES[artifact["runtime"]]},
        memory_before_load_bytes=memory("VmRSS"),
        peak_since_load=reset_peak(),
    )
    start = perf_counter_ns()
    next(steps)
    tell(load_ns=perf_counter_ns() - start)
    infer = next(steps)
    assert infer is not None  # noqa: S101  # the third step of every runtime
    start = perf_counter_ns()
    infer()
    tell(first_run_ns=perf_counter_ns() - start)
    tell(overhead_ns=statistics.median(measured(lambda: None, _OVERHEAD_RUNS, 0)))
    for line in sys.stdin:
        request = json.loads(line)
        for _ in range(request["lead_in_runs"]):
            infer()
        samples = measured(infer, request["runs"], request["time_ns"])
        tell(samples_ns=samples, peak_memory_bytes=memory("VmHWM"))


class Server:
    """A serving process as the driver sees it.

    Args:
        artifact: of the plan.
        entry: of this artifact in the result; it takes what the process tells.
    """

    def __init__(self, artifact: Facts, entry: Facts, plan: Facts) -> None:
        self._entry = entry
        self._plan = plan
        self._launch: Facts = {"blocks": []}
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  # closed in `close`
        self._process = subprocess.Popen(
            [sys.executable, "-P", __file__, "serve", json.dumps(artifact)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            encoding="utf-8",
        )
        self._replies: queue.SimpleQueue[str] = queue.SimpleQueue()
        # A thread, because a pipe offers no reading with a time limit.
        threading.Thread(target=self._listen, args=(self._process.stdout,), daemon=True).start()
        entry["launches"].append(self._launch)

    def _listen(self, stream: TextIO) -> None:
        for line in stream:
            self._replies.put(line)
        self._replies.put("")

    def prepare(self) -> None:
        """Waits until the artifact is loaded and warms it up; decides on the runs per block."""
        for during in ("import", "load", "first run", "overhead"):
            self._launch |= self._ask(during)
        least_ns = int(self._plan["warmup_time_s"] * 1e9)
        warm = self._ask(
            "warm-up", lead_in_runs=0, runs=self._plan["warmup_runs"], time_ns=least_ns
        )
        if warm and not self._entry["runs_per_block"]:
            samples = warm["samples_ns"]
            typical_s = statistics.median(samples[len(samples) // 2 :]) / 1e9
            runs = max(self._plan["min_runs"], self._plan["min_time_s"] / typical_s)
            self._entry["runs_per_block"] = ceil(runs / self._plan["blocks"])

    @property
    def launch(self) -> Facts:
        """What the process has told so far."""
        return self._launch

    def measure_block(self, start_ns: int, time_ns: int = 0) -> Facts:
        """Measures one block, of at least ``time_ns``; empty once the process has failed.

        Args:
            start_ns: when the job began.
        """
        block: Facts = {"start_ns": perf_counter_ns() - start_ns}
        reply = self._ask(
            "measuring",
            lead_in_runs=self._plan["lead_in_runs"],
            runs=self._entry["runs_per_block"],
            time_ns=time_ns,
        )
        if not reply:
            return {}
        block |= {
            "samples_ns": reply["samples_ns"],
            "frequency_mhz": fastest_core_mhz(),
            "temperature_c": temperature_c(),
        }
        self._launch["blocks"].append(block)
        self._launch["peak_memory_bytes"] = reply["peak_memory_bytes"]
        return block

    def _ask(self, during: str, **request: int) -> Facts:
        """The next reply, after a request if there is one; empty once the process has failed."""
        if self._entry["failure"]:
            return {}
        limit_s = self._plan["reply_timeout_s"]
        try:
            if request and self._process.stdin:
                self._process.stdin.write(json.dumps(request) + "\n")
                self._process.stdin.flush()
            reply = self._replies.get(timeout=limit_s)
        except queue.Empty:
            self._fail(during, f"gave no answer within {limit_s:g} s")
            return {}
        except BrokenPipeError:
            reply = ""
        if not reply:
            self._fail(during, f"ended with code {self._process.wait()}")
            return {}
        facts: Facts = json.loads(reply)
        return facts

    def _fail(self, during: str, reason: str) -> None:
        size = self._log.seek(0, os.SEEK_END)
        self._log.seek(max(0, size - _TAIL_BYTES))
        stderr = self._log.read().decode("utf-8", "replace")
        self._entry["failure"] = {"during": during, "reason": reason, "stderr": stderr}
        self.close()

    def close(self) -> None:
        """Ends the process; it has nothing to save."""
        self._process.kill()
        self._process.wait()
        self._log.close()


def fastest_core_mhz() -> float | None:
    """The clock frequency of the fastest core now; None where the kernel does not tell."""
    values = _numbers("cpu*/cpufreq/scaling_cur_freq")
    return max(values) / 1000 if values else None


def throttle_events() -> int | None:
    """How often cores were slowed down for their heat since start-up; None where it is not told."""
    values = _numbers("cpu*/thermal_throttle/core_throttle_count")
    return sum(values) if values else None


def temperature_c() -> float | None:
    """The hottest sensor's reading now, in degrees Celsius; None where the kernel does not tell.

    Thermal zones are of processors and boards; where there are none, as on some PCs, the
    processor's own sensors are asked. Both tell thousandths of a degree.
    """
    for folder, pattern in _SENSORS:
        values = [value / 1000 for value in _numbers(pattern, folder)]
        if plausible := [value for value in values if _PLAUSIBLE_C[0] <= value <= _PLAUSIBLE_C[1]]:
            return max(plausible)
    return None


def _numbers(pattern: str, folder: str = "/sys/devices/system/cpu") -> list[int]:
    numbers = []
    for path in Path(folder).glob(pattern):
        try:
            numbers.append(int(path.read_text(encoding="ascii")))
        except (OSError, ValueError):
            continue  # a core that is switched off, a file for root alone, or "<unknown>"
    return numbers


def _say(**facts: object) -> None:
    """Tells news; where nobody listens any more, the broken pipe ends this process."""
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


def _written(result: Facts, path: Path) -> str:
    content = json.dumps(result).encode()
    part = path.with_name(f"{path.name}.part")
    part.write_bytes(content)
    part.replace(path)
    return hashlib.sha256(content).hexdigest()


def drive(plan: Facts, result_path: Path) -> None:
    """Measures all artifacts of a plan in interleaved blocks and writes every sample."""
    start_ns, throttled = perf_counter_ns(), throttle_events()
    entries: list[Facts] = [
        {"id": artifact["id"], "runs_per_block": 0, "launches": [], "failure": None}
        for artifact in plan["artifacts"]
    ]
    result: Facts = {"schema": RESULT_SCHEMA, "complete": False, "throttle_events": None}
    result["artifacts"] = entries
    launches = plan["launches"]
    steps = launches * (len(entries) + plan["blocks"] // launches)
    done = 0
    for number in range(launches):
        said = f"launch {number + 1} of {launches}"
        with ExitStack() as stack:
            servers: list[Server] = []
            # Who starts first may find the better memory, so that changes too.
            for artifact, entry in _turned(zip(plan["artifacts"], entries, strict=True), number):
                if not entry["failure"]:
                    _say(stage=f"{said}: load {artifact['name']}", fraction=done / steps)
                    servers.append(Server(artifact, entry, plan))
                    stack.callback(servers[-1].close)
                    servers[-1].prepare()
                    _written(result, result_path)
                done += 1
            for round_number in range(plan["blocks"] // launches):
                _say(stage=f"{said}: round {round_number + 1}", fraction=done / steps)
                for server in _turned(servers, round_number):
                    server.measure_block(start_ns)
                _written(result, result_path)
                done += 1
    after = throttle_events()
    if throttled is not None and after is not None:
        result["throttle_events"] = after - throttled
    result["complete"] = True
    _say(end=_written(result, result_path))


def count(plan: Facts, result_path: Path) -> None:
    """Marks an empty call and then each inference, from its start to its end, for an emulator.

    The last end asks for the blocks of code that were executed too.
    """
    import ctypes

    mark = ctypes.CDLL(None).syscall
    artifact, runs = plan["artifact"], plan["runs"]
    steps = RUNTIMES[artifact["runtime"]](artifact)
    _say(stage=f"import {artifact['runtime']}", fraction=0.1)
    next(steps)
    _say(stage=f"load {artifact['name']}", fraction=0.4)
    next(steps)
    infer = next(steps)
    assert infer is not None  # noqa: S101  # the third step of every runtime
    _say(stage="first run", fraction=0.5)
    infer()

    def marked(call: Infer, end: int) -> None:
        mark(MARK, 1)
        call()
        mark(MARK, end)

    gc.collect()
    gc.disable()
    # Twice, because a call's first time is not like the others.
    for end in (2, 2):
        marked(lambda: None, end)
    for number in range(runs):
        _say(stage=f"count inference {number + 1} of {runs}", fraction=0.6 + 0.4 * number / runs)
        marked(infer, 3 if number == runs - 1 else 2)
    result: Facts = {
        "versions": {name: version(name) for name in PACKAGES[artifact["runtime"]]},
        "maps": Path("/proc/self/maps").read_text(encoding="utf-8"),
    }
    _say(end=_written(result, result_path))


def operators(plan: Facts, result_path: Path) -> None:
    """Lets the runtime record what each of its operators takes."""
    artifact = plan["artifact"] | {"traced": True}
    steps = RUNTIMES[artifact["runtime"]](artifact)
    _say(stage=f"import {artifact['runtime']}", fraction=0.1)
    next(steps)
    _say(stage=f"load {artifact['name']}", fraction=0.3)
    next(steps)
    infer = next(steps)
    assert infer is not None  # noqa: S101  # the third step of every runtime
    _say(stage="time operators", fraction=0.6)
    gc.collect()
    gc.disable()
    for _ in range(plan["warmup_runs"] + plan["runs"]):
        infer()
    stop = next(steps)
    assert stop is not None  # noqa: S101  # the fourth step of those that are traced
    events = json.loads(Path(str(stop())).read_text(encoding="utf-8"))
    result: Facts = {
        "versions": {name: version(name) for name in PACKAGES[artifact["runtime"]]},
        "events": [_short(event) for event in events],
    }
    _say(end=_written(result, result_path))


def _short(event: Facts) -> Facts:
    """An event of a trace without its sizes of memory, which are most of it."""
    given = event.get("args", {})
    kept = {name: given[name] for name in _TRACE_ARGUMENTS if name in given}
    return {name: event[name] for name in ("cat", "name", "ts", "dur") if name in event} | kept


def sustain(plan: Facts, result_path: Path) -> None:
    """Runs one artifact for ``time_s`` without a pause, in windows of ``window_s``."""
    artifact = plan["artifact"]
    time_ns, window_ns = int(plan["time_s"] * 1e9), int(plan["window_s"] * 1e9)
    # A block is a window: it ends when its time is over, however few inferences that are.
    entry: Facts = {"id": artifact["id"], "runs_per_block": 1, "launches": [], "failure": None}
    result: Facts = {"schema": RESULT_SCHEMA, "complete": False, "throttle_events": None}
    result |= {"start_temperature_c": temperature_c(), "artifact": entry}
    throttled = throttle_events()
    _say(stage=f"load {artifact['name']}", fraction=0.0)
    with ExitStack() as stack:
        server = Server(artifact, entry, plan)
        stack.callback(server.close)
        server.prepare()
        _say(
            launch={name: value for name, value in server.launch.items() if name != "blocks"},
            start_temperature_c=result["start_temperature_c"],
        )
        start_ns = perf_counter_ns()
        while not entry["failure"] and (behind := perf_counter_ns() - start_ns) < time_ns:
            _say(stage=f"minute {behind // 60_000_000_000 + 1}", fraction=behind / time_ns)
            if window := server.measure_block(start_ns, window_ns):
                _say(window=window, peak_memory_bytes=server.launch["peak_memory_bytes"])
    after = throttle_events()
    if throttled is not None and after is not None:
        result["throttle_events"] = after - throttled
    result["complete"] = True
    _say(end=_written(result, result_path))


def _turned(items: Iterable[Item], number: int) -> list[Item]:
    """The items, the other way round each second time."""
    listed = list(items)
    return listed if number % 2 == 0 else listed[::-1]


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(json.loads(sys.argv[2]))
    else:
        mode = {"drive": drive, "count": count, "operators": operators, "sustain": sustain}
        given_plan = json.loads(Path(sys.argv[2]).read_text(encoding="utf-8"))
        mode[sys.argv[1]](given_plan, Path(sys.argv[3]))

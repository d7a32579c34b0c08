"""Wall time and memory of four fp32 conversions, verified: edgese against timmx, side by side.

Usage: python tests/bench/conversion_time.py [--rounds 5] [--models NAME ...]

edgese converts to all four targets in one command; timmx does the same four one after the other,
with its own verification. Both start from a weights file, and nothing is cached between rounds. The
two are interleaved, in turn first, so that a noisy machine disturbs both alike. timmx lives in a
virtual environment of its own (its pins differ), which the first run makes.
"""

import argparse
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

PEER = ("torch==2.13.0", "torchvision==0.28.0", "timmx[onnx,coreml,litert]==0.10.1")
PEER_LATE = ("executorch==1.4.1",)
# PyPI's torchvision does not register its operators with the CPU build of torch.
PEER_SITE = """
import importlib.abc, sys
class Stub(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "torchvision":
            sys.meta_path.remove(self)
            import torch
            global library
            library = torch.library.Library("torchvision", "DEF")
            for operator in ("nms", "qnms", "roi_align"):
                library.define(operator + "(Tensor dets) -> Tensor")
sys.meta_path.insert(0, Stub())
"""
PEER_NAMES = {"efficientnet_lite0": "tf_efficientnet_lite0", "efficientnet_b0": "efficientnet_b0"}
PEER_EXPORTS = {
    "litert": ("model.tflite", "--nhwc-input"),
    "executorch": ("model.pte", "--delegate", "xnnpack"),
    "onnx": ("model.onnx",),
    "coreml": ("model.mlpackage", "--compute-precision", "float32"),
}
SAMPLE_EVERY_S = 0.1
PAGE_MB = os.sysconf("SC_PAGE_SIZE") / 2**20


def main() -> None:
    """Runs the benchmark and prints its figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--models", nargs="+", default=list(PEER_NAMES), choices=PEER_NAMES)
    parser.add_argument("--peer", type=Path, default=Path.home() / ".cache/edgese-bench/timmx")
    parser.add_argument("--json", type=Path, help="also write every sample here")
    options = parser.parse_args()
    peer = peer_python(options.peer)
    print(f"{platform.platform()}, {os.cpu_count()} CPUs, Python {platform.python_version()}")
    print("edgese", metadata.version("edgese"), "with torch", metadata.version("torch"))
    print("peer  ", peer_versions(peer))
    samples = {}
    for model in options.models:
        samples[model] = measure(model, peer, options.rounds)
        report(model, samples[model])
    if options.json:
        options.json.write_text(json.dumps(samples, indent=2))


def measure(model: str, peer: Path, rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Seconds and peak MiB of each round of both tools."""
    times: dict[str, list[tuple[float, float]]] = {"edgese": [], "timmx": []}
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / f"{model}.safetensors"
        save_weights(model, weights)
        for number in range(rounds):
            work = {
                "edgese": ours(model, weights, Path(folder) / f"ours{number}"),
                "timmx": theirs(PEER_NAMES[model], peer, Path(folder) / f"theirs{number}"),
            }
            for tool in ("edgese", "timmx") if number % 2 == 0 else ("timmx", "edgese"):
                times[tool].append(timed(work[tool], Path(folder) / f"{tool}{number}.log"))
    return times


def ours(model: str, weights: Path, out: Path) -> list[list[str]]:
    """One command for the four targets."""
    command = [sys.executable, "-m", "edgese", "convert", model, "--weights", str(weights)]
    return [[*command, "--target", "all", "--recipe", "fp32", "--no-cache", "--out", str(out)]]


def theirs(model: str, peer: Path, out: Path) -> list[list[str]]:
    """Four commands, one after the other."""
    out.mkdir()
    timmx = [str(peer), "-m", "timmx", "export"]
    return (
        [
            [*timmx, target, model, "--output", str(out / file), "--verify", *options]
            for target, (file, *options) in PEER_EXPORTS.items()
            if target
            != "coreml"  # its verification needs a Mac; without it, it still loads the file
        ]
        + [
            [
                *timmx,
                "coreml",
                model,
                "--output",
                str(out / "model.mlpackage"),
                *PEER_EXPORTS["coreml"][1:],
            ]
        ]
    )


def timed(commands: list[list[str]], log: Path) -> tuple[float, float]:
    """Seconds that the commands take in a row, and the peak memory of any of them, in MiB."""
    started = time.perf_counter()
    peak = 0.0
    for command in commands:
        with log.open("ab") as output:
            process = subprocess.Popen(command, stdout=output, stderr=output)
            while process.poll() is None:
                peak = max(peak, sum(resident_mb(process.pid)))
                time.sleep(SAMPLE_EVERY_S)
        if process.returncode != 0:
            sys.exit(f"{' '.join(command)} failed:\n{log.read_text()[-3000:]}")
    return time.perf_counter() - started, peak


def resident_mb(root: int) -> Iterator[float]:
    """Resident memory of a process and all that it started; shared pages count each time."""
    children: dict[int, list[int]] = {}
    pages: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
        except (OSError, IndexError):
            continue  # it has ended
        children.setdefault(int(fields[1]), []).append(int(entry.name))
        pages[int(entry.name)] = int(fields[21])
    waiting = [root]
    while waiting:
        pid = waiting.pop()
        waiting += children.get(pid, [])
        yield pages.get(pid, 0) * PAGE_MB


def report(model: str, times: dict[str, list[tuple[float, float]]]) -> None:
    """Medians, and the ratio of medians with a bootstrap interval over rounds."""
    print(f"\n{model}")
    for tool, rows in times.items():
        seconds = sorted(row[0] for row in rows)
        peak = max(row[1] for row in rows)
        print(
            f"  {tool:7} median {statistics.median(seconds):6.1f} s"
            f"  ({seconds[0]:.1f} to {seconds[-1]:.1f}, {len(seconds)} rounds), max {peak:,.0f} MiB"
        )
    pairs = [(a[0], b[0]) for a, b in zip(times["edgese"], times["timmx"], strict=True)]
    draw = random.Random(0)
    ratios = sorted(ratio(draw.choices(pairs, k=len(pairs))) for _ in range(2000))
    print(
        f"  edgese / timmx: {ratio(pairs):.2f}"
        f"  (95 % interval {ratios[50]:.2f} to {ratios[1949]:.2f})"
    )


def ratio(pairs: list[tuple[float, float]]) -> float:
    """Median of ours over median of theirs."""
    ours_s, theirs_s = zip(*pairs, strict=True)
    return statistics.median(ours_s) / statistics.median(theirs_s)


def save_weights(model: str, path: Path) -> None:
    """Plausible random weights in a file: what is in them does not change the time."""
    script = (
        "import sys; from pathlib import Path; from edgese.models.registry import find_model;"
        "from edgese.models.weights import load_network, resolve_weights, save_weights;"
        "spec = find_model(sys.argv[1]);"
        "save_weights(load_network(spec, resolve_weights(spec, 'none'))[0], Path(sys.argv[2]))"
    )
    subprocess.run([sys.executable, "-c", script, model, str(path)], check=True)


def peer_python(folder: Path) -> Path:
    """The peer's interpreter; its environment is made where it is not there yet."""
    python = folder / "bin/python"
    if not python.exists():
        print(f"making {folder} ...", flush=True)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        for packages in (PEER, PEER_LATE):
            subprocess.run([str(python), "-m", "pip", "install", "--quiet", *packages], check=True)
        site = next(folder.glob("lib/python*/site-packages"))
        (site / "sitecustomize.py").write_text(PEER_SITE)
    return python


def peer_versions(python: Path) -> str:
    """What the peer's environment holds."""
    names = ("timmx", "timm", "torch", "litert-torch", "executorch", "coremltools", "onnx")
    script = (
        f"from importlib.metadata import version as v; print(*[n + ' ' + v(n) for n in {names}])"
    )
    outcome = subprocess.run([python, "-c", script], capture_output=True, text=True, check=True)
    return outcome.stdout.strip()


if __name__ == "__main__":
    main()

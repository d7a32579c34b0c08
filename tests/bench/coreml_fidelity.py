"""How far saved Core ML packages are from PyTorch, and W8A8 ones from the quantized simulation.

Usage: python tests/bench/coreml_fidelity.py [--models NAME ...]
           [--data LABELS.csv --trained NAME WEIGHTS ...]

The packages are executed by edgese's evaluator, with values rounded to fp16 as the files have them.
Random weights are compared on the parity pictures: the largest difference of a logit, its spread,
and on how many the first class is the same. Trained ones are calibrated on the split "calibration"
and judged on "test": the first class of fp16 beside PyTorch's, and of W8A8 beside the simulation of
what the package must compute (pairs only where Core ML fuses them, numbers as halves, fp64; see
`edgese.targets.coreml.simulation`) and the exact integers of the whole program. The package is
executed twice: in fp64, where any difference is the file's, and with values rounded to fp16.
"""

import argparse
import json
import os
import platform
import tempfile
import time
from importlib import metadata
from pathlib import Path

import numpy as np

from edgese import convert, evaluate, quantize
from edgese.data.pictures import read_picture
from edgese.data.preprocessing import preprocess
from edgese.machine import cores
from edgese.program.forms import folded_weights
from edgese.program.integers import integer_outputs
from edgese.program.storage import read_program
from edgese.program.stored import find_stored
from edgese.store import read_manifest
from edgese.targets.batches import dealt
from edgese.targets.coreml import loading as mlloading
from edgese.targets.coreml import package as mlpackage
from edgese.targets.coreml import pairs as mlpairs
from edgese.targets.coreml import simulation as mlsimulation
from edgese.targets.coreml.mil.steps import Arithmetic

MODELS = (
    "efficientnet_lite0",
    "efficientnet_b0",
    "efficientnet_v2_b0",
    "efficientnet_v2_s",
    "se_resnet18",
    "se_resnet50",
    "se_resnext50_32x4d",
)
VERSIONS = ("torch", "coremltools")
GROUP = 32


def main() -> None:
    """Runs the benchmark and prints its figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="*", default=MODELS, help="with random weights")
    parser.add_argument("--data", type=Path, help="CSV with the splits calibration and test")
    parser.add_argument(
        "--trained", nargs=2, action="append", default=[], metavar=("NAME", "WEIGHTS")
    )
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args()
    print(f"{platform.platform()}, {os.cpu_count()} CPUs, Python {platform.python_version()}")
    print(", ".join(f"{name} {metadata.version(name)}" for name in VERSIONS), flush=True)
    figures = []
    for model in options.models:
        with tempfile.TemporaryDirectory() as folder:
            figures += compared(model, Path(folder))
    for model, weights in options.trained:
        with tempfile.TemporaryDirectory() as folder:
            figures += judged(model, weights, options.data, Path(folder))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2))


def compared(model: str, folder: Path) -> list[dict[str, object]]:
    """Parity of a network with random weights, fp16 and W8A8."""
    figures = []
    # What an error costs means nothing for random weights, so ranges are those of the values.
    for recipe, data in (("fp16", None), ("int8-minmax", "embedded")):
        (row,) = convert(model, "coreml", weights="none", recipe=recipe, data=data, out=folder)
        if row.error or row.parity is None:
            print(f"{model:20} {recipe:11} FAILED: {row.error}", flush=True)
            continue
        found = row.parity
        steps = "" if found.within_step is None else f", within a step {found.within_step:.2%}"
        if found.deviation is not None:
            steps += f"; in fp64 beside its program {found.deviation:.2g}"
        print(
            f"{model:20} {recipe:11} largest difference {found.max_abs_diff:.2g}, SQNR "
            f"{found.sqnr_db:.1f} dB, same class {found.top1_agreement:.1%} of {found.pictures}"
            f"{steps}",
            flush=True,
        )
        figures.append({"model": model, "recipe": recipe, **found.to_dict()})
    return figures


def judged(model: str, weights: str, data: Path, folder: Path) -> list[dict[str, object]]:
    """Agreement of a trained network's packages on photographs."""
    floats: dict[str, np.ndarray] = {}
    reference = evaluate(model, data, weights=weights, split="test", logits=floats)
    print(f"\n{model}: fp32 in PyTorch {reference.top1.share:.2%} of {reference.pictures}")
    halves, _ = scored(model, weights, "fp16", data, folder)
    tell("fp16 beside PyTorch", halves, floats)
    made = quantize(model, data, weights=weights, split="calibration", out=folder)
    codes, package = scored(made.program, None, None, data, folder)
    integers, simulation, exact = simulated(made.program, package, data, sorted(floats))
    figures = [
        tell("W8A8 in fp64 beside the simulation", exact, simulation),
        tell("W8A8 in fp16 beside the simulation", codes, simulation),
        tell("W8A8 in fp16 beside the exact integers", codes, integers),
        tell("the simulation beside the exact integers", simulation, integers),
        tell("W8A8 in fp16 beside PyTorch's fp32", codes, floats),
    ]
    return [{"model": model, **figure} for figure in figures]


def scored(
    subject: str, weights: str | None, recipe: str | None, data: Path, folder: Path
) -> tuple[dict[str, np.ndarray], Path]:
    """A package's logits by file, and the package."""
    (row,) = convert(subject, "coreml", weights=weights, recipe=recipe, out=folder)
    if row.error:
        raise SystemExit(f"{subject}: {row.error}")
    logits: dict[str, np.ndarray] = {}
    start = time.perf_counter()
    found = evaluate(row.artifact, data, split="test", logits=logits)
    seconds = time.perf_counter() - start
    print(
        f"  {row.recipe}: {found.top1.share:.2%} of {found.pictures} photographs in "
        f"{seconds:.0f} s; parity: largest difference {row.parity.max_abs_diff:.2g}, "
        f"SQNR {row.parity.sqnr_db:.1f} dB",
        flush=True,
    )
    return logits, Path(row.artifact)


def tell(
    what: str, found: dict[str, np.ndarray], wanted: dict[str, np.ndarray]
) -> dict[str, object]:
    """On how many pictures the first class is the same, and on how many any number is another."""
    same = sum(int(found[file].argmax() == wanted[file].argmax()) for file in wanted)
    most = max(float(np.abs(found[file] - wanted[file]).max()) for file in wanted)
    others = sum(int(np.any(found[file] != wanted[file])) for file in wanted)
    print(
        f"  {what}: same class {same} of {len(wanted)} ({same / len(wanted):.2%}), "
        f"largest difference {most:.2g}, any number another on {others}",
        flush=True,
    )
    return {
        "what": what,
        "same": same,
        "of": len(wanted),
        "max_abs_diff": most,
        "pictures_with_other_numbers": others,
    }


def simulated(
    program: str, package: Path, data: Path, files: list[str]
) -> tuple[dict[str, np.ndarray], ...]:
    """Logits by file: the program's exact integers, the simulation, and the package in fp64."""
    stored = find_stored(program)
    assert stored is not None
    exported = read_program(stored.path)
    packaged = mlpairs.fusable(folded_weights(exported))
    wanted = stored.manifest.model.preprocessing
    file = mlloading.evaluated(
        package,
        mlpackage.read(package),
        read_manifest(package).interface,
        threads=cores(),
        arithmetic=Arithmetic.DOUBLES,
    )
    simulation = dealt(lambda rows: mlsimulation.simulated(packaged, rows), cores())
    found: tuple[dict[str, np.ndarray], ...] = ({}, {}, {})
    for start in range(0, len(files), GROUP):
        part = files[start : start + GROUP]
        pictures = np.stack([preprocess(read_picture(data.parent / name), wanted) for name in part])
        whole = integer_outputs(exported, pictures, stored.manifest.batch)
        for rows, logits in zip(found, (whole, simulation(pictures), file(pictures)), strict=True):
            rows.update(zip(part, logits, strict=True))
    return found


if __name__ == "__main__":
    main()

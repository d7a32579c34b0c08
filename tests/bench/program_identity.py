"""How far one int8 program differs between kernels of different instruction sets, on one machine.

Usage: python tests/bench/program_identity.py --data LABELS.csv [--model NAME WEIGHTS]
           [--resolution N] [--images N]

Quantizes the network once for each setting, in a process of its own: with all instructions, twice,
and with torch or oneDNN held back. For each: the hash of the integers, the fidelity on the
calibration images, and which numbers differ from those of the first.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

SETTINGS = {
    "all instructions": {},
    "the same again": {},
    "oneDNN without VNNI": {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE"},
    "torch with AVX2": {"ATEN_CPU_CAPABILITY": "avx2"},
    "torch and oneDNN with AVX2": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"},
}


def main() -> None:
    """Runs the benchmark and prints its figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True)
    parser.add_argument("--model", nargs=2, default=["efficientnet_lite0", "imagenet"])
    parser.add_argument("--resolution", type=int, default=224)
    parser.add_argument("--images", type=int, default=187)
    parser.add_argument("--to", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.to:
        write(options)
        return
    with tempfile.TemporaryDirectory() as folder:
        first = None
        for index, (name, variables) in enumerate(SETTINGS.items()):
            place = Path(folder, f"{index}.npz")
            command = [sys.executable, *sys.argv, "--to", str(place)]
            subprocess.run(command, env={**os.environ, **variables}, check=True)
            with np.load(place) as content:
                found = dict(content)
            print(f"{name}: {found.pop('told')}")
            first = first or found
            show(first, found)


def write(options: argparse.Namespace) -> None:
    """Quantizes, and writes each kind of number, of all tensors one after the other."""
    import msgspec

    from edgese import catalog, quantize
    from edgese.program.forms import held_tensors, pair_grid
    from edgese.program.nodes import Constants
    from edgese.quantization.integer import load_program

    recipe = catalog.recipe("int8")
    how = msgspec.structs.replace(recipe.quantization, pictures=options.images)
    model, weights = options.model
    with tempfile.TemporaryDirectory() as folder:
        made = quantize(
            model,
            options.data,
            weights=weights,
            split="calibration",
            recipe=msgspec.structs.replace(recipe, quantization=how),
            resolution=options.resolution,
            out=folder,
        )
        program = load_program(Path(made.program))
    constants = Constants(held_tensors(program))
    kinds: dict[str, list[np.ndarray]] = {}
    for node in program.graph.nodes:
        if (grid := pair_grid(node)) is not None:
            kinds.setdefault("scales", []).append(np.array([grid.scale]))
            kinds.setdefault("zero points", []).append(np.array([grid.zero_point]))
        elif "quantize_per_channel" in str(node.target) and "dequantize" not in str(node.target):
            kinds.setdefault("weights", []).append(constants[node].numpy().ravel())
            kinds.setdefault("weights' scales", []).append(constants[node.args[1]].numpy())
    fidelity = made.fidelity
    told = f"{made.integers[:12]}, KL {fidelity.kl:.4f}, SQNR {fidelity.sqnr_db:.2f} dB"
    numbers = {kind: np.concatenate(parts) for kind, parts in kinds.items()}
    np.savez(options.to, told=np.array(told), **numbers)


def show(first: dict[str, np.ndarray], found: dict[str, np.ndarray]) -> None:
    """Prints how many numbers of each kind differ, and by how much at most."""
    for kind, values in found.items():
        before = first[kind].astype(np.float64)
        apart = np.abs(values - before)
        if "scales" in kind:
            apart = apart / before
        count = int((apart > 0).sum())
        unit = "of itself" if "scales" in kind else "steps"
        print(f"  {kind}: {count} of {apart.size} differ, by {apart.max():.3g} {unit} at most")


if __name__ == "__main__":
    main()

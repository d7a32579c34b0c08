"""Accuracy and parity of int8 artifacts on real photographs, in every runtime.

Usage: python tests/bench/integer_accuracy.py --data LABELS.csv [--recipes int8 int8-qat]
           [--model NAME WEIGHTS ...] [--train PICTURES] [--epochs N]

Calibrated (and, without --train, trained) on the split "calibration", judged on "test". For each
artifact: top-1 and McNemar's exact p against the float network, the mean KL divergence from it, the
share of outputs within one step of the quantized program computed in exact integers, on how many
pictures the runtimes differ in any number, and on how many they, and the program, differ in the
first class.
"""

import argparse
import json
import os
import platform
import tempfile
from pathlib import Path

import numpy as np

from edgese import agreement, catalog, convert, evaluate, quantize
from edgese.program.integers import integer_outputs
from edgese.program.storage import read_program

TARGETS = ("tflite", "executorch", "onnxruntime")


def main() -> None:
    """Runs the benchmark and prints its figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--recipes", nargs="+", default=["int8"])
    parser.add_argument(
        "--model",
        nargs=2,
        action="append",
        metavar=("NAME", "WEIGHTS"),
        help="may be given several times  [default: efficientnet_lite0 imagenet]",
    )
    parser.add_argument("--train", help="what recipes that train learn from")
    parser.add_argument("--epochs", type=float, help="of recipes that train")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args()
    print(f"{platform.platform()}, {os.cpu_count()} CPUs, Python {platform.python_version()}")
    figures = []
    for model, weights in options.model or [("efficientnet_lite0", "imagenet")]:
        with tempfile.TemporaryDirectory() as folder:
            figures += judged(model, weights, options, Path(folder))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2))


def judged(
    model: str, weights: str, options: argparse.Namespace, folder: Path
) -> list[dict[str, object]]:
    """The figures of one network."""
    data = options.data
    floats: dict[str, np.ndarray] = {}
    reference = evaluate(model, data, weights=weights, split="test", logits=floats)
    print(f"\n{model}: fp32 {reference.top1.share:.2%} of {reference.pictures} pictures")
    figures = []
    for recipe in options.recipes:
        learns = catalog.recipe(recipe).quantization.training
        made = quantize(
            model,
            data,
            weights=weights,
            split="calibration",
            recipe=recipe,
            train=options.train if learns else None,
            epochs=options.epochs if learns else None,
            out=folder,
        )
        print(f"  {recipe}: KL to float on the calibration pictures {made.fidelity.kl:.4f}")
        rows = convert(made.program, TARGETS, out=folder, pictures=None)
        firsts: dict[str, dict[str, int]] = {}
        numbers: dict[str, dict[str, np.ndarray]] = {}
        for row in rows:
            logits = numbers[row.target] = {}
            found = evaluate(row.artifact, data, split="test", logits=logits)
            pair = agreement(reference, found, (floats, logits))
            firsts[row.target] = {p.file: p.classes[0] for p in found.predictions}
            print(
                f"    {row.target:12} top-1 {found.top1.share:.2%} "
                f"({100 * pair.top1_difference:+.2f} points, McNemar p {pair.p_value:.3f}), "
                f"same class {pair.same_top1} of {pair.pictures}, KL {pair.kl:.4f}; "
                f"within a step {row.parity.within_step:.2%}, "
                f"largest difference {row.parity.max_abs_diff:g}"
            )
            figures.append(
                {
                    "model": model,
                    "recipe": recipe,
                    "target": row.target,
                    "top1": found.top1.share,
                    "difference": pair.top1_difference,
                    "p": pair.p_value,
                    "kl": pair.kl,
                }
            )
        differing = {file for file in floats if len({of[file] for of in firsts.values()}) > 1}
        unlike = {file for file in floats if numbers_differ([of[file] for of in numbers.values()])}
        print(
            f"    the runtimes differ from each other in the first class of {len(differing)} "
            f"pictures, and in any number of {len(unlike)}"
        )
        same = same_as_simulation(made.program, data, firsts["tflite"])
        print(f"    tflite and the simulation differ on {same} pictures")
    return figures


def numbers_differ(outputs: list[np.ndarray]) -> bool:
    """Whether codes differ; a float behind a code may be an ulp off."""
    step = np.ptp(outputs[0]) / 255
    return any(np.abs(other - outputs[0]).max() > step / 100 for other in outputs[1:])


def same_as_simulation(program: str, data: Path, firsts: dict[str, int]) -> int:
    """On how many pictures an artifact's first class is not that of the exact integers."""
    from edgese.data.pictures import read_picture
    from edgese.data.preprocessing import preprocess
    from edgese.program.stored import find_stored

    stored = find_stored(program)
    assert stored is not None
    exported = read_program(stored.path)
    wanted = stored.manifest.model.preprocessing
    differing = 0
    files = sorted(firsts)
    for start in range(0, len(files), 32):
        part = files[start : start + 32]
        pictures = np.stack([preprocess(read_picture(data.parent / file), wanted) for file in part])
        found = integer_outputs(exported, pictures, stored.manifest.batch).argmax(1)
        differing += sum(
            int(index) != firsts[file] for index, file in zip(found, part, strict=True)
        )
    return differing


if __name__ == "__main__":
    main()

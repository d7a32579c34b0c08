"""What a gate gains: small SE-ResNets and their plain twins on CIFAR-10, same recipe, same seeds.

    EDGESE_DATA=... python tests/bench/train_cifar.py --estimate
    EDGESE_DATA=... python tests/bench/train_cifar.py --epochs 30 --seeds 0 1

The pictures are $EDGESE_DATA/cifar10-jpeg/cifar10_jpeg.npz: CIFAR-10 re-encoded as JPEG, so the
accuracies are below the published ones. They are packed into tar shards first; pictures/labels.csv
has the test pictures, and 512 of those trained on as the split "calibration", for
integer_accuracy.py. Every training goes
into its own folder and is resumed where the script is started again. The test pictures are looked
at once, in the end. Not part of the test suite: it takes hours on a CPU.
"""

import argparse
import os
import statistics
import time
from collections.abc import Iterator, Sequence
from itertools import pairwise
from math import sqrt
from pathlib import Path
from statistics import NormalDist
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

import edgese
from edgese import catalog
from edgese.data.classes import ClassNames
from edgese.data.shards import ShardPictures, shard_pictures
from edgese.machine import cores
from edgese.measure.statistics import student_quantile
from edgese.models.builder import build
from edgese.models.registry import find_model
from edgese.models.weights import load_network, resolve_weights
from edgese.records.training import Advance
from edgese.statistics import mcnemar
from edgese.training.api import RESULT
from edgese.training.batches import validation_batches
from edgese.training.checkpoint import CHECKPOINT
from edgese.training.loop import TrainingData, fit
from edgese.training.plan import adapted
from edgese.training.processes import alone

TRAIN_SHARDS, TEST_SHARDS = 10, 2
CALIBRATION = 512
# A picture has 3 KB; this many fill a batch without filling the memory.
JUDGED_AT_ONCE = 500
Rights = np.ndarray[Any, np.dtype[np.bool_]]


def main() -> None:
    """Packs, trains what is not yet trained, and compares."""
    arguments = parsed()
    shards = packed(arguments.out / "shards")
    unpacked(arguments.out / "pictures")
    if arguments.estimate:
        estimate(arguments, shards)
        return
    rights: dict[str, list[Rights]] = {name: [] for name in arguments.models}
    for seed in arguments.seeds:
        for name in arguments.models:
            weights = trained(arguments, shards, name, seed)
            rights[name].append(judged(name, weights, shards, arguments.device))
    report(arguments, rights)


def parsed() -> argparse.Namespace:
    """The command line; the first model is compared with the second."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("edgese-out/cifar"))
    parser.add_argument("--models", nargs=2, default=["se_resnet20_small", "resnet20_small"])
    parser.add_argument("--recipe", default="cifar")
    parser.add_argument("--epochs", type=float)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--precision", help="bf16 is faster on CPUs with AVX-512 BF16 or AMX")
    parser.add_argument("--device", default="")
    parser.add_argument("--threads", type=int, default=cores())
    parser.add_argument("--workers", type=int)
    parser.add_argument("--estimate", action="store_true", help="tell how long it would take")
    return parser.parse_args()


def archive() -> Path:
    """Where the pictures come from."""
    return Path(os.environ["EDGESE_DATA"], "cifar10-jpeg", "cifar10_jpeg.npz")


def unpacked(folder: Path) -> None:
    """Files of the pictures that artifacts are calibrated and judged on."""
    if folder.is_dir():
        return
    partial = folder.with_name(f"{folder.name}.part")
    partial.mkdir(parents=True, exist_ok=True)
    rows = ["file,label,split"]
    with np.load(archive()) as content:
        for part, split, count in (("train", "calibration", CALIBRATION), ("test", "test", None)):
            labels = content[f"{part}_labels"].tolist()[:count]
            data, offsets = content[f"{part}_bytes"].tobytes(), content[f"{part}_offsets"]
            for number, label in enumerate(labels):
                name = f"{part}-{number:05d}.jpg"
                (partial / name).write_bytes(data[offsets[number] : offsets[number + 1]])
                rows.append(f"{name},{label},{split}")
    (partial / "labels.csv").write_text("\n".join(rows) + "\n")
    partial.rename(folder)


def packed(folder: Path) -> Path:
    """The archive as tar shards, made where they are not there yet."""
    if folder.is_dir():
        return folder
    partial = folder.with_name(f"{folder.name}.part")
    with np.load(archive()) as content:
        for part, shards in (("train", TRAIN_SHARDS), ("test", TEST_SHARDS)):
            (partial / part).mkdir(parents=True, exist_ok=True)
            write_shards(partial / part, part, content, shards)
    partial.rename(folder)
    return folder


def write_shards(folder: Path, part: str, content: Any, shards: int) -> None:
    """Writes one part of the archive, in its own order."""
    from webdataset import ShardWriter

    labels = content[f"{part}_labels"]
    data, offsets = content[f"{part}_bytes"].tobytes(), content[f"{part}_offsets"]
    pattern = str(folder / f"{part}-%03d.tar")
    with ShardWriter(pattern, maxcount=len(labels) // shards, verbose=0) as writer:
        for number, label in enumerate(labels.tolist()):
            picture = data[offsets[number] : offsets[number + 1]]
            writer.write({"__key__": f"{number:05d}", "jpg": picture, "cls": label})


def trained(arguments: argparse.Namespace, shards: Path, name: str, seed: int) -> Path:
    """The weights of one training, which is begun, resumed, or already there."""
    recipe = adapted(
        catalog.training_recipe(arguments.recipe),
        epochs=arguments.epochs,
        precision=arguments.precision,
    )
    folder = arguments.out / f"{name}-{recipe.name}-{recipe.epochs:g}-{recipe.precision}-seed{seed}"
    weights = folder / "weights.safetensors"
    if (folder / RESULT).is_file():
        return weights
    print(f"{folder.name} ...", flush=True)
    edgese.train(
        name,
        str(shards / "train"),
        recipe=recipe,
        weights="none",
        out=folder,
        holdout=0.0,
        seed=seed,
        device=arguments.device,
        threads=arguments.threads,
        workers=arguments.workers,
        resume=(folder / CHECKPOINT).is_file(),
        progress=every_minute(),
    )
    return weights


def every_minute() -> Any:
    """Prints how far a training is, now and then."""
    before = -60.0

    def tell(advance: Advance) -> None:
        nonlocal before
        now = time.monotonic()
        if now - before >= 60:
            before = now
            print(
                f"  epoch {advance.epoch} of {advance.epochs}, loss {advance.loss:.3f}, "
                f"{advance.images_per_s:.0f} img/s, {advance.seconds_left / 60:.0f} min left",
                flush=True,
            )

    return tell


def pictures(shards: Path, part: str, name: str) -> ShardPictures:
    """One part of the pictures, with the classes of a model."""
    spec = find_model(name)
    return shard_pictures(str(shards / part), ClassNames(classes=spec.classes, labels=spec.labels))


def judged(name: str, weights: Path, shards: Path, device: str) -> Rights:
    """Which of the test pictures a trained network classifies rightly."""
    spec = find_model(name)
    resolved = resolve_weights(spec, str(weights))
    network, _ = load_network(resolved.spec, resolved)
    place = alone(device).device
    network.to(place)
    right = []
    drawn = validation_batches(
        pictures(shards, "test", name), resolved.spec.preprocessing, batch=JUDGED_AT_ONCE
    )
    with torch.inference_mode():
        for batch, labels in drawn:
            right.append((network(batch.to(place)).argmax(1).cpu() == labels).numpy())
    return np.concatenate(right)


def report(arguments: argparse.Namespace, rights: dict[str, list[Rights]]) -> None:
    """Accuracies, and the difference picture by picture, with its interval."""
    first, second = arguments.models
    print(f"\ntop-1 on the 10,000 test pictures, recipe {arguments.recipe}")
    differences = []
    for seed, a, b in zip(arguments.seeds, rights[first], rights[second], strict=True):
        low, high = paired_interval(a, b)
        only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
        differences.append(100 * float(a.mean() - b.mean()))
        print(
            f"  seed {seed}: {first} {100 * a.mean():.2f} %, {second} {100 * b.mean():.2f} %, "
            f"difference {differences[-1]:+.2f} (95 % {low:+.2f} to {high:+.2f}) points, "
            f"McNemar p {mcnemar(only_a, only_b):.4f}"
        )
    if len(differences) > 1:
        count = len(differences)
        reach = student_quantile(0.975, count - 1) * statistics.stdev(differences) / sqrt(count)
        mean = statistics.mean(differences)
        print(
            f"  over {count} seeds: difference {mean:+.2f} "
            f"(95 % {mean - reach:+.2f} to {mean + reach:+.2f}, Student's) points"
        )


def paired_interval(a: Rights, b: Rights) -> tuple[float, float]:
    """The 95 % interval of a difference of two accuracies on the same pictures, in points."""
    each = a.astype(float) - b.astype(float)
    reach = NormalDist().inv_cdf(0.975) * each.std(ddof=1) / sqrt(len(each))
    return 100 * (each.mean() - reach), 100 * (each.mean() + reach)


def estimate(arguments: argparse.Namespace, shards: Path) -> None:
    """Prints how fast each network trains, on one thread and on all, taking turns."""
    epochs = arguments.epochs or catalog.training_recipe(arguments.recipe).epochs or 1
    threads = sorted({1, cores()})
    speeds: dict[tuple[str, int, str], list[float]] = {}
    for _ in range(3):
        for name in arguments.models:
            for precision in ("fp32", "bf16"):
                for count in threads:
                    paces = speeds.setdefault((name, count, precision), [])
                    paces += step_seconds(arguments, shards, name, count, precision)
    batch = catalog.training_recipe(arguments.recipe).batch
    for (name, count, precision), seconds in speeds.items():
        # Other work on the machine only ever makes a step longer.
        quick, middle = (batch / value for value in (min(seconds), statistics.median(seconds)))
        print(
            f"{name}, {precision}, {count} threads: median {middle:.0f} img/s, best {quick:.0f}; "
            f"{epochs:g} epochs take {epochs * 50_000 / middle / 3600:.1f} h "
            f"({epochs * 50_000 / quick / 3600:.1f} h at the best)"
        )


def step_seconds(
    arguments: argparse.Namespace, shards: Path, name: str, threads: int, precision: str
) -> Sequence[float]:
    """Seconds of single steps, the first ones left out."""
    recipe = adapted(catalog.training_recipe(arguments.recipe), epochs=0.02, precision=precision)
    spec = find_model(name)
    times: list[float] = []
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with TemporaryDirectory() as folder:
            fit(
                build(spec),
                TrainingData(
                    train=pictures(shards, "train", name),
                    val=None,
                    preprocessing=spec.preprocessing,
                ),
                recipe,
                folder=Path(folder),
                processes=alone(arguments.device),
                workers=arguments.workers,
                progress=lambda _: times.append(time.perf_counter()),
            )
    finally:
        torch.set_num_threads(before)
    return list(differences(times))[3:]


def differences(times: Sequence[float]) -> Iterator[float]:
    """From each moment to the next."""
    yield from (b - a for a, b in pairwise(times))


if __name__ == "__main__":
    main()

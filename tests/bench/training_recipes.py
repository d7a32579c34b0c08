"""Every shipped training recipe on a stand-in for what it is for, on images of coloured shapes.

    python tests/bench/training_recipes.py                  # all, in about 15 minutes on two cores
    python tests/bench/training_recipes.py --only finetune qat

Each recipe has a base (few classes, many images, one thread) and the same with one thing changed:
many classes, few images, two threads, the other start (weights where the base is from scratch).
What is scaled down, and why it is still the recipe:

- `finetune` is itself: EfficientNet-Lite0 with its ImageNet weights, epochs and batch as shipped.
- `digits`, `digits-efficientnet`: as shipped, on the embedded digits too.
- `cifar`, `senet`, `efficientnet`, `efficientnetv2`: images of 32 px, networks of the same blocks
  with three stages, and a batch of 32 with the learning rate in proportion (arXiv:1706.02677,
  section 2.1). Everything else in a recipe is a share of the run, so its shape stays. The run has
  `STEPS` steps; ImageNet's have 110,000 to 125,000, CIFAR-10's 64,000.
- `qat`: int8-qat of the network that `digits` made, over `QAT_EPOCHS`; its 200 steps at 64 images
  are for ImageNet's networks. "top-1" is of the float network, "as teacher" of the program.

Held-out images are others than those that are learnt from, 200 of them. The table has what the
training itself reports, its verdict among it, and the script ends with 1 where one is not as
expected.
"""

import argparse
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import msgspec
from shapes import write_shapes

from edgese import catalog, quantize, train
from edgese.machine import cores
from edgese.models.registry import find_model
from edgese.records.model import (
    Head,
    ModelSpec,
    Preprocessing,
    SqueezeExcite,
    Stage,
    Stem,
)
from edgese.records.training import TrainingRecipe, TrainingResult

HELD_OUT: Final = 200
BATCH: Final = 32
STEPS: Final = 320
QAT_EPOCHS: Final = 2
IMAGENET: Final = "imagenet"
SCRATCH: Final = "none"
LITE: Final = "efficientnet_lite0"


@dataclass(frozen=True, kw_only=True)
class Case:
    """One training.

    Attributes:
        start: "none", "imagenet", or "own": the same network trained on other classes before.
        scaled: whether batch and length are those of this script.
        data: "shapes" or "digits".
    """

    recipe: str
    model: str
    start: str = SCRATCH
    classes: int = 5
    images: int = 1000
    threads: int = 1
    side: int = 32
    scaled: bool = True
    data: str = "shapes"


@dataclass(frozen=True)
class Row:
    """What came of a case."""

    case: Case
    epochs: float
    batch: int
    lr: float
    top1: float | None
    interval: tuple[float, float] | None
    same: float | None
    loss: float
    collapse: str
    seconds: float


def small(name: str, block: str, *, activation: str, gates: bool) -> ModelSpec:
    """A network of three stages for images of 32 px, made of a family's own blocks."""
    se = SqueezeExcite(reduction=4) if gates else None
    expansion = 4 if "conv" in block else 1
    return ModelSpec(
        name=name,
        family="bench",
        activation=activation,
        stem=Stem(channels=(16,), stride=1 if block == "basic" else 2),
        stages=tuple(
            Stage(block=block, channels=width, depth=1, stride=stride, expansion=expansion, se=se)
            for width, stride in ((16, 1), (24, 2), (40, 2))
        ),
        head=Head(channels=128, dropout=0.1) if "conv" in block else Head(),
        classes=5,
        preprocessing=Preprocessing(height=32, width=32, crop=1.0),
    )


NETWORKS: Final = {
    "small_mbconv": small("small_mbconv", "mbconv", activation="silu", gates=True),
    "small_fused": small("small_fused", "fused_mbconv", activation="silu", gates=False),
    "small_se_resnet": small("small_se_resnet", "basic", activation="relu", gates=True),
}
BASES: Final = (
    Case(recipe="digits", model="small_se_resnet", scaled=False),
    Case(recipe="digits-efficientnet", model="small_mbconv", scaled=False),
    Case(recipe="cifar", model="small_se_resnet"),
    Case(recipe="senet", model="small_se_resnet"),
    Case(recipe="efficientnet", model="small_mbconv"),
    Case(recipe="efficientnetv2", model="small_fused"),
)
FINETUNE: Final = Case(
    recipe="finetune", model=LITE, start=IMAGENET, images=300, side=64, scaled=False
)


def cases() -> Iterator[Case]:
    """The grid."""
    for base in BASES:
        yield base
        yield replace(base, classes=50)
        yield replace(base, images=100)
        yield replace(base, threads=2)
        yield replace(base, start="own")
    for name in ("digits", "digits-efficientnet"):
        model = next(one.model for one in BASES if one.recipe == name)
        yield Case(recipe=name, model=model, classes=10, side=16, scaled=False, data="digits")
    yield replace(FINETUNE, side=96)
    yield replace(FINETUNE, classes=2, images=60)
    yield replace(FINETUNE, classes=50, images=500, side=48)
    yield replace(FINETUNE, classes=2, images=60, threads=2)
    yield replace(FINETUNE, model="small_se_resnet", start="own", images=1000, side=32)
    yield Case(recipe="qat", model="small_se_resnet", start="own", scaled=False)


def shrunk(recipe: TrainingRecipe, case: Case, steps: int) -> TrainingRecipe:
    """The recipe with this script's batch and length."""
    if not case.scaled:
        return recipe
    optimizer = msgspec.structs.replace(
        recipe.optimizer, lr=recipe.optimizer.lr * BATCH / recipe.batch
    )
    return msgspec.structs.replace(
        recipe, batch=BATCH, epochs=None, steps=steps, optimizer=optimizer
    )


class Bench:
    """Makes images and weights where they are missing, and trains."""

    def __init__(self, folder: Path, steps: int) -> None:
        self.folder = folder
        self.steps = steps

    def shapes(self, classes: int, images: int, side: int) -> tuple[Path, Path]:
        """Images to learn from, and the held-out ones."""
        folder = self.folder / f"shapes-{classes}-{images}-{side}"
        if not folder.is_dir():
            # Each is drawn at twice the resolution that it is looked at.
            write_shapes(folder / "train", classes, images, seed=0, side=2 * side)
            write_shapes(folder / "held-out", classes, HELD_OUT, seed=1, side=2 * side)
        return folder / "train", folder / "held-out"

    def own_weights(self, model: str) -> str:
        """Weights of a network that was trained on the digits, for the start "own"."""
        out = self.folder / f"weights-{model}"
        if not (out / "result.json").is_file():
            train(
                msgspec.structs.replace(NETWORKS[model], classes=10),
                "digits",
                recipe="digits" if "resnet" in model else "digits-efficientnet",
                weights=SCRATCH,
                epochs=4,
                out=out,
                threads=1,
                workers=0,
                strict=False,
            )
        return str(out / "weights.safetensors")

    def trained(self, case: Case, out: Path) -> TrainingResult:
        """The training of a case."""
        spec = NETWORKS.get(case.model) or find_model(case.model)
        data: tuple[str, str | None] = ("digits", None)
        if case.data == "shapes":
            learnt, held = self.shapes(case.classes, case.images, case.side)
            data = str(learnt), str(held)
        return train(
            spec,
            data[0],
            val=data[1],
            recipe=shrunk(catalog.training_recipe(case.recipe), case, self.steps),
            weights=self.own_weights(case.model) if case.start == "own" else case.start,
            classes=case.classes,
            resolution=case.side,
            out=out,
            threads=case.threads,
            workers=0,
            strict=False,
        )

    def run(self, case: Case) -> Row:
        """One row of the table."""
        began = time.perf_counter()
        with TemporaryDirectory(dir=self.folder) as out:
            if case.recipe == "qat":
                return self.quantized(case, Path(out), began)
            result = self.trained(case, Path(out) / "run")
        log = result.log
        last = log.epochs[-1]
        return Row(
            case,
            log.recipe.epochs or log.steps * log.recipe.batch / result.train.pictures,
            log.recipe.batch,
            log.recipe.optimizer.lr,
            log.val.share if log.val else None,
            (log.val.interval.low, log.val.interval.high) if log.val else None,
            last.val_agreement,
            last.train_loss,
            result.collapse,
            time.perf_counter() - began,
        )

    def quantized(self, case: Case, out: Path, began: float) -> Row:
        """Quantization-aware training of a network that knows the shapes."""
        result = self.trained(replace(case, recipe="digits"), out / "float")
        learnt, held = self.shapes(case.classes, case.images, case.side)
        program = quantize(
            result.model,
            learnt,
            weights=result.weights,
            recipe="int8-qat",
            epochs=QAT_EPOCHS,
            out=out,
            strict=False,
        )
        recipe = catalog.training_recipe("qat")
        log = result.log
        return Row(
            case,
            QAT_EPOCHS,
            recipe.batch,
            recipe.optimizer.lr,
            log.val.share if log.val else None,
            (log.val.interval.low, log.val.interval.high) if log.val else None,
            agreement(program.program, result, held, out),
            log.epochs[-1].train_loss,
            program.collapse or result.collapse,
            time.perf_counter() - began,
        )


def agreement(program: str, result: TrainingResult, held: Path, out: Path) -> float:
    """The share of the held-out images on which an artifact of the program and PyTorch agree."""
    import numpy as np
    import torch

    from edgese import convert, evaluate
    from edgese.data.classes import ClassNames
    from edgese.data.sources import find_pictures
    from edgese.models.weights import load_network, resolve_weights
    from edgese.training.batches import validation_batches

    (row,) = convert(program, "onnxruntime", out=out)
    logits: dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]] = {}
    evaluate(row.artifact, held, logits=logits)
    resolved = resolve_weights(result.model, result.weights)
    network, _ = load_network(resolved.spec, resolved)
    images = find_pictures(str(held), ClassNames(classes=result.model.classes))
    with torch.inference_mode():
        floats = [
            network(batch).argmax(1).numpy()
            for batch, _ in validation_batches(images, result.model.preprocessing, batch=50)
        ]
    files = [images.name(index) for index in range(len(images.labels))]
    by_file = {Path(name).name: values for name, values in logits.items()}
    given = [int(by_file[Path(name).name].argmax()) for name in files]
    return float(np.mean(np.concatenate(floats) == given))


def told(row: Row) -> str:
    """A row of the table, in Markdown."""
    case = row.case
    start = {SCRATCH: "scratch", "own": "weights (digits)"}.get(case.start, "weights (ImageNet)")
    interval = f"{100 * row.interval[0]:.1f} to {100 * row.interval[1]:.1f}" if row.interval else ""
    cells = (
        case.recipe,
        f"{case.model} {case.side} px",
        start,
        str(case.classes),
        str(1438 if case.data == "digits" else case.images),
        str(case.threads),
        f"{row.epochs:.3g}",
        str(row.batch),
        f"{row.lr:.3g}",
        "-" if row.top1 is None else f"{100 * row.top1:.1f} %",
        interval,
        "-" if row.same is None else f"{100 * row.same:.1f} %",
        f"{row.loss:.3f}",
        f"COLLAPSED: {row.collapse}" if row.collapse else "ok",
        f"{row.seconds:.0f} s",
    )
    return f"| {' | '.join(cells)} |"


HEADS: Final = (
    "recipe",
    "network",
    "start",
    "classes",
    "images",
    "threads",
    "epochs",
    "batch",
    "lr",
    "top-1",
    "95 %",
    "as teacher",
    "loss",
    "verdict",
    "time",
)


def print_rows(bench: Bench, chosen: list[Case], workers: int) -> list[Row]:
    """Run the cases, those of one thread side by side, and print each as it ends."""
    print(f"| {' | '.join(HEADS)} |\n|{'---|' * len(HEADS)}", flush=True)
    rows = []

    def keep(row: Row) -> None:
        rows.append(row)
        print(told(row), flush=True)

    for case in chosen:  # What several cases read is there before they start side by side.
        if case.data == "shapes":
            bench.shapes(case.classes, case.images, case.side)
        if case.start == "own":
            bench.own_weights(case.model)
    single = [case for case in chosen if case.threads == 1]
    # A fork of a process whose torch has threads may inherit a held lock.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        for row in pool.map(bench.run, single):
            keep(row)
    for case in chosen:
        if case.threads > 1:
            keep(bench.run(case))
    return rows


def main() -> None:
    """Print the table; 1 where a recipe came to nothing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", default=[], help="names of recipes")
    parser.add_argument("--steps", type=int, default=STEPS, help="of scaled recipes")
    parser.add_argument("--workers", type=int, default=cores())
    arguments = parser.parse_args()
    names = {case.recipe for case in cases()}
    assert names == set(catalog.training_recipe_names()), "a shipped recipe is tried on nothing"
    chosen = [case for case in cases() if not arguments.only or case.recipe in arguments.only]
    with TemporaryDirectory() as folder:
        rows = print_rows(Bench(Path(folder), arguments.steps), chosen, arguments.workers)
    if any(row.collapse for row in rows):
        sys.exit(1)


if __name__ == "__main__":
    main()

"""The ladder: the cheapest way to an integer artifact that loses no more than is allowed.

Each rung makes an artifact and judges it on labelled pictures, in its own runtime or in what stands
in for that, which is not timed: plain post-training quantization, then better ranges and
corrections, then the costliest layers in float where the target keeps its speed, then
quantization-aware training. The first that holds ends it.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from edgese import catalog
from edgese.conversion.api import convert
from edgese.conversion.outcome import error_of
from edgese.errors import ConfigError
from edgese.evaluation.api import evaluate
from edgese.evaluation.comparison import agreement
from edgese.measure.api import profile
from edgese.measure.plan import FEWEST_LAUNCHES
from edgese.models.weights import UNTRAINED
from edgese.protocols import Progress
from edgese.quantization.api import learnt_from, quantize
from edgese.records.artifact import ConversionOutcome, Recipe
from edgese.records.quantization import LayerCost, QuantizedProgram
from edgese.records.selection import Ladder, Rung
from edgese.targets import target_module
from edgese.targets.requests import check_runtime

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MIXED: Final = "int8-mixed"
# A rung that takes this much longer than plain int8 has lost what int8 is for.
SLOWEST: Final = 1.15
# How many modules are kept in float: where more are at fault, training is the better way.
_KEPT: Final = 3


@dataclass(frozen=True, kw_only=True)
class _Climb:
    """What all rungs have in common."""

    model: str
    weights: str | None
    data: str
    split: str
    judged_on: str
    judged_split: str
    target: str
    max_drop: float
    resolution: tuple[int, int] | None
    classes: int | None
    train: str | Path | None
    train_split: str
    epochs: float | None
    resume: bool
    out: Path
    said: Progress

    def quantized(self, recipe: Recipe, *, analyze: bool = False) -> QuantizedProgram:
        trains = bool(recipe.quantization and recipe.quantization.training)
        return quantize(
            self.model,
            self.data,
            weights=self.weights,
            recipe=recipe,
            split=self.split,
            resolution=self.resolution,
            classes=self.classes,
            train=self.train if trains else None,
            train_split=self.train_split if trains else "",
            epochs=self.epochs if trains else None,
            resume=self.resume and trains,
            analyze=analyze,
            out=self.out,
            strict=False,
            progress=lambda stage, done: self.said(f"{recipe.name}: {stage}", done),
        )

    def converted(self, program: str) -> ConversionOutcome:
        rows = convert(
            program,
            self.target,
            out=self.out,
            # One that collapsed is a rung that does not hold.
            strict=False,
            progress=lambda _, stage, done: self.said(stage, done),
        )
        (row,) = rows
        if row.error:
            raise error_of(row)
        return row

    def reference(self) -> ConversionOutcome:
        rows = convert(
            self.model,
            self.target,
            weights=self.weights,
            recipe="fp32",
            resolution=self.resolution,
            classes=self.classes,
            out=self.out,
            progress=lambda _, stage, done: self.said(f"fp32: {stage}", done),
        )
        return rows[0]


def climb(
    model: str,
    data: str | Path,
    *,
    judged_on: str | Path,
    weights: str | None = None,
    split: str = "",
    judged_split: str = "",
    target: str = "tflite",
    max_drop: float = 0.5,
    resolution: tuple[int, int] | None = None,
    classes: int | None = None,
    train: str | Path | None = None,
    train_split: str = "",
    epochs: float | None = None,
    resume: bool = False,
    out: Path | str = "edgese-out",
    progress: Progress | None = None,
) -> Ladder:
    """Tries recipes in order of their cost until an artifact loses at most ``max_drop`` points.

    Args:
        model: a model's name or a spec file.
        data: calibration pictures; those that a training learns from as well.
        judged_on: labelled pictures, others than ``data``: class folders, or a CSV.
        split, judged_split: of a CSV with a column split, only this one.
        target: whose artifact is judged and timed, on this host.
        max_drop: of top-1 from the float network, in points.
        train, train_split: what the training learns from; ``data`` by default.
        epochs: of the training.
        resume: goes on with a training that was interrupted.

    Raises:
        ConfigError: the pictures that judge are those that calibrate, there is no such target or it
            cannot be executed here, the weights are random, or nothing can be learnt from ``data``.
        MissingDependency: the target's runtime is not installed.
        As `quantize`, `convert` and `evaluate` do.
    """
    if (str(data), split) == (str(judged_on), judged_split):
        raise ConfigError(
            f"The pictures of {data} are to calibrate and to judge.",
            hint="Judge on others: --judge DATA, or another --judge-split of the same CSV.",
        )
    if not max_drop >= 0:
        raise ConfigError(f"A drop of {max_drop:g} points was allowed.", hint="Give 0 or more.")
    if weights == UNTRAINED:
        raise ConfigError(
            "Random weights have no accuracy to lose.", hint="Give --weights FILE or imagenet."
        )
    if reason := target_module(target).unavailable():
        raise ConfigError(
            f"Artifacts of the target {target} cannot be judged here: {reason}",
            hint="Every target computes the same integers: judge by another --target.",
        )
    check_runtime(target)
    stands_in = target_module(target).stand_in()
    # The last rung's pictures are looked for before the first one is climbed.
    learnt_from(train, train_split, data, split)
    climbing = _Climb(
        model=model,
        weights=weights,
        data=str(data),
        split=split,
        judged_on=str(judged_on),
        judged_split=judged_split,
        target=target,
        max_drop=max_drop,
        resolution=resolution,
        classes=classes,
        train=train,
        train_split=train_split,
        epochs=epochs,
        resume=resume,
        out=Path(out),
        said=progress or (lambda *_: None),
    )
    floats: dict[str, NDArray[np.float32]] = {}
    base = climbing.reference()
    climbing.said("fp32: evaluate", 0.0)
    reference = evaluate(base.artifact, judged_on, split=judged_split, logits=floats)
    rungs: list[Rung] = []
    held: Rung | None = None
    for recipe, layers in _rungs(climbing):
        started = time.monotonic()
        made = climbing.quantized(recipe)
        row = climbing.converted(made.program)
        logits: dict[str, NDArray[np.float32]] = {}
        climbing.said(f"{recipe.name}: evaluate", 0.0)
        found = evaluate(row.artifact, judged_on, split=judged_split, logits=logits)
        pair = agreement(reference, found, (floats, logits))
        # What could not be read may be what the float artifact alone gets right.
        worse = pair.only_first_right + pair.left_out - pair.only_second_right
        drop = 100 * worse / (pair.pictures + pair.left_out)
        ms, slow = None, False
        if not stands_in:
            climbing.said(f"{recipe.name}: measure", 0.0)
            # What is compared takes turns, since a host is now faster and now slower.
            beside = [rungs[0].artifact] if layers else []
            these = [Path(p) for p in (row.artifact, *beside)]
            timed = profile(these, threads=1, launches=FEWEST_LAUNCHES)
            ms, *plain_ms = (p.latency.p50_ms for p in timed.profiles)
            slow = any(ms > SLOWEST * plain for plain in plain_ms)
        rung = Rung(
            recipe=recipe,
            program=made.program,
            artifact=row.artifact,
            top1=found.top1,
            drop=drop,
            agreement=pair,
            latency_ms=ms,
            kept_float=layers,
            seconds=round(time.monotonic() - started, 1),
            verdict=_verdict(made.collapse, drop, max_drop, slow=slow),
        )
        rungs.append(rung)
        if rung.verdict == "holds":
            held = rung
            break
    return Ladder(
        model=model,
        target=target,
        max_drop=max_drop,
        reference=reference.top1,
        rungs=tuple(rungs),
        chosen=held.program if held else "",
        judged_by=stands_in,
    )


def _verdict(
    collapse: str, drop: float, max_drop: float, *, slow: bool
) -> Literal["holds", "drops", "too slow", "collapsed"]:
    if collapse:
        return "collapsed"
    if slow:
        return "too slow"
    return "holds" if drop <= max_drop else "drops"


def _rungs(climbing: _Climb) -> Iterator[tuple[Recipe, tuple[str, ...]]]:
    """Recipes in order of cost, each with the modules that it keeps in float."""
    yield catalog.recipe("int8-minmax"), ()
    better = catalog.recipe("int8")
    yield better, ()
    analysed = climbing.quantized(better, analyze=True)
    worst = costliest(analysed.layers, _KEPT)
    if worst and better.quantization is not None:
        how = msgspec.structs.replace(better.quantization, keep_float=worst)
        summary = f"{better.summary[:-1]}; {len(worst)} modules in float."
        yield (
            msgspec.structs.replace(better, name=MIXED, summary=summary, quantization=how),
            worst,
        )
    yield catalog.recipe("int8-qat"), ()


def costliest(layers: Sequence[LayerCost], count: int) -> tuple[str, ...]:
    """The modules whose parts together cost most at the output.

    Args:
        layers: as `edgese.quantization.analysis.analysed` gives them.
    """
    noise: dict[str, float] = {}
    for row in layers:
        noise[row.layer] = noise.get(row.layer, 0.0) + 10 ** (-row.sqnr_db / 10)
    return tuple(sorted(noise, key=lambda layer: -noise[layer])[:count])

"""The main job on an embedded default: real weights to artifacts, classified and timed."""

from collections.abc import Callable
from pathlib import Path
from typing import Final

from edgese.conversion import api as conversion
from edgese.data.calibration import EMBEDDED
from edgese.data.embedded import sample_pictures
from edgese.evaluation.api import classify
from edgese.evaluation.subjects import find_subject
from edgese.machine import cores
from edgese.measure import api as measure
from edgese.quantization import api as quantization
from edgese.records.selection import Demonstration, Recognized
from edgese.story import tell
from edgese.targets import target_module

MODEL: Final = "efficientnet_lite0"
WEIGHTS: Final = "imagenet"
RECIPE: Final = "int8"
# Enough for a median that holds on a quiet machine, and short enough to watch.
BLOCKS: Final = 12
# As many as may be compared with the effect of their order taken out; a gate takes twice as many.
LAUNCHES: Final = 6
MIN_TIME_S: Final = 0.5


def demonstrate(
    out: Path, on_progress: Callable[[str, str, float], None] = lambda *_: None
) -> Demonstration:
    """Converts EfficientNet-Lite0 to all targets in fp32 and int8, classifies and measures.

    Then trains three variants on embedded pictures and chooses one, see `edgese.story`.

    The int8 program is calibrated on crops of the two photographs that are classified: enough to
    see it work, and no statement about its accuracy.

    Args:
        out: folder for the artifacts.
        on_progress: called with what is worked on, the stage, and the share that is behind.

    Raises:
        MissingDependency: the weights' package, or a runtime, is not installed.
        ConversionError: a target failed.
        Collapsed: a training or a quantization came to nothing.
        OutputError: ``out`` cannot be written, or is full.
    """
    floats = conversion.convert(
        MODEL, "all", weights=WEIGHTS, recipe="fp32", out=out, progress=on_progress
    )
    program = quantization.quantize(
        MODEL,
        EMBEDDED,
        weights=WEIGHTS,
        recipe=RECIPE,
        out=out,
        progress=lambda stage, fraction: on_progress("quantize", stage, fraction),
    )
    integers = conversion.convert(program.program, "all", out=out, progress=on_progress)
    pairs, timed = [], []
    for a, b in zip(floats, integers, strict=True):
        target, pair = target_module(a.target), (Path(a.artifact), Path(b.artifact))
        if not target.unavailable():
            pairs.append(pair)
            if not target.stand_in():
                timed.append(pair)
    runnable = (*(first for first, _ in pairs), *(second for _, second in pairs))
    return Demonstration(
        outcomes=(*floats, *integers),
        program=program,
        recognized=(_recognized(MODEL, WEIGHTS), *(_recognized(path) for path in runnable)),
        profiles=tuple(
            measure.profile(
                pair,
                threads=1,
                launches=LAUNCHES,
                blocks=BLOCKS,
                min_time_s=MIN_TIME_S,
                progress=lambda stage, fraction: on_progress("profile", stage, fraction),
            )
            for pair in timed
        ),
        story=tell(out, on_progress),
    )


def _recognized(subject: str | Path, weights: str | None = None) -> Recognized:
    found = find_subject(subject, weights)
    names, images = zip(*sample_pictures(), strict=True)
    best = classify(found.load(cores()), found.card, images, count=1)
    return Recognized(
        target=found.target,
        recipe=found.recipe,
        pictures=tuple(names),
        classes=tuple(scores[0] for scores in best),
    )

"""The main job on an embedded default: real weights to four artifacts, classified and timed."""

from collections.abc import Callable
from pathlib import Path
from typing import Final

from edgese.conversion import api as conversion
from edgese.data.embedded import sample_pictures
from edgese.errors import ConversionError, EdgeseError, MissingDependency, OutputError
from edgese.evaluation.api import classify
from edgese.evaluation.subjects import find_subject
from edgese.machine import cores
from edgese.measure import api as measure
from edgese.records.demonstration import Demonstration, Recognized
from edgese.targets import target_module

MODEL: Final = "efficientnet_lite0"
WEIGHTS: Final = "imagenet"
# Enough for a median that holds on a quiet machine, and short enough to watch.
BLOCKS: Final = 12
MIN_TIME_S: Final = 1.0
# What a target's row of a conversion can have failed with.
_FAILURES: Final[dict[int, type[EdgeseError]]] = {
    kind.exit_code: kind for kind in (MissingDependency, ConversionError, OutputError)
}


def demonstrate(
    out: Path, on_progress: Callable[[str, str, float], None] = lambda *_: None
) -> Demonstration:
    """Converts EfficientNet-Lite0 to all targets, classifies two photographs and measures latency.

    Args:
        out: folder for the artifacts.
        on_progress: called with what is worked on, the stage, and the share that is behind.

    Raises:
        MissingDependency: the weights' package, or a runtime, is not installed.
        ConversionError: a target failed.
        OutputError: ``out`` cannot be written, or is full.
    """
    outcomes = conversion.convert(
        MODEL, "all", weights=WEIGHTS, recipe="fp32", out=out, progress=on_progress
    )
    if code := conversion.exit_code(outcomes):
        failed = next(outcome for outcome in outcomes if outcome.exit_code == code)
        raise _FAILURES[code](f"{failed.target}: {failed.error}", hint=failed.hint)
    runnable = [Path(o.artifact) for o in outcomes if not target_module(o.target).unavailable()]
    recognized = (_recognized(MODEL, WEIGHTS), *(_recognized(path) for path in runnable))
    profiles = measure.profile(
        runnable,
        blocks=BLOCKS,
        min_time_s=MIN_TIME_S,
        progress=lambda stage, fraction: on_progress("profile", stage, fraction),
    )
    return Demonstration(outcomes=outcomes, recognized=recognized, profiles=profiles)


def _recognized(subject: str | Path, weights: str | None = None) -> Recognized:
    found = find_subject(subject, weights)
    names, images = zip(*sample_pictures(), strict=True)
    best = classify(found.load(cores()), found.card, images, count=1)
    return Recognized(
        target=found.target,
        pictures=tuple(names),
        classes=tuple(scores[0] for scores in best),
    )

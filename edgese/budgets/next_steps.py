"""Commands that would settle an unclear verdict, ready to be run; pure.

A word in capitals stands for something that the user has and this does not know.
"""

import shlex
from typing import Final, NamedTuple

from edgese.budgets.candidates import Candidate
from edgese.budgets.inputs import path_of
from edgese.records.measurement import MeasurePlan

ARTIFACT: Final = "ARTIFACT"
_DEFAULT: Final = MeasurePlan(threads=0)
# Predicted from the most measurements, and never converted to, so never measured: what runs on the
# same devices is measured in its place.
_UNCONVERTED: Final = "ncnn"
_STAND_IN: Final = "tflite"


class Files(NamedTuple):
    """The files of a gate, as they were named; "" for those that were not."""

    budget: str = ""
    baseline: str = ""
    noise: str = ""


def measure(device: str, subject: str = ARTIFACT, *more: str) -> str:
    """Return the command that measures on a device."""
    return _joined(
        "profile",
        subject,
        *more,
        *_option("device", device),
        "--require-device",
        *_option("out", "profile.json"),
    )


def measure_candidate(one: Candidate) -> str:
    """Return the command that measures what was predicted, counted or estimated.

    For ncnn, which edgese does not convert to, it measures the network in TFLite.
    """
    if one.emulation is not None and one.device == one.emulation.device:
        # No emulated processor has times.
        return measure("DEVICE", subject_of(one))
    if one.sha256:
        return measure(one.device, subject_of(one))
    size = f"{one.resolution[0]}x{one.resolution[1]}"
    return measure(
        one.device,
        one.model,
        *_option("target", _STAND_IN if one.target == _UNCONVERTED else one.target),
        *_option("recipe", one.recipe),
        *_option("resolution", size),
    )


def measure_again(one: Candidate) -> str:
    """Return the command that makes one more run like those that there are."""
    return _profile(one, *_plan(one.plan), *_option("out", "another-run.json"))


def measure_longer(one: Candidate) -> str:
    """Return the command that measures twice as many processes."""
    return _profile(one, *_plan(one.plan, 2), *_option("out", "profile.json"))


def count_again(one: Candidate) -> str:
    """Return the command that counts instructions in more processes."""
    device = one.emulation.device if one.emulation else one.device
    return _joined(
        "profile",
        subject_of(one),
        *_option("device", device),
        *_option("out", "another-count.json"),
    )


def calibrate(one: Candidate, files: Files, times: int = 1) -> str:
    """Return the command that measures how runs on the device differ.

    Args:
        times: that each run is longer; longer runs differ less.
    """
    return _profile(
        one, *_plan(one.plan, times), "--calibrate-noise", *_option("noise", files.noise)
    )


def sustain(one: Candidate) -> str:
    """Return the command that runs without a pause."""
    return _profile(
        one, *_plan(one.plan), "--sustained", "10m", *_option("out", "another-run.json")
    )


def keep_baseline(one: Candidate, files: Files) -> str:
    """Return the command that makes a baseline."""
    return _joined(
        "baseline update",
        "EARLIER_ARTIFACT",
        *_option("device", one.device),
        *_option("baseline", files.baseline or "baseline.json"),
        "--keep",
    )


def side_by_side(one: Candidate, files: Files, times: int = 1) -> str:
    """Return the command that measures in turns with the baseline's artifact."""
    return _joined(
        "gate",
        subject_of(one),
        *_option("device", one.device),
        *_option("budget", files.budget),
        *_option("baseline", files.baseline),
        *_plan(one.plan, times),
    )


def evaluate(one: Candidate, data: str = "") -> str:
    """Return the command that evaluates an artifact."""
    return _joined(
        "evaluate",
        subject_of(one),
        *_option("data", data or "FOLDER"),
        *_option("out", "evaluation.json"),
    )


def evaluate_reference(one: Candidate, data: str) -> str:
    """Return the command that evaluates the network in fp32."""
    return _joined(
        "evaluate",
        one.model,
        *_option("weights", "FILE"),
        *_option("data", data),
        *_option("out", "reference.json"),
    )


def inspect(one: Candidate) -> str:
    """Return the command that looks at what delegates take."""
    return _joined("inspect", subject_of(one), "--json")


def convert(one: Candidate) -> str:
    """Return the command that makes the artifact of a spec, which says what it computes."""
    return _joined("convert", "SPEC.toml", *_option("target", one.target))


def subject_of(one: Candidate) -> str:
    """Return the artifact's path as it was given."""
    known = (one.profile, one.program, one.emulation, one.estimate)
    label = next((each.label for each in known if each is not None), "")
    return str(path_of(label)) if label else one.model or ARTIFACT


def _profile(one: Candidate, *more: str) -> str:
    known = one.profile or one.program
    threads = str(known.threads) if known else ""
    return _joined(
        "profile",
        subject_of(one),
        *_option("device", one.device),
        *_option("threads", threads),
        *more,
    )


def _plan(plan: MeasurePlan | None, times: int = 1) -> list[str]:
    """Return the options of a plan that is not the default one, or that is so many times longer."""
    if plan is None:
        return []
    settings = {
        "launches": times * plan.launches,
        "blocks": times * plan.blocks,
        "min_runs": times * plan.min_runs,
        "min_time_s": times * plan.min_time_s,
    }
    return [
        word
        for name, value in settings.items()
        if value != getattr(_DEFAULT, name)
        for word in _option(name.removesuffix("_s").replace("_", "-"), f"{value:g}")
    ]


def _option(name: str, value: str) -> list[str]:
    return [f"--{name}", value] if value else []


def _joined(command: str, *words: str) -> str:
    return f"edgese {command} {shlex.join(words)}"

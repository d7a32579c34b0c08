"""Asks TFLite's GPU delegate: LiteRT's own, on this machine's GPU or on a software one.

What it takes and what its arithmetic does to the logits is told; its times on a processor mean
nothing, and are not.
"""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from edgese import lifeline
from edgese.data.embedded import parity_pictures
from edgese.devices import vulkan
from edgese.errors import DeviceError, MissingDependency
from edgese.inspection import gpu_process
from edgese.inspection.drifts import drift, far_off
from edgese.inspection.graphs import tflite_nodes
from edgese.inspection.reports import largest_piece
from edgese.inspection.rules import fault
from edgese.protocols import Progress
from edgese.records.artifact import Manifest
from edgese.records.conversion import DelegateFacts
from edgese.records.inspection import DelegateReport, Drift, Fault
from edgese.scratch import temporary
from edgese.targets.apart import load_apart

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

TIMEOUT_S: Final = 1800
_ADAPTER: Final = re.compile(r"Selected adapter: (?P<name>.+?), arch=")
_NONE: Final = "No adapters found"
_IMPATIENT: Final = "Failed to lock custom tensor buffer"
_SELF: Final = "the GPU delegate"
_MORE_TRIES: Final = 4
# Seen in LiteRT 2.3.0 of int8 convolutions of 1x1 with a stride of 2, and only of these: what is
# compiled has the shape of one without, and what comes out is not the convolution.
_STRIDE: Final = re.compile(
    r"Shape mismatch in GpuModelBuilder::UpdateOutputTensors\(output of convolution1x1[^)]*\)\)?\. "
    r"Requested shape:\{bhwdc, \{(?P<asked>[\d, ]+)\}\} vs reference shape: "
    r"\{bhwdc, \{(?P<made>[\d, ]+)\}\}"
)
_REFUSED: Final = re.compile(
    r"Following operations are not supported by GPU delegate:\n(?P<kinds>.*?)\n"
    r"(?:(?P<gpu>\d+)|No) operations will run on the GPU, and (?:the remaining|all) (?P<cpu>\d+) ",
    re.DOTALL,
)
_KIND: Final = re.compile(r"^(?P<operator>\w+): (?P<reason>.+)$", re.MULTILINE)
# What LiteRT says of itself, also when it is torn down after an error.
_NEWS: Final = re.compile(r"INFO: |[IW]\d{4} |\s|=== Source")
_NO_SUCH: Final = "Not supported op "
# The source stands in targets/tflite.toml.
_FLOATS: Final = (
    "The GPU delegate computes integer models in floats, so even in fp32 it does not give the "
    "integers that the processor does."
)
_UNTRAINED: Final = "The weights are random: on trained ones the drift is another."


@dataclass(frozen=True)
class GpuLog:
    """What the delegate logs while it compiles a file.

    Attributes:
        adapter: name of the GPU that it chose; "" where it found none.
        refused: its reason for each kind of operator that it leaves to the processor.
        on_gpu, on_cpu: how many operators go where; None where it takes all and says nothing.
        strides_lost: of integer 1x1 convolutions with a stride, the shapes that were asked for and
            that it computes, once for each time that the file was compiled.
    """

    adapter: str
    refused: Mapping[str, str]
    on_gpu: int | None
    on_cpu: int | None
    strides_lost: tuple[str, ...] = ()


def parsed_log(text: str) -> GpuLog:
    """Reads LiteRT's log; pure.

    Source of the wording: tensorflow/lite/delegates/gpu/common/model_builder.cc, GetOpsToReplace.
    """
    adapter = _ADAPTER.search(text)
    name = adapter["name"] if adapter else ""
    lost = tuple(
        f"{each['asked']} was asked, {each['made']} made" for each in _STRIDE.finditer(text)
    )
    found = _REFUSED.search(text)
    if found is None:
        return GpuLog(adapter=name, refused={}, on_gpu=None, on_cpu=None, strides_lost=lost)
    reasons: dict[str, list[str]] = {}
    for kind in _KIND.finditer(found["kinds"]):
        reasons.setdefault(kind["operator"], []).append(kind["reason"].strip())
    return GpuLog(
        adapter=name,
        refused={operator: "; ".join(told) for operator, told in reasons.items()},
        on_gpu=int(found["gpu"] or 0),
        on_cpu=int(found["cpu"]),
        strides_lost=lost,
    )


def faults_of(log: GpuLog, compilations: int) -> tuple[Fault, ...]:
    """What the delegate takes and computes wrongly, from its own warnings; pure."""
    if not log.strides_lost:
        return ()
    kinds = "; ".join(dict.fromkeys(log.strides_lost))
    reason = f"of a 1x1 convolution with a stride another shape is computed: {kinds}"
    count = len(log.strides_lost) // compilations
    return (fault("tflite", "gpu", "CONV_2D", count, "STRIDE", reason),)


def chosen_driver(name: str, *, halves: bool) -> vulkan.Driver:
    """The Vulkan driver to ask on.

    Args:
        name: as in `vulkan.DRIVERS`; "" chooses: what the user's environment names, then a software
            GPU, then whatever the system has.
        halves: whether the arithmetic is wanted, for which lavapipe computes in fp16 as phones do;
            else SwiftShader, which starts faster.

    Raises:
        ConfigError: there is no driver of that name.
        MissingDependency: it is not set up; the hint is the command.
    """
    if name:
        return vulkan.required(name)
    named = any(os.environ.get(key) for key in ("VK_DRIVER_FILES", "VK_ICD_FILENAMES"))
    order = [vulkan.SWIFTSHADER, vulkan.LAVAPIPE]
    for each in [] if named else reversed(order) if halves else order:
        if (found := vulkan.find(each)) is not None:
            return found
    return vulkan.required(vulkan.SYSTEM)


def asked(
    artifact: Path,
    manifest: Manifest,
    facts: DelegateFacts,
    *,
    driver: vulkan.Driver,
    with_drift: bool,
    progress: Progress,
) -> DelegateReport:
    """What the GPU delegate takes of a .tflite file, and how far its arithmetic drifts.

    Args:
        artifact: an artifact that was verified against its manifest.
        with_drift: whether to run it on pictures, too.

    Raises:
        MissingDependency: the driver finds no GPU.
        DeviceError: the delegate crashed, or did not end in its time.
    """
    nodes = tflite_nodes(artifact)
    with temporary("gpu") as folder:
        job = gpu_process.GpuJob(artifact=str(artifact.absolute()), interface=manifest.interface)
        (folder / gpu_process.JOB).write_text(job.to_json(), encoding="utf-8")
        pictures = parity_pictures(manifest.model.preprocessing) if with_drift else None
        if pictures is not None:
            import numpy as np

            np.save(folder / gpu_process.PICTURES, pictures)
        progress(f"ask the GPU delegate on {driver.name}", 0.0)
        said = _run(folder, driver)
        log = parsed_log(said)
        answer = gpu_process.GpuAnswer.from_json(
            (folder / gpu_process.ANSWER).read_bytes(), gpu_process.ANSWER
        )
        taken = len(nodes) if answer.fully_accelerated else log.on_gpu
        if taken is None:
            raise DeviceError(
                f"LiteRT's GPU delegate does not take all of {artifact} and does not say what.",
                hint="Another version of LiteRT may word it otherwise; the one that is known to "
                "work: pip install 'edgese[tflite]'",
            )
        report = largest_piece(
            "tflite",
            facts,
            nodes,
            {} if answer.fully_accelerated else log.refused,
            taken,
            by=f"LiteRT {metadata.version('ai-edge-litert')} on {log.adapter or driver.name}",
            arguments=frozenset(
                operator
                for operator, reason in log.refused.items()
                if not reason.startswith(_NO_SUCH)
            ),
        )
        faults = faults_of(log, 1 if pictures is None else 2)
        report = msgspec.structs.replace(report, faults=faults)
        if pictures is None:
            return report
        progress("compare with the processor", 0.9)
        beside = load_apart("tflite", artifact, manifest.interface, threads=1)(pictures)
        with np.load(folder / gpu_process.LOGITS, allow_pickle=False) as logits:
            drifts = drifts_of(logits["chosen"], logits["fp32"], beside)
    notes = [*report.notes]
    notes += [] if manifest.weights.trained else [_UNTRAINED]
    notes += [_FLOATS] if manifest.recipe.precision == "int8" else []
    notes += [far] if (far := far_off(drifts)) else []
    return msgspec.structs.replace(report, drifts=drifts, notes=tuple(notes))


def drifts_of(
    chosen: "NDArray[np.float32]", fp32: "NDArray[np.float32]", beside: "NDArray[np.float32]"
) -> tuple[Drift, ...]:
    """The drift of the delegate's own choice and of its fp32; one where both are the same.

    Args:
        chosen, fp32: the delegate's logits, (pictures, classes).
        beside: the processor's.
    """
    import numpy as np

    if np.array_equal(chosen, fp32):
        return (drift("fp32", fp32, beside, of=_SELF),)
    return drift("fp16", chosen, beside, of=_SELF), drift("fp32", fp32, beside, of=_SELF)


def _run(folder: Path, driver: vulkan.Driver) -> str:
    """Runs the process and gives what it logged."""
    outcome = _started(folder, driver)
    # LiteRT waits two minutes for a result, which a software GPU may need to compile its shaders.
    # The driver keeps those that it has finished, so the next process begins with them.
    for _ in range(_MORE_TRIES):
        if outcome.returncode == 0 or _IMPATIENT not in outcome.stderr:
            break
        outcome = _started(folder, driver)
    if outcome.returncode == 0:
        return outcome.stderr
    if _NONE in outcome.stderr:
        raise MissingDependency(
            f"LiteRT's GPU delegate finds no GPU with the Vulkan driver {driver.name}.",
            hint=vulkan.SETUP,
        )
    how = (
        f"was ended by {signal.Signals(-outcome.returncode).name}"
        if outcome.returncode < 0
        else f"ended with code {outcome.returncode}"
    )
    lines = [line for line in outcome.stderr.splitlines() if line and not _NEWS.match(line)]
    raise DeviceError(
        f"LiteRT's GPU delegate {how} on {driver.name}: {lines[-1] if lines else 'no word'}",
        hint="`--no-drift` tells what it takes without running it; another driver may carry it: "
        "`--vulkan swiftshader` or `--vulkan lavapipe`.",
    )


def _started(folder: Path, driver: vulkan.Driver) -> "subprocess.CompletedProcess[str]":
    try:
        return lifeline.run(
            [sys.executable, "-P", "-m", "edgese.inspection.gpu_process", folder],
            env=driver.environment(os.environ),
            stdout=subprocess.DEVNULL,
            timeout_s=TIMEOUT_S,
        )
    except subprocess.TimeoutExpired as error:
        raise DeviceError(
            f"LiteRT's GPU delegate did not end within {TIMEOUT_S} s on {driver.name}.",
            hint="Inspect it on swiftshader, or at a smaller resolution.",
        ) from error

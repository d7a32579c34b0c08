"""Asks Qualcomm's compiler for the Hexagon tensor processor (HTP), as ONNX Runtime's provider does.

The package onnxruntime-qnn has the provider, the compiler and a simulator for x86. What the
compiler takes, what it makes for each chip and what the simulated arithmetic does to the logits is
told; the simulator's times mean nothing, and are not.
The package is the user's to install, under Qualcomm's licence; nothing of it is part of edgese.
"""

import platform
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from edgese import lifeline
from edgese.catalog import device_facts, device_names, soc_facts, soc_names
from edgese.data.embedded import parity_pictures
from edgese.errors import ConfigError, DeviceError, MissingDependency
from edgese.inspection import qnn_process
from edgese.inspection.drifts import drift, far_off
from edgese.inspection.qnn_log import Trace, Unit, parsed_log, parsed_trace
from edgese.inspection.rules import Cause, left_out
from edgese.protocols import Progress
from edgese.records.artifact import Manifest, Precision
from edgese.records.conversion import DelegateFacts
from edgese.records.device import SocFacts
from edgese.records.inspection import Arithmetic, Compiled, DelegateReport, LeftOut
from edgese.scratch import temporary
from edgese.targets.apart import load_apart

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

NAME: Final = "qnn"
TIMEOUT_S: Final = 1800
_DISTRIBUTION: Final = "onnxruntime-qnn"
_INSTALL: Final = "pip install 'edgese[qualcomm]' (Qualcomm's licence is in the package)"
_PART: Final = re.compile(r"\((?P<part>SM\d+)\)")
_LOG: Final = "log.txt"
# Between the simulator and the processor in fp32, 4e-6 of the logits' deviation was seen; in fp16,
# 6e-3 and more.
_SAME: Final = 1e-4
_SIMULATED: Final = "Its logits are those of Qualcomm's simulator of {soc} ({architecture})."
_CHANGED: Final = (
    "The graph is ONNX Runtime's after its own changes for this provider, so it may have more "
    "operators than the file."
)
_UNTRAINED: Final = "The weights are random: on trained ones the drift is another."
_ENDS: Final = re.compile(r"configured to not take D?Q nodes")
# Codes of a grid are fixed-point numbers to the compiler; others are whole numbers.
_BARE: Final = re.compile(r"\bU?INT_8\b")
_NO_SUCH: Final = re.compile(r"Operators of type `\w+` are not supported")


@dataclass(frozen=True)
class Answer:
    """What compiling for one chip gave.

    Attributes:
        error: why the runtime does not load the file; "" where it does.
        trace: None where nothing was compiled.
        size_bytes: of the compiled context; None where there is none.
        logits: of the pictures, where they were run.
    """

    soc: SocFacts
    error: str
    passes: tuple[tuple[Unit, ...], ...]
    trace: Trace | None
    size_bytes: int | None
    logits: "NDArray[np.float32] | None" = None


def missing() -> str:
    """What is needed before the compiler can be asked; "" where it can."""
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        return "Qualcomm's compiler and simulator come for Linux on x86_64 alone."
    return "" if find_spec("onnxruntime_qnn") else _INSTALL


def chosen_socs(name: str) -> tuple[SocFacts, ...]:
    """The chips to compile for, the newest first.

    Args:
        name: of a chip, or of a device that has one; "" for one chip of each architecture.

    Raises:
        ConfigError: there is none of that name, or the device has another maker's chip.
    """
    known = soc_names()
    if not name:
        by_htp = {facts.htp: facts for facts in map(soc_facts, reversed(known))}
        return tuple(by_htp[htp] for htp in sorted(by_htp, reverse=True))
    if name.lower() in known:
        return (soc_facts(name.lower()),)
    hint = f"Chips: {', '.join(known)}; or a device that has one, as in galaxy_s24."
    if name not in device_names():
        raise ConfigError(f"There is no chip and no device named {name!r}.", hint=hint)
    chip = device_facts(name).soc
    part = _PART.search(chip)
    if part is None or part["part"].lower() not in known:
        raise ConfigError(
            f"{name} has {chip or 'a chip that is not known'}, which Qualcomm's compiler does not "
            "compile for.",
            hint=hint,
        )
    return (soc_facts(part["part"].lower()),)


def asked(
    artifact: Path,
    manifest: Manifest,
    facts: DelegateFacts,
    *,
    socs: Sequence[SocFacts],
    with_drift: bool,
    progress: Progress,
) -> DelegateReport:
    """What Qualcomm's compiler takes of a .onnx file, and how far its arithmetic drifts.

    Args:
        artifact: an artifact that was verified against its manifest.
        socs: to compile for; the report is about the first.
        with_drift: whether to run it on the first one's simulator, too.

    Raises:
        MissingDependency: the package is not installed, or is not for this machine.
        DeviceError: the compiler crashed, or did not end in its time.
    """
    if why := missing():
        raise MissingDependency(
            f"{facts.title} is asked with Qualcomm's own compiler, which is not here.", hint=why
        )
    pictures = parity_pictures(manifest.model.preprocessing) if with_drift else None
    answers = []
    for index, soc in enumerate(socs):
        doing = "compile and simulate" if with_drift and not index else "compile"
        progress(f"{doing} for {soc.name} (v{soc.htp})", index / len(socs))
        answers.append(_compiled(artifact, manifest, soc, None if index else pictures))
    by = f"{_DISTRIBUTION} {metadata.version(_DISTRIBUTION)}, compiled for {socs[0].name}"
    found = report(facts, answers, by)
    logits = answers[0].logits
    if pictures is None or logits is None:
        return found
    progress("compare with the processor", 0.95)
    beside = load_apart("onnxruntime", artifact, manifest.interface, threads=1)(pictures)
    arithmetic = arithmetic_of(manifest.recipe.precision, logits, beside)
    drifts = (drift(arithmetic, logits, beside, of="Qualcomm's simulator"),)
    notes = [
        *found.notes,
        _SIMULATED.format(soc=socs[0].title, architecture=f"v{socs[0].htp}"),
        *([] if manifest.weights.trained else [_UNTRAINED]),
        *([far] if (far := far_off(drifts)) else []),
    ]
    return msgspec.structs.replace(found, drifts=drifts, notes=tuple(notes))


def report(facts: DelegateFacts, answers: Sequence[Answer], by: str) -> DelegateReport:
    """The answers of several chips as one report, about the first; pure."""
    first = answers[0]
    # Where the runtime refuses the file, the graph of its first question is the file's own.
    units = first.passes[0] if first.error else first.passes[-1]
    counted = sum(len(unit.operators) for unit in units)
    sizes = first.trace.partition_sizes if first.trace else ()
    return DelegateReport(
        delegate=facts.name,
        title=facts.title,
        basis="asked",
        by=by,
        operators=first.trace.operators if first.trace else counted,
        taken=sum(sizes),
        partitions=len(sizes),
        partition_sizes=sizes,
        left_out=_left_out(facts.name, units, first.error),
        notes=(_CHANGED, *_unlike(answers)),
        compiled=tuple(map(_told, answers)),
    )


def _left_out(delegate: str, units: Sequence[Unit], error: str) -> tuple[LeftOut, ...]:
    # What it judges together it leaves together; the operator that they are there for is named.
    reasons: Counter[tuple[str, str]] = Counter()
    for unit in units:
        if unit.reason:
            reasons[unit.operator, unit.reason] += len(unit.operators)
    refused = [
        left_out("onnxruntime", delegate, operator, count, _cause(reason), reason)
        for (operator, reason), count in sorted(reasons.items())
    ]
    if error:
        lost = sum(len(unit.operators) for unit in units if not unit.reason)
        said = f"the runtime refuses the whole file: {_plain(error)}"
        refused.append(left_out("onnxruntime", delegate, "others", lost, "NOT-LOADED", said))
    return tuple(refused)


def _cause(reason: str) -> Cause:
    if _ENDS.search(reason):
        return "ENDS"
    if _BARE.search(reason):
        return "NO-GRID"
    return "OP-UNSUPPORTED" if _NO_SUCH.search(reason) else "ARGUMENTS"


def _plain(error: str) -> str:
    """The runtime's first sentence, without its code."""
    words = error.partition(" : FAIL : ")[2] or error
    return words.strip().partition(". ")[0].splitlines()[0]


def _told(answer: Answer) -> Compiled:
    sizes = answer.trace.partition_sizes if answer.trace else ()
    return Compiled(
        soc=answer.soc.name,
        architecture=f"v{answer.soc.htp}",
        taken=sum(sizes),
        partitions=len(sizes),
        size_bytes=answer.size_bytes,
    )


def _unlike(answers: Sequence[Answer]) -> tuple[str, ...]:
    """What is to be said of chips whose compiler takes other operators than the first's."""
    first = answers[0].trace
    return tuple(
        f"For {each.soc.name} (v{each.soc.htp}) the compiler takes other operators: ask about it "
        f"with --soc {each.soc.name}."
        for each in answers[1:]
        if each.trace != first
    )


def arithmetic_of(
    precision: Precision, logits: "NDArray[np.float32]", beside: "NDArray[np.float32]"
) -> Arithmetic:
    """What the simulator computed in; of floats it tells neither, and what came out does.

    Args:
        logits: the simulator's.
        beside: the processor's, in fp32.
    """
    import numpy as np

    if precision == "int8":
        return "int8"
    apart = float(np.abs(logits - beside).max())
    return "fp32" if apart <= _SAME * float(beside.std()) else "fp16"


def _compiled(
    artifact: Path,
    manifest: Manifest,
    soc: SocFacts,
    pictures: "NDArray[np.float32] | None",
) -> Answer:
    with temporary("qnn") as folder:
        job = qnn_process.QnnJob(
            artifact=str(artifact.absolute()),
            interface=manifest.interface,
            soc_model=soc.soc_model,
            htp=soc.htp,
        )
        (folder / qnn_process.JOB).write_text(job.to_json(), encoding="utf-8")
        if pictures is not None:
            import numpy as np

            np.save(folder / qnn_process.PICTURES, pictures)
        _run(folder, soc)
        answer = qnn_process.QnnAnswer.from_json(
            (folder / qnn_process.ANSWER).read_bytes(), qnn_process.ANSWER
        )
        log = (folder / _LOG).read_text(encoding="utf-8", errors="replace")
        logits: NDArray[np.float32] | None = None
        if (folder / qnn_process.LOGITS).exists():
            import numpy as np

            logits = np.load(folder / qnn_process.LOGITS, allow_pickle=False)
        trace = folder / qnn_process.TRACE
        made = [file.stat().st_size for file in folder.glob(qnn_process.CONTEXTS)]
        return Answer(
            soc=soc,
            error=answer.error,
            passes=parsed_log(log),
            trace=parsed_trace(trace.read_text(encoding="utf-8")) if trace.exists() else None,
            size_bytes=sum(made) or None,
            logits=logits,
        )


def _run(folder: Path, soc: SocFacts) -> None:
    """Runs the process; megabytes of log go to a file."""
    try:
        with (folder / _LOG).open("wb") as log:
            outcome = lifeline.run(
                [sys.executable, "-P", "-m", "edgese.inspection.qnn_process", folder],
                stdout=subprocess.DEVNULL,
                stderr=log,
                timeout_s=TIMEOUT_S,
            )
    except subprocess.TimeoutExpired as error:
        raise DeviceError(
            f"Qualcomm's compiler did not end within {TIMEOUT_S} s for {soc.name}.",
            hint="`--no-drift` compiles and does not simulate; or take a smaller resolution.",
        ) from error
    if outcome.returncode == 0:
        return
    how = (
        f"was ended by {signal.Signals(-outcome.returncode).name}"
        if outcome.returncode < 0
        else f"ended with code {outcome.returncode}"
    )
    lines = (folder / _LOG).read_text(encoding="utf-8", errors="replace").strip().splitlines()
    raise DeviceError(
        f"Qualcomm's compiler {how} for {soc.name}: {lines[-1] if lines else 'no word'}",
        hint="`--no-drift` compiles and does not simulate; the version that is known to work: "
        "pip install 'edgese[qualcomm]'",
    )

"""Counts the instructions of each operator, in a whole emulated machine.

Its clock moves by a nanosecond with each instruction, so what the runtime's own profiler takes for
times are instructions: a millisecond of it is a million of them.
"""

from collections.abc import Sequence
from pathlib import Path

import msgspec

from edgese.devices.guest.device import answering
from edgese.errors import ConfigError
from edgese.measure.job import subjects_of
from edgese.measure.operators import SILENT, operator_times
from edgese.protocols import Progress
from edgese.records.measurement import OperatorTimes


def operator_instructions(
    artifacts: Sequence[Path],
    name: str,
    *,
    runs: int = 3,
    timeout_s: float = 3600.0,
    progress: Progress | None = None,
) -> tuple[OperatorTimes, ...]:
    """What each operator of one inference executes, one millisecond for a million instructions.

    Args:
        artifacts: paths of artifacts with their manifests.
        name: of an emulated processor, as in "arm64-a76".
        runs: inferences that count, after one that does not.
        timeout_s: for each artifact.

    Raises:
        ConfigError: the runtime of none of the artifacts tells its operators.
        MissingDependency: QEMU, the guest, the sysroot, adb or a runtime is not there.
        Others as of `edgese.measure.operators.operator_times`.
    """
    subjects = subjects_of(artifacts)
    targets = {subject.manifest.target for subject in subjects}
    if targets <= set(SILENT):
        target = min(targets)
        raise ConfigError(
            f"No operators are told of {target}: {SILENT[target]}",
            hint="Leave --operators out: the functions that execute most are told without it.",
        )
    if progress is not None:
        progress(f"boot an emulated {name}", 0.0)
    with answering(name) as device:
        told = tuple(
            operator_times(
                subject,
                device,
                threads=1,
                runs=runs,
                warmup_runs=1,
                timeout_s=timeout_s,
                progress=progress,
            )
            for subject in subjects
        )
    return tuple(msgspec.structs.replace(one, source="emulated") for one in told)

"""Ethos-U as Vela, Arm's compiler, estimates it; nothing is run.

Vela schedules a .tflite file for an accelerator and adds up cycles from its own model of arithmetic
and memories. It is deterministic. Arm says that these figures serve the compiler's decisions, do
not represent real performance, and are not to be compared between configurations.
https://pypi.org/project/ethos-u-vela/5.1.0/, Apache-2.0
"""

import csv
import io
import re
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from edgese import lifeline
from edgese.errors import ConfigError, DeviceError, MissingDependency
from edgese.records.artifact import Manifest
from edgese.records.base import Record
from edgese.records.device import DeviceFacts, VelaConfiguration
from edgese.records.emulation import CpuFallback, Estimate, OperatorEstimate
from edgese.scratch import temporary
from edgese.store import read_manifest
from edgese.version import __version__

TIMEOUT_S: Final = 600
_DISTRIBUTION: Final = "ethos-u-vela"
_INSTALL: Final = "pip install 'edgese[vela]'"
_REFUSAL: Final = re.compile(
    r"^Warning \(supported operators\) operator: (?P<operator>\w+), ofm: '(?P<output>.*)'\n"
    r"Reason: (?P<reason>.+(?:\n(?!\s*$|Warning).+)*)",
    re.MULTILINE,
)
_COUNT: Final = re.compile(r"^(?P<processor>CPU|NPU) operators = (?P<count>\d+)", re.MULTILINE)


class Summary(Record, frozen=True):
    """The figures of Vela's summary file that an estimate is made of."""

    accelerator: str
    system: str
    memory_mode: str
    clock_mhz: float
    cycles: int
    compute_cycles: int
    latency_ms: float
    macs: int
    sram_bytes: int
    dram_bytes: int
    flash_bytes: int


def missing() -> str:
    """What is needed before Vela can estimate; "" where it can."""
    return "" if find_spec("ethosu") else f"needs {_INSTALL}"


def estimated(artifact: Path, facts: DeviceFacts) -> Estimate:
    """What an int8 TFLite artifact takes on an Ethos-U, by Vela's own model of it.

    Args:
        artifact: with its manifest beside it.
        facts: of a device with a ``vela`` configuration.

    Raises:
        ConfigError: the device is no Ethos-U, or the artifact is not int8 TFLite.
        InputError: the artifact or its manifest is missing or not readable.
        StoreError: the artifact is not the one that its manifest describes.
        MissingDependency: Vela is not installed.
        DeviceError: Vela failed, or places nothing on the accelerator.
    """
    configuration = _configuration(facts)
    manifest = read_manifest(artifact)
    _check(artifact, manifest)
    if missing():
        raise MissingDependency(
            f"{facts.name} is estimated by Vela, which is not installed.", hint=_INSTALL
        )
    with temporary("vela") as folder:
        said = _run(arguments(artifact, configuration, folder), folder, facts)
        summary = parsed_summary(_only(folder, "*_summary_*.csv"))
        operators = parsed_operators(_only(folder, "*_per-layer.csv"))
    counts = operator_counts(said)
    if counts["NPU"] == 0:
        raise DeviceError(
            f"Vela places none of the {counts['CPU']} operators of {artifact} on {facts.name}.",
            hint="Convert it as int8: `edgese quantize`, then `edgese convert --target tflite`.",
        )
    pixels = manifest.model.preprocessing
    return Estimate(
        label=str(artifact),
        sha256=manifest.sha256,
        target=manifest.target,
        recipe=manifest.recipe.name,
        model=manifest.model.name,
        resolution=(pixels.height, pixels.width),
        trained=manifest.weights.trained,
        device=facts.name,
        accelerator=summary.accelerator,
        system=summary.system,
        memory_mode=summary.memory_mode,
        clock_mhz=summary.clock_mhz,
        cycles=summary.cycles,
        compute_cycles=summary.compute_cycles,
        latency_ms=summary.latency_ms,
        macs=summary.macs,
        sram_bytes=summary.sram_bytes,
        dram_bytes=summary.dram_bytes,
        flash_bytes=summary.flash_bytes,
        npu_operators=counts["NPU"],
        cpu_operators=counts["CPU"],
        fallbacks=parsed_fallbacks(said),
        operators=operators,
        compiler=f"{_DISTRIBUTION} {metadata.version(_DISTRIBUTION)}",
        edgese=__version__,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def arguments(artifact: Path, configuration: VelaConfiguration, folder: Path) -> list[str]:
    """Vela's command line; everything that it would otherwise choose itself is named."""
    return [
        *("--accelerator-config", configuration.accelerator),
        *("--config", configuration.file),
        *("--system-config", configuration.system),
        *("--memory-mode", configuration.memory_mode),
        "--verbose-performance",
        *("--output-dir", str(folder)),
        str(artifact.absolute()),
    ]


def parsed_summary(text: str) -> Summary:
    """Reads Vela's summary file: a line of names and a line of values.

    Raises:
        DeviceError: it is not in the format of the Vela that edgese knows.
    """
    rows = list(csv.DictReader(io.StringIO(text)))
    if len(rows) != 1:
        raise _foreign(f"its summary has {len(rows)} networks")
    row = rows[0]
    return Summary(
        accelerator=_word(row, "accelerator_configuration"),
        system=_word(row, "system_config"),
        memory_mode=_word(row, "memory_mode"),
        clock_mhz=_figure(row, "core_clock") / 1e6,
        cycles=round(_figure(row, "cycles_total")),
        compute_cycles=round(_figure(row, "cycles_npu")),
        latency_ms=round(_figure(row, "inference_time") * 1e3, 6),
        macs=round(_figure(row, "nn_macs")),
        # Memory is told in KiB.
        sram_bytes=round(_figure(row, "sram_memory_used") * 1024),
        dram_bytes=round(_figure(row, "dram_memory_used") * 1024),
        flash_bytes=round(
            1024
            * (
                _figure(row, "on_chip_flash_memory_used")
                + _figure(row, "off_chip_flash_memory_used")
            )
        ),
    )


def parsed_operators(text: str) -> tuple[OperatorEstimate, ...]:
    """Reads Vela's file of operators.

    Raises:
        DeviceError: it is not in the format of the Vela that edgese knows.
    """
    return tuple(
        OperatorEstimate(
            operator=_word(row, "Original Operator"),
            executed_as=_word(row, "NNG Operator"),
            output=_word(row, "Name"),
            processor="cpu" if _word(row, "Target") == "CPU" else "npu",
            cycles=round(_figure(row, "Op Cycles")),
            macs=round(_figure(row, "MAC Count")),
        )
        for row in csv.DictReader(io.StringIO(text))
    )


def parsed_fallbacks(said: str) -> tuple[CpuFallback, ...]:
    """The operators that Vela refused, in the order in which it said so."""
    return tuple(
        CpuFallback(
            operator=found["operator"],
            output=found["output"],
            reason="; ".join(line.strip() for line in found["reason"].splitlines()),
        )
        for found in _REFUSAL.finditer(said)
    )


def operator_counts(said: str) -> dict[str, int]:
    """How many operators land on the "NPU" and on the "CPU".

    Raises:
        DeviceError: Vela did not say.
    """
    counts = {found["processor"]: int(found["count"]) for found in _COUNT.finditer(said)}
    if counts.keys() != {"CPU", "NPU"}:
        raise _foreign("it did not say how many operators land where")
    return counts


def _configuration(facts: DeviceFacts) -> VelaConfiguration:
    if facts.vela is None:
        raise ConfigError(
            f"{facts.name} is no Ethos-U, so Vela has no estimate for it.",
            hint="`edgese devices` lists the ones that it has.",
        )
    return facts.vela


def _check(artifact: Path, manifest: Manifest) -> None:
    if manifest.target != "tflite":
        raise ConfigError(
            f"Vela reads TFLite, and {artifact} is an artifact for {manifest.target}.",
            hint="`edgese convert PROGRAM --target tflite` makes one.",
        )
    if manifest.recipe.precision != "int8":
        raise ConfigError(
            f"Ethos-U computes in int8, and {artifact} is {manifest.recipe.precision} "
            f"(recipe {manifest.recipe.name!r}).",
            hint="`edgese quantize MODEL --data PICTURES` makes an int8 program, "
            "`edgese convert PROGRAM --target tflite --io int8` the artifact.",
        )


def _run(words: list[str], folder: Path, facts: DeviceFacts) -> str:
    # A process of its own: native code in it aborts on files that it does not like.
    try:
        outcome = lifeline.run(
            [sys.executable, "-P", "-m", "ethosu.vela", *words], cwd=folder, timeout_s=TIMEOUT_S
        )
    except subprocess.TimeoutExpired as error:
        raise DeviceError(
            f"Vela did not end within {TIMEOUT_S} s for {facts.name}.",
            hint="Estimate a smaller resolution, or a smaller model.",
        ) from error
    if outcome.returncode != 0:
        how = (
            f"was ended by signal {-outcome.returncode}"
            if outcome.returncode < 0
            else f"ended with code {outcome.returncode}"
        )
        lines = (outcome.stderr.strip() or outcome.stdout.strip()).splitlines()
        raise DeviceError(
            f"Vela {how} for {facts.name}: {lines[-1] if lines else 'it said nothing.'}",
            hint="`edgese devices` tells the configuration that it was given.",
        )
    return outcome.stdout


def _only(folder: Path, pattern: str) -> str:
    found = list(folder.glob(pattern))
    if len(found) != 1:
        raise _foreign(f"it wrote {len(found)} files {pattern}")
    return found[0].read_text(encoding="utf-8")


def _word(row: Mapping[str, str | None], column: str) -> str:
    value = row.get(column)
    if value is None:
        raise _foreign(f"there is no column {column!r}")
    return value


def _figure(row: Mapping[str, str | None], column: str) -> float:
    value = _word(row, column)
    try:
        return float(value)
    except ValueError as error:
        raise _foreign(f"{column!r} is {value!r}, which is no number") from error


def _foreign(what: str) -> DeviceError:
    return DeviceError(
        f"Vela's answer is not in the format that edgese reads: {what}.",
        hint=f"Install the version that is known to work: {_INSTALL}",
    )

"""Counts the instructions of artifacts on an emulated processor, which no measurement of time is.

Counts are those of the real runtimes for ARM, with the kernels that they choose for that processor.
They are the same from run to run, so a change of a hundredth is a change of the artifact.
"""

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from statistics import median, median_low
from typing import Final

import msgspec

from edgese.devices.emulator import counter, program, symbols
from edgese.devices.emulator.counter import Count
from edgese.devices.qemu import RUNTIMES, Emulated
from edgese.errors import ConfigError, DeviceError, MissingDependency
from edgese.measure.job import (
    RESULT,
    RUNNER,
    Subject,
    brought_back,
    runner_artifact,
    subjects_of,
)
from edgese.measure.kernels import dispatch_of, kernels_of, products_of
from edgese.measure.progress_stream import stages
from edgese.models.cost import cost
from edgese.protocols import Progress
from edgese.records.artifact import Manifest
from edgese.records.base import Record
from edgese.records.emulation import Emulation, EmulationCaution, InstructionCounts, Kernel
from edgese.records.measurement import Job, Push

COUNTS: Final = "counts.jsonl"
_EMPTY_CALLS: Final = 2
_KERNELS: Final = 40
# A vector kernel's instruction makes 4 to 32 products; in plain code, a product takes 8 or more.
_MOST_PER_MAC: Final = 8.0
_LEAST_XNNPACK: Final = 0.5
_LEAST_DOT: Final = 0.1
_MOST_SPREAD: Final = 0.005


class CountResult(Record, frozen=True):
    """The file that the runner writes when it counts."""

    versions: dict[str, str]
    maps: str


class CountLaunch(Record, frozen=True):
    """One process that counted."""

    result: CountResult
    empty: Count
    inferences: tuple[Count, ...]


def emulated(
    artifacts: Sequence[Path],
    device: str | Emulated,
    *,
    threads: int = 1,
    runs: int = 2,
    launches: int = 3,
    timeout_s: float = 3600.0,
    progress: Progress | None = None,
) -> tuple[Emulation, ...]:
    """Counts the instructions of one inference of each artifact.

    Args:
        artifacts: paths of artifacts with their manifests.
        device: an emulated processor by its name ("arm64-a76"), or one that was made already.
        threads: of the runtime; with more than one they wait for each other in loops, and counts
            differ by some percent.
        runs: inferences that are counted in each process, after one that is not.
        launches: processes of each artifact.
        timeout_s: for each process.

    Raises:
        ConfigError: no artifact, no such processor, or a setting that cannot be.
        InputError: an artifact or its manifest is missing or not readable.
        StoreError: an artifact is not the one that its manifest describes.
        MissingDependency: QEMU, a C compiler, the sysroot or the runtime in it is not there.
        DeviceError: an artifact could not be executed.
    """
    if not artifacts:
        raise ConfigError("No artifact was named.", hint="Name one or more to count.")
    if min(threads, runs, launches) < 1:
        raise ConfigError(
            f"Counting with {threads} threads, {runs} runs and {launches} launches cannot be.",
            hint="Each must be 1 or more.",
        )
    place = Emulated(device) if isinstance(device, str) else device
    subjects = subjects_of(artifacts)
    for target in sorted({subject.manifest.target for subject in subjects}):
        place.check(target)
    if not place.qemu.plugins:
        raise MissingDependency(
            f"{place.qemu.path} {place.qemu.version} takes no plugins, so nothing can count.",
            hint=program.WITH_PLUGINS,
        )
    library = counter.library()
    found = []
    for number, subject in enumerate(subjects):
        launched = []
        for launch in range(launches):
            behind = number * launches + launch
            hear = stages(progress, Path(subject.path).name, behind, len(subjects) * launches)
            settings = f"{library},out={COUNTS}{',atomic=on' if threads > 1 else ''}"
            outcome = place.run(
                counting_job(subject, threads, runs, timeout_s), hear, {"QEMU_PLUGIN": settings}
            )
            content = brought_back(outcome, place.cpu.name)
            launched.append(launch_of(content, outcome.files.get(COUNTS, b""), runs))
        found.append(_emulation(subject, launched, place, threads))
    if progress is not None:
        progress("done", 1.0)
    return tuple(found)


def counting_job(subject: Subject, threads: int, runs: int, timeout_s: float) -> Job:
    """The job of one process that counts."""
    artifact = runner_artifact(subject, 0, threads)
    plan = json.dumps({"artifact": artifact, "runs": runs})
    return Job(
        argv=("{python}", "-P", RUNNER.name, "count", "plan.json", RESULT),
        push=(
            Push(name=RUNNER.name, content=RUNNER.read_bytes()),
            Push(name="plan.json", content=plan.encode()),
            Push(name=artifact["path"], source=subject.path),
        ),
        pull=(RESULT, COUNTS),
        timeout_s=timeout_s,
    )


def launch_of(content: bytes, counted: bytes, runs: int) -> CountLaunch:
    """What one process counted, from the runner's file and the counter's.

    Raises:
        DeviceError: something is missing.
    """
    counts = counter.parsed(counted)
    if len(counts) != _EMPTY_CALLS + runs or not counts[-1].blocks:
        raise DeviceError(
            f"The counter tells of {len(counts)} calls, and {_EMPTY_CALLS + runs} were marked.",
            hint="The emulator is not the one that counts; `edgese emulator doctor` tells more.",
        )
    return CountLaunch(
        result=msgspec.json.decode(content, type=CountResult),
        empty=counts[_EMPTY_CALLS - 1],
        inferences=tuple(counts[_EMPTY_CALLS:]),
    )


def cautions_of(
    manifest: Manifest,
    instructions: InstructionCounts,
    kernels: Sequence[Kernel],
    *,
    features: Sequence[str],
    spread: float,
    macs: int | None,
    versions: dict[str, str],
) -> tuple[EmulationCaution, ...]:
    """What a reader of the counts should know."""
    found = []
    products = products_of(instructions)
    dots = products["int8_dot"] + products["int8_matrix"]
    share = dots / max(1, sum(products.values()))
    if manifest.recipe.precision == "int8" and "asimddp" in features and share < _LEAST_DOT:
        found.append(
            EmulationCaution(
                code="NO_DOT_PRODUCT",
                numbers={"share": share},
                message=f"Int8 dot products make {share:.1%} of all products, and this processor "
                "has them: the network is not executed by the kernels that are meant for it.",
                advice="`edgese inspect` tells which operators the delegate leaves out.",
            )
        )
    if macs is not None and instructions.total > _MOST_PER_MAC * macs:
        per_mac = instructions.total / macs
        found.append(
            EmulationCaution(
                code="MANY_INSTRUCTIONS",
                numbers={"per_mac": per_mac},
                message=f"A multiply-add takes {per_mac:.1f} instructions, where vector kernels "
                "take about one: the network, or much of it, is not delegated.",
                advice="Convert it for a delegate; `edgese inspect` tells what is outside.",
            )
        )
    named = [kernel for kernel in kernels if kernel.name.startswith("xnn_")]
    inside = sum(kernel.share for kernel in named)
    if manifest.delegate == "xnnpack" and inside < _LEAST_XNNPACK and _has_names(kernels):
        found.append(
            EmulationCaution(
                code="OUTSIDE_XNNPACK",
                numbers={"share": inside},
                message=f"XNNPACK's functions execute {inside:.0%} of the instructions; the most "
                f"are in {kernels[0].name}.",
                advice="`edgese inspect` tells which operators XNNPACK leaves out.",
            )
        )
    if spread > _MOST_SPREAD:
        found.append(
            EmulationCaution(
                code="SPREAD",
                numbers={"spread": spread},
                message=f"Counts of one inference differ by {spread:.2%}.",
                advice="Count with one thread; a smaller difference than this tells nothing.",
            )
        )
    package = RUNTIMES[manifest.target]
    made_with = manifest.toolchain.get(package)
    if made_with is not None and made_with != versions.get(package):
        found.append(
            EmulationCaution(
                code="OTHER_VERSION",
                numbers={},
                message=f"{package} {versions.get(package)} executed it, and {made_with} made it.",
                advice="Compare it with counts of the same version only.",
            )
        )
    return tuple(found)


def _has_names(kernels: Sequence[Kernel]) -> bool:
    """Whether the libraries that execute keep their functions' names."""
    named = sum(kernel.share for kernel in kernels if "+0x" not in kernel.name)
    return named > 0.5  # the most of what is executed


def _emulation(
    subject: Subject, launches: Sequence[CountLaunch], place: Emulated, threads: int
) -> Emulation:
    manifest = subject.manifest
    totals = tuple(tuple(one.counts.total for one in launch.inferences) for launch in launches)
    every = [total for launch in totals for total in launch]
    spread = (max(every) - min(every)) / median(every)
    instructions = InstructionCounts(
        **{
            name: median_low(
                getattr(one.counts, name) for launch in launches for one in launch.inferences
            )
            for name in InstructionCounts.__struct_fields__
        }
    )
    last = launches[-1]
    files: dict[str, symbols.Functions | None] = {}
    locate = partial(symbols.locate, maps=symbols.mappings(last.result.maps), files=files)
    kernels = kernels_of(last.inferences[-1].blocks, locate, _KERNELS)
    pixels = manifest.model.preprocessing
    counts = cost(manifest.spec, pixels.height, pixels.width) if manifest.spec else None
    batch = manifest.interface.input.shape[0]
    return Emulation(
        label=subject.label,
        sha256=manifest.sha256,
        size_bytes=manifest.size_bytes,
        target=manifest.target,
        delegate=manifest.delegate,
        recipe=manifest.recipe.name,
        model=manifest.model.name,
        resolution=(pixels.height, pixels.width),
        batch=batch,
        trained=manifest.weights.trained,
        collapse=manifest.collapse,
        device=place.cpu.name,
        cpu=place.cpu.core,
        features=place.features,
        qemu=place.qemu.version,
        threads=threads,
        instructions=instructions,
        totals=totals,
        spread=spread,
        overhead=last.empty.counts.total,
        dispatch=dispatch_of(instructions),
        kernels=kernels,
        versions=last.result.versions,
        macs=counts.macs if counts else None,
        cautions=cautions_of(
            manifest,
            instructions,
            kernels,
            features=place.features,
            spread=spread,
            macs=counts.macs * batch if counts else None,
            versions=last.result.versions,
        ),
    )

"""Looks at everything that emulation needs, and tries it."""

from shutil import which
from typing import TYPE_CHECKING, Final

from edgese.devices import sysroot, vulkan
from edgese.devices.emulator import counter, program
from edgese.devices.emulator.cpus import CPUS
from edgese.devices.guest import image, machine
from edgese.devices.qemu import Emulated
from edgese.devices.sysroot import bundle
from edgese.errors import EdgeseError, MissingDependency
from edgese.protocols import Progress
from edgese.records.device import EmulatorDiagnosis, EmulatorPart
from edgese.records.measurement import Job

if TYPE_CHECKING:
    from collections.abc import Callable

_COUNTS: Final = "counts.jsonl"
# Between the marks nothing happens, and between the second pair a loop of a million rounds.
_PROBE: Final = """
import ctypes
mark = ctypes.CDLL(None).syscall
for rounds in (0, 1_000_000):
    mark(0x5E5E, 1)
    sum(range(rounds))
    mark(0x5E5E, 2)
"""
_SHOWN: Final = 3


def diagnose(progress: Progress) -> EmulatorDiagnosis:
    """What emulation needs, part by part; every file of the sysroot is hashed."""
    steps: dict[str, Callable[[], EmulatorPart]] = {
        "qemu-aarch64": _qemu,
        "C compiler": _compiler,
        "sysroot": _sysroot,
        "executorch": _executorch,
        **{name: lambda name=name: _processor(name) for name in CPUS},  # type: ignore[misc]
        "counter": _counter,
        "guest": _guest,
        "software GPUs": _gpus,
    }
    parts = []
    for number, (name, look) in enumerate(steps.items()):
        progress(f"look at {name}", number / len(steps))
        try:
            parts.append(look())
        except EdgeseError as error:
            missing = isinstance(error, MissingDependency)
            parts.append(
                EmulatorPart(
                    name=name,
                    status="missing" if missing else "broken",
                    error=error.message,
                    remedy=error.hint,
                )
            )
    progress("done", 1.0)
    return EmulatorDiagnosis(sysroot=str(bundle.folder()), parts=tuple(parts))


def _qemu() -> EmulatorPart:
    qemu = program.find_qemu()
    return EmulatorPart(
        name="qemu-aarch64",
        status="ok" if qemu.plugins else "broken",
        found=f"{qemu.version} ({qemu.path})",
        error="" if qemu.plugins else "it takes no plugins, so nothing can count instructions",
        remedy="" if qemu.plugins else program.WITH_PLUGINS,
    )


def _compiler() -> EmulatorPart:
    return EmulatorPart(name="C compiler", status="ok", found=str(counter.library()))


def _sysroot() -> EmulatorPart:
    found = sysroot.required()
    faults = bundle.faults(bundle.SITE)
    runtimes = ("ai-edge-litert", "onnxruntime", "numpy")
    return EmulatorPart(
        name="sysroot",
        status="broken" if faults else "ok",
        found=", ".join(f"{name} {found.versions[name]}" for name in runtimes),
        error=_told(faults),
        remedy=bundle.SETUP if faults else "",
    )


def _executorch() -> EmulatorPart:
    setup = f"{bundle.SETUP} --executorch"
    manifest = bundle.read(bundle.EXECUTORCH_SITE)
    if manifest is None:
        return EmulatorPart(name="executorch", status="missing", remedy=setup, needed=False)
    faults = bundle.faults(bundle.EXECUTORCH_SITE)
    return EmulatorPart(
        name="executorch",
        status="broken" if faults else "ok",
        found=f"{manifest.versions['executorch']}, torch {manifest.versions['torch']}",
        error=_told(faults),
        remedy=setup if faults else "",
        needed=False,
    )


def _processor(name: str) -> EmulatorPart:
    place = Emulated(name)
    job = Job(argv=("{python}", "-c", "import platform; print(platform.machine())"), timeout_s=120)
    outcome = place.run(job, lambda _: None)
    works = outcome.returncode == 0 and outcome.stdout.strip() == "aarch64"
    return EmulatorPart(
        name=name,
        status="ok" if works else "broken",
        found=f"{place.cpu.core}: {_speaking(place.features)}",
        error="" if works else (outcome.stderr.strip() or "Python did not start there")[-300:],
        remedy="" if works else bundle.SETUP,
    )


def _counter() -> EmulatorPart:
    place = Emulated(next(iter(CPUS)))
    job = Job(argv=("{python}", "-c", _PROBE), pull=(_COUNTS,), timeout_s=120)
    setting = {"QEMU_PLUGIN": f"{counter.library()},out={_COUNTS}"}
    outcome = place.run(job, lambda _: None, setting)
    counts = counter.parsed(outcome.files.get(_COUNTS, b""))
    empty, full = [one.counts.total for one in counts] if len(counts) == 2 else (0, 0)
    works = full - empty > 1_000_000  # a round takes more than one instruction
    return EmulatorPart(
        name="counter",
        status="ok" if works else "broken",
        found=f"{full - empty:,} instructions in a loop of a million rounds" if works else "",
        error=""
        if works
        else f"it did not count a loop: {outcome.stderr.strip()[-200:] or 'it wrote nothing'}",
        remedy="" if works else program.INSTALL,
    )


def _guest() -> EmulatorPart:
    program = which(machine.PROGRAM)
    try:
        folder = str(image.required()) if program else ""
    except MissingDependency:
        folder = ""
    return EmulatorPart(
        name="guest",
        status="ok" if folder else "missing",
        found=folder,
        remedy="" if folder else machine.INSTALL if program is None else image.SETUP,
        needed=False,
    )


def _gpus() -> EmulatorPart:
    name = "software GPUs"
    packages = vulkan.versions()
    if not packages:
        return EmulatorPart(name=name, status="missing", remedy=vulkan.SETUP, needed=False)
    faults = vulkan.faults()
    return EmulatorPart(
        name=name,
        status="broken" if faults else "ok",
        found=f"SwiftShader of Chromium {packages['chromium-common']}, "
        f"lavapipe of Mesa {packages['mesa-vulkan-drivers']}",
        error=_told(faults),
        remedy=vulkan.SETUP if faults else "",
        needed=False,
    )


def _speaking(features: tuple[str, ...]) -> str:
    """The features that kernels are chosen by."""
    names = {"asimddp": "dot product", "i8mm": "i8mm", "asimdhp": "fp16", "sve": "SVE"}
    return ", ".join(name for key, name in names.items() if key in features) or "plain NEON"


def _told(faults: list[str]) -> str:
    more = len(faults) - _SHOWN
    return "; ".join(faults[:_SHOWN]) + (f"; and {more} more" if more > 0 else "")

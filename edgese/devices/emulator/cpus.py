"""The processors that are emulated, each with a view of the sysroot of its own.

XNNPACK and ONNX Runtime choose their kernels by two things: the features that the kernel tells
(AT_HWCAP, which QEMU makes from ``-cpu``) and the core's identity (``CPU part`` in /proc/cpuinfo).
QEMU 7.2 hands on this machine's own /proc/cpuinfo, and on an x86 one their detection crashes. A
view is a folder for QEMU's ``-L`` with links into the sysroot and a /proc/cpuinfo of its own, whose
features are those that the emulated program sees: the two cannot disagree.
"""

import difflib
import json
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edgese import store
from edgese.devices.emulator.program import Qemu
from edgese.devices.sysroot import Sysroot
from edgese.errors import ConfigError, DeviceError
from edgese.lifeline import run

CORES: Final = 4
_AT_HWCAP: Final = 16
_AT_HWCAP2: Final = 26
_TIMEOUT_S: Final = 120
# In the order of their bits. Linux: arch/arm64/include/uapi/asm/hwcap.h and kernel/cpuinfo.c.
_HWCAPS: Final = (
    "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm jscvt fcma "
    "lrcpc dcpop sha3 sm3 sm4 asimddp sha512 sve asimdfhm dit uscat ilrcpc flagm ssbs sb paca pacg"
)
_HWCAPS2: Final = (
    "dcpodp sve2 sveaes svepmull svebitperm svesha3 svesm4 flagm2 frint svei8mm svef32mm svef64mm "
    "svebf16 i8mm bf16 dgh rng bti mte ecv afp rpres mte3 sme smei16i64 smef64f64 smei8i32 "
    "smef16f32 smeb16f32 smef32f32 smefa64 wfxt"
)


@dataclass(frozen=True, slots=True)
class Cpu:
    """A processor that can be emulated.

    Attributes:
        name: as in ``--device``.
        core: as Arm calls it.
        qemu: what ``-cpu`` is given.
        part, variant, revision: of Arm's core in /proc/cpuinfo (MIDR_EL1).
    """

    name: str
    core: str
    qemu: str
    part: int
    variant: int
    revision: int


# Parts: Linux, arch/arm64/include/asm/cputype.h. Variants and revisions: those of QEMU's models,
# target/arm/cpu64.c and target/arm/tcg/cpu64.c.
CPUS: Final = {
    cpu.name: cpu
    for cpu in (
        Cpu("arm64-a53", "cortex-a53", "cortex-a53", 0xD03, 0, 4),
        Cpu("arm64-a72", "cortex-a72", "cortex-a72", 0xD08, 0, 3),
        Cpu("arm64-a76", "cortex-a76", "cortex-a76", 0xD0B, 4, 1),
        # QEMU 7.2 has no such model. Without SVE, which XNNPACK would have kernels for, and which
        # phones do not always let programs use.
        Cpu("arm64-a710", "cortex-a710", "max,sve=off,sme=off", 0xD47, 2, 1),
    )
}


def find_cpu(name: str) -> Cpu:
    """The emulated processor of a name.

    Raises:
        ConfigError: there is none; the known ones are told.
    """
    if name in CPUS:
        return CPUS[name]
    near = difflib.get_close_matches(name, CPUS, n=1)
    raise ConfigError(
        f"There is no emulated processor named {name!r}.",
        hint=(f"Did you mean {near[0]!r}? " if near else "") + f"Known: {', '.join(CPUS)}.",
    )


def view(cpu: Cpu, qemu: Qemu, sysroot: Sysroot) -> tuple[Path, tuple[str, ...]]:
    """The folder for QEMU's ``-L``, made where it is missing, and the processor's features.

    Raises:
        DeviceError: QEMU cannot start the sysroot's Python.
        OutputError: the cache cannot be written.
    """
    folder = store.cache_folder() / "emulator" / f"{cpu.name}-{_key(cpu, qemu, sysroot)}"
    stamp = folder / "features.json"
    if not stamp.is_file():
        features = names_of(*_hwcaps(cpu, qemu, sysroot))
        with store.staging(folder) as (part,):
            (part / "proc").mkdir(parents=True)
            (part / "proc/cpuinfo").write_text(cpuinfo(cpu, features), encoding="ascii")
            for entry in sysroot.root.iterdir():
                if entry.name != "proc":
                    (part / entry.name).symlink_to(entry)
            system = part / "sys/devices/system/cpu"
            system.mkdir(parents=True)
            # As many as cpuinfo tells, whatever this machine has.
            for name in ("possible", "present", "online"):
                (system / name).write_text(f"0-{CORES - 1}\n", encoding="ascii")
            (part / stamp.name).write_text(json.dumps(features), encoding="ascii")
    return folder, tuple(json.loads(stamp.read_text(encoding="ascii")))


def cpuinfo(cpu: Cpu, features: tuple[str, ...]) -> str:
    """/proc/cpuinfo as Linux writes it for arm64."""
    return "".join(
        f"processor\t: {number}\n"
        "BogoMIPS\t: 100.00\n"
        f"Features\t: {' '.join(features)}\n"
        "CPU implementer\t: 0x41\n"
        "CPU architecture: 8\n"
        f"CPU variant\t: 0x{cpu.variant:x}\n"
        f"CPU part\t: 0x{cpu.part:03x}\n"
        f"CPU revision\t: {cpu.revision}\n\n"
        for number in range(CORES)
    )


def names_of(hwcap: int, hwcap2: int) -> tuple[str, ...]:
    """The features whose bits are set, in Linux's order; bits without a name are left out."""
    return tuple(
        name
        for names, bits in ((_HWCAPS, hwcap), (_HWCAPS2, hwcap2))
        for number, name in enumerate(names.split())
        if bits >> number & 1
    )


def hwcaps(auxv: bytes) -> tuple[int, int]:
    """AT_HWCAP and AT_HWCAP2 from the contents of /proc/self/auxv; 0 where it has none."""
    entries = dict(struct.iter_unpack("<QQ", auxv))
    return entries.get(_AT_HWCAP, 0), entries.get(_AT_HWCAP2, 0)


def _hwcaps(cpu: Cpu, qemu: Qemu, sysroot: Sysroot) -> tuple[int, int]:
    """What a program sees on the emulated processor."""
    script = "import sys; sys.stdout.write(open('/proc/self/auxv', 'rb').read().hex())"
    command = [qemu.path, "-cpu", cpu.qemu, "-L", str(sysroot.root)]
    python = str(sysroot.root / sysroot.python)
    home = sysroot.root / sysroot.home
    try:
        outcome = run(
            [*command, "-E", f"PYTHONHOME={home}", python, "-I", "-S", "-B", "-c", script],
            timeout_s=_TIMEOUT_S,
        )
        if outcome.returncode == 0:
            return hwcaps(bytes.fromhex(outcome.stdout))
        reason = outcome.stderr.strip()[-300:] or f"it ended with code {outcome.returncode}"
    except subprocess.TimeoutExpired:
        reason = f"it did not end within {_TIMEOUT_S} s"
    raise DeviceError(
        f"{qemu.path} {qemu.version} cannot start the sysroot's Python as {cpu.core}: {reason}",
        hint="`edgese emulator doctor` tells what is wrong.",
    )


def _key(cpu: Cpu, qemu: Qemu, sysroot: Sysroot) -> str:
    import hashlib

    facts = f"{cpu} {qemu.version} {sysroot.root} {sysroot.digest}"
    return hashlib.sha256(facts.encode()).hexdigest()[:12]

"""How many cores and how much memory this process may use, containers' limits included."""

import os
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from edgese import lifeline
from edgese.bounds import whole

_LINUX: Final = platform.system() == "Linux"
_CGROUPS: Final = Path("/sys/fs/cgroup")
_X86: Final = ("x86_64", "amd64", "i386", "i686")
_VNNI: Final = ("avx_vnni", "avx512_vnni")
# What names a processor in /proc/cpuinfo, on x86 and on ARM, and the x86 flags of vectors.
_NAMES: Final = (
    *("vendor_id", "cpu family", "model", "cache size", "flags"),
    *("CPU implementer", "CPU architecture", "CPU variant", "CPU part", "Features"),
)
_VECTORS: Final = ("sse", "ssse", "avx", "fma", "f16c", "amx")
# Variables that choose among the kernels of torch, oneDNN, MKL, OpenBLAS and numpy.
_CHOOSING: Final = (
    *("ATEN_CPU_CAPABILITY", "MKL_CBWR", "MKL_ENABLE_INSTRUCTIONS", "NPY_DISABLE_CPU_FEATURES"),
    *("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "ONEDNN_CPU_ISA_HINTS", "DNNL_CPU_ISA_HINTS"),
    *("ONEDNN_DEFAULT_FPMATH_MODE", "DNNL_DEFAULT_FPMATH_MODE", "OPENBLAS_CORETYPE"),
)


def cores() -> int:
    """Cores that this process may run on, and that its container lets it use."""
    if _LINUX:
        allowed = len(os.sched_getaffinity(0))
        return max(1, min(allowed, int(_cgroup_cores(_cgroup_folders()))))
    return os.cpu_count() or 1


def is_x86() -> bool:
    """Whether this is an x86 processor."""
    return platform.machine().lower() in _X86


def is_x86_without_vnni() -> bool:
    """Whether this is an x86 processor that has no instruction for sums of int8 products.

    Where no file tells, which is on macOS alone, an x86 processor is taken for one.
    """
    if not is_x86():
        return False
    told = Path("/proc/cpuinfo").read_text(encoding="utf-8") if _LINUX else ""
    flags = next((line for line in told.splitlines() if line.startswith("flags")), "")
    return {*flags.split()}.isdisjoint(_VNNI)


def arithmetic() -> str:
    """Return what decides how libraries round sums here: the processor, and what they are told.

    They choose kernels by its vendor, its instructions and its caches. On macOS the processor is
    named by its model; that is NOT TESTED, for it needs a Mac.
    """
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if _LINUX else []
    found = {_named(*line.split(":", 1)) for line in lines if ":" in line}
    if platform.system() == "Darwin":
        command = ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"]
        found = {lifeline.run(command).stdout.strip(), f"macOS {platform.mac_ver()[0]}"}
    told = {f"{name}={os.environ[name]}" for name in _CHOOSING if os.environ.get(name)}
    return "; ".join(sorted({*found, *told} - {""}))


def _named(name: str, value: str) -> str:
    """A line of /proc/cpuinfo as far as it names a processor; "" for any other."""
    name = name.strip()
    words = [word for word in value.split() if name != "flags" or word.startswith(_VECTORS)]
    return f"{name} {' '.join(sorted(words))}" if name in _NAMES else ""


def total_memory_mb() -> int:
    """All memory that this machine has, in MiB."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20


def available_memory_mb() -> int:
    """Memory that can be taken without pushing others out, in MiB."""
    if _LINUX:
        free = _meminfo_mb(Path("/proc/meminfo").read_text(encoding="ascii"))
        return min([free, *(room for folder in _cgroup_folders() for room in _room_mb(folder))])
    # What macOS could free is not told by any file; half of all is a cautious share.
    return total_memory_mb() // 2


def peak_memory_mb() -> float:
    """The largest resident memory that this process ever had, in MiB."""
    if _LINUX:
        # getrusage would count what the parent held when it started this process.
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) / 2**10
    import resource

    # macOS counts in bytes.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def _meminfo_mb(text: str) -> int:
    line = next(line for line in text.splitlines() if line.startswith("MemAvailable:"))
    return int(line.split()[1]) // 2**10


def _cgroup_folders() -> Iterator[Path]:
    """This process's control group and those above it (version 2); each may set a limit."""
    try:
        text = Path("/proc/self/cgroup").read_text(encoding="utf-8")
    except OSError:
        return
    for line in text.splitlines():
        number, _, name = line.partition("::")
        if number == "0":
            folder = _CGROUPS / name.lstrip("/")
            yield from (folder, *(f for f in folder.parents if f.is_relative_to(_CGROUPS)))
    # Version 1, and a container that sees its own group as the root of its memory controller.
    yield _CGROUPS / "memory"


def _room_mb(folder: Path) -> Iterator[int]:
    for limit_file, usage_file in (
        ("memory.max", "memory.current"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes"),
    ):
        limit, usage = _number(folder / limit_file), _number(folder / usage_file)
        if limit is not None and usage is not None:
            # The page cache counts as used but gives way.
            yield max(0, limit - usage + _inactive_file(folder)) // 2**20


def _inactive_file(folder: Path) -> int:
    try:
        lines = (folder / "memory.stat").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("inactive_file ")), 0)


def _cgroup_cores(folders: Iterator[Path]) -> float:
    quotas = []
    for folder in folders:
        try:
            quota, period = (folder / "cpu.max").read_text(encoding="ascii").split()
        except (OSError, ValueError):
            continue
        if quota != "max":
            quotas.append(int(quota) / int(period))
    return min(quotas, default=float(os.cpu_count() or 1))


def _number(path: Path) -> int | None:
    try:
        text = path.read_text(encoding="ascii").strip()
    except OSError:
        return None
    return whole(text)

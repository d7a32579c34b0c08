"""Finds out what is installed, what is missing and what is broken, and how to mend it."""

import platform
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from typing import Final

from packaging.requirements import Requirement

from edgese import machine
from edgese.lifeline import run
from edgese.records.diagnosis import Diagnosis, PackageState
from edgese.store import cache_folder
from edgese.version import __version__

EXTRAS: Final = (
    "train",
    "predict",
    "executorch",
    "coreml",
    "tflite",
    "onnxruntime",
    "vela",
    "qualcomm",
    "imagenet",
)
# What to import where it is not the distribution's own name, or where its top module is empty.
MODULES: Final = {
    "executorch": "executorch.exir",
    "ai-edge-litert": "ai_edge_litert.interpreter",
    "ethos-u-vela": "ethosu.vela.vela",
    "pillow": "PIL.Image",
    "scikit-learn": "sklearn",
}
IMPORT_TIMEOUT_S: Final = 180
# Some of these libraries take half a gigabyte to import.
IMPORTS_AT_ONCE: Final = 2


def diagnose(on_checked: Callable[[PackageState], None] = lambda _: None) -> Diagnosis:
    """Imports every package of every extra in a process of its own and reports what happened.

    Args:
        on_checked: called after each package, from worker threads.
    """

    def check(wanted: tuple[str, Requirement]) -> PackageState:
        state = _check(*wanted)
        on_checked(state)
        return state

    with ThreadPoolExecutor(IMPORTS_AT_ONCE) as pool:
        packages = tuple(pool.map(check, wanted_packages()))
    return Diagnosis(
        edgese=__version__,
        python=f"{platform.python_version()} ({sys.executable})",
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        cpus=machine.cores(),
        memory_mb=machine.total_memory_mb(),
        cache=str(cache_folder()),
        packages=packages,
        notes=tuple(_notes()),
    )


def wanted_packages() -> Iterator[tuple[str, Requirement]]:
    """Each distribution that an extra asks for, once, with the first extra that does.

    "train" comes first, because every target needs what it asks for.
    """
    seen: set[str] = set()
    for extra in EXTRAS:
        for requirement in map(Requirement, metadata.requires("edgese") or ()):
            marker = requirement.marker
            asked = marker is not None and marker.evaluate({"extra": extra})
            if asked and requirement.name not in (*seen, "edgese"):
                seen.add(requirement.name)
                yield extra, requirement


def _check(extra: str, requirement: Requirement) -> PackageState:
    expected = str(requirement.specifier)
    install = f"pip install 'edgese[{extra}]'"
    try:
        found = metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
        return PackageState(
            extra=extra,
            package=requirement.name,
            status="missing",
            expected=expected,
            remedy=install,
        )
    error = _import_error(MODULES.get(requirement.name, requirement.name.replace("-", "_")))
    fits = requirement.specifier.contains(found, prereleases=True)
    return PackageState(
        extra=extra,
        package=requirement.name,
        status="broken" if error else "ok" if fits else "other_version",
        expected=expected,
        found=found,
        remedy=f"pip install --force-reinstall --no-deps '{requirement.name}{expected}'"
        if error
        else ""
        if fits
        else f"pip install '{requirement.name}{expected}'",
        error=error,
    )


def _import_error(module: str) -> str:
    """The last line of what importing ``module`` in a fresh process said; "" where it worked."""
    try:
        outcome = run(
            [sys.executable, "-W", "ignore", "-c", f"import {module}"], timeout_s=IMPORT_TIMEOUT_S
        )
    except subprocess.TimeoutExpired:
        return f"importing it took more than {IMPORT_TIMEOUT_S} s"
    if outcome.returncode == 0:
        return ""
    if outcome.returncode < 0:
        return f"importing it ended in signal {-outcome.returncode}"
    lines = outcome.stderr.strip().splitlines()
    return lines[-1] if lines else f"importing it ended in exit code {outcome.returncode}"


def _notes() -> Iterator[str]:
    if platform.system() != "Darwin":
        yield (
            "Core ML packages are executed by edgese's evaluator here; Core ML itself runs on "
            "Apple systems only."
        )

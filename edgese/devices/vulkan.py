"""Software GPUs: Vulkan drivers that compute on the processor, so that a GPU delegate can be asked.

What a GPU delegate takes, and what its arithmetic does to the numbers, do not hang on the hardware;
its times do, and are never reported. SwiftShader computes in fp32 and is quick to start; lavapipe
has fp16 shaders as phones have, from Mesa 25 on. Both come from Debian 12's packages: the first
from "chromium-common", the second from "mesa-vulkan-drivers" of its backports.
"""

import hashlib
import json
import os
import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from edgese import store
from edgese.devices.sysroot import debian
from edgese.errors import ConfigError, InputError, MissingDependency, StoreError
from edgese.protocols import Progress
from edgese.records.device import SysrootManifest

SETUP: Final = "edgese emulator setup --gpu-only"
SWIFTSHADER: Final = "swiftshader"
LAVAPIPE: Final = "lavapipe"
SYSTEM: Final = "system"
DRIVERS: Final = (SWIFTSHADER, LAVAPIPE, SYSTEM)

_LIBRARIES: Final = {SWIFTSHADER: "libvk_swiftshader.so", LAVAPIPE: "libvulkan_lvp.so"}
# The versions of Vulkan that the packages' own manifests tell.
_API: Final = {SWIFTSHADER: "1.3.0", LAVAPIPE: "1.4.305"}
_LOADER: Final = "libvulkan.so.1"
_CHROMIUM: Final = Path("/usr/lib/chromium")
_MESA: Final = Path("/usr/share/vulkan/icd.d")
# Nothing that the browser needs is needed: two files of this package are.
_ALONE: Final = ("chromium-common",)
_PACKAGES: Final = ("mesa-vulkan-drivers", "libvulkan1")
FROM_CHROMIUM: Final = re.compile(r"/chromium/(libvk_swiftshader\.so|libvulkan\.so\.1)$")
_FROM_MESA: Final = re.compile(
    r"/lib/[^/]+/lib(?!vulkan_|VkLayer)[^/]+\.so[.\d]*$|/libvulkan_lvp\.so$"
)
# Every system that has dpkg has these, and its own programs must find its own.
_AT_HAND: Final = (
    *("gcc-12-base", "libc6", "libgcc-s1", "libstdc++6", "libzstd1"),
    *("liblzma5", "libmd0", "libtinfo6", "zlib1g"),
)
_ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64"}
_ELSEWHERE: Final = (
    "Elsewhere install Mesa 25 or newer (lavapipe) with the system's own tools; it is found."
)


@dataclass(frozen=True, slots=True)
class Driver:
    """A Vulkan driver.

    Attributes:
        name: as in `DRIVERS`; "system" is whatever the system's loader chooses, a GPU among others.
        manifest: the driver's own JSON file; None for the system's choice.
        libraries: folder with the loader and what the driver needs; None where the system has it.
    """

    name: str
    manifest: Path | None = None
    libraries: Path | None = None

    def environment(self, inherited: Mapping[str, str]) -> dict[str, str]:
        """The variables of a process that sees this driver and no other."""
        variables = dict(inherited)
        if self.manifest is not None:
            # The first is the old name, which loaders before 1.3.207 know.
            variables |= dict.fromkeys(("VK_ICD_FILENAMES", "VK_DRIVER_FILES"), str(self.manifest))
        if self.libraries is not None:
            before = variables.get("LD_LIBRARY_PATH")
            variables["LD_LIBRARY_PATH"] = ":".join(filter(None, (str(self.libraries), before)))
        return variables


def folder() -> Path:
    """Where the drivers are kept."""
    return store.cache_folder() / "vulkan"


def key() -> str:
    """Names what the drivers are made from."""
    text = f"{_ALONE} {_PACKAGES} {_AT_HAND} {FROM_CHROMIUM} {_FROM_MESA} {platform.machine()}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def find(name: str) -> Driver | None:
    """A driver by name: what was set up before what the system has; None where neither is there.

    Raises:
        ConfigError: there is no driver of that name.
    """
    if name not in DRIVERS:
        raise ConfigError(
            f"There is no Vulkan driver named {name!r}.", hint=f"Known: {', '.join(DRIVERS)}."
        )
    if name == SYSTEM:
        return Driver(name)
    manifest = folder() / f"{name}.json"
    if manifest.is_file() and _read() is not None:
        return Driver(name, manifest, folder() / name)
    return _installed(name)


def required(name: str) -> Driver:
    """A driver by name.

    Raises:
        ConfigError: there is no driver of that name.
        MissingDependency: it is not there; the hint is the command.
    """
    found = find(name)
    if found is None:
        raise MissingDependency(f"The software GPU {name} is not set up here.", hint=SETUP)
    return found


def setup(progress: Progress) -> tuple[Driver, ...]:
    """Makes both drivers in the user's cache, or mends them; what is whole already stays.

    Fetches 90 MB and keeps them, 0.3 GB when unpacked; no root is needed and nothing is installed.

    Raises:
        ConfigError: Debian's packages cannot be fetched on this system.
        MissingDependency: Debian's keys are not installed.
        StoreError: a file that was fetched is not the right one.
        OutputError: something could not be fetched, or the cache cannot be written.
    """
    store.writable_folder(folder())
    with store.locked(
        folder(), name="setup.lock", on_wait=lambda: progress("wait for another set-up", 0.0)
    ):
        if _read() is None or faults():
            debian.check(_ELSEWHERE)
            architecture = _ARCHITECTURES.get(platform.machine())
            if architecture is None:
                raise ConfigError(
                    f"There are no packages of software GPUs for {platform.machine()}.",
                    hint=f"There are for {', '.join(_ARCHITECTURES)}.",
                )
            _make(architecture, progress)
    progress("done", 1.0)
    return required(SWIFTSHADER), required(LAVAPIPE)


def faults() -> list[str]:
    """Hashes every file; a sentence for each that is not what was set up.

    Raises:
        MissingDependency: nothing was set up.
    """
    manifest = _read()
    if manifest is None:
        raise MissingDependency(f"There are no software GPUs in {folder()}.", hint=SETUP)
    found = _fingerprints()
    return [
        f"{name} {'is missing' if name not in found else 'was changed'}"
        for name, value in manifest.files.items()
        if found.get(name) != value
    ]


def versions() -> dict[str, str]:
    """Versions of Debian's packages that the drivers come from; empty where none was set up."""
    manifest = _read()
    return {} if manifest is None else manifest.packages


def _read() -> SysrootManifest | None:
    path = folder() / "vulkan.json"
    if not path.is_file():
        return None
    try:
        manifest = store.read_record(SysrootManifest, path, remake=SETUP)
    except (InputError, StoreError):
        # Truncated, or of another schema: it is made again.
        return None
    return manifest if manifest.key == key() else None


def _installed(name: str) -> Driver | None:
    """A driver that the system's own packages brought."""
    if name == LAVAPIPE:
        manifests = sorted(_MESA.glob("lvp_icd*.json"))
        return Driver(name, manifests[0]) if manifests else None
    library = _CHROMIUM / _LIBRARIES[name]
    if not library.is_file() or not os.access(library, os.R_OK):
        return None
    # Chromium has no manifest for it, because it loads it itself.
    manifest = folder() / f"installed-{name}.json"
    text = _manifest(name, library)
    if not manifest.is_file() or manifest.read_text(encoding="ascii") != text:
        with store.staging(manifest) as (part,):
            part.write_text(text, encoding="ascii")
    return Driver(name, manifest, _CHROMIUM)


def _manifest(name: str, library: Path) -> str:
    described = {"library_path": str(library), "api_version": _API[name]}
    return json.dumps({"file_format_version": "1.0.0", "ICD": described}) + "\n"


def _make(architecture: str, progress: Progress) -> None:
    downloads = folder() / "downloads"
    parts = {name: folder() / f"{name}.partial" for name in (SWIFTSHADER, LAVAPIPE)}
    with store.writing(folder()):
        for part in parts.values():
            store.remove(part)
            part.mkdir()
        downloads.mkdir(exist_ok=True)
    progress("fetch the software GPUs' packages (90 MB)", 0.05)
    fetched = debian.download(
        _PACKAGES,
        downloads,
        release=debian.BACKPORTS,
        alone=_ALONE,
        architecture=architecture,
    )
    progress("unpack the software GPUs", 0.8)
    with store.writing(folder()):
        for name in sorted(fetched):
            package = debian.package_of(Path(name))
            if package in _ALONE:
                debian.extract(downloads / name, FROM_CHROMIUM, parts[SWIFTSHADER])
            elif package not in _AT_HAND:
                debian.extract(downloads / name, _FROM_MESA, parts[LAVAPIPE])
        for name, part in parts.items():
            for needed in (_LIBRARIES[name], _LOADER):
                if not (part / needed).exists():
                    raise StoreError(
                        f"Debian's packages have no {needed} for {name} where edgese looks for it.",
                        hint="Please report it.",
                    )
            store.remove(folder() / "vulkan.json")
            store.remove(folder() / name)
            part.rename(folder() / name)
            (folder() / f"{name}.json").write_text(
                _manifest(name, folder() / name / _LIBRARIES[name]), encoding="ascii"
            )
    progress("hash all files", 0.95)
    files = _fingerprints()
    manifest = SysrootManifest(
        key=key(),
        digest=hashlib.sha256(json.dumps(sorted(files.items())).encode()).hexdigest(),
        versions={},
        packages=dict(sorted(map(_version_of, fetched))),
        downloads=fetched,
        files=files,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    store.write_record(manifest, folder() / "vulkan.json")


def _version_of(file: str) -> tuple[str, str]:
    package, version, _ = file.split("_", 2)
    return package, version.replace("%3a", ":")


def _fingerprints() -> dict[str, str]:
    found = {}
    for name in (SWIFTSHADER, LAVAPIPE):
        for path in sorted((folder() / name).iterdir()) if (folder() / name).is_dir() else ():
            link = path.is_symlink()
            value = f"-> {path.readlink()}" if link else store.sha256_of(path)
            found[f"{name}/{path.name}"] = value
    return found

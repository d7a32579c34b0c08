"""Makes the sysroot: fetch, unpack, hash, and only then say that it is there."""

import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from edgese import store
from edgese.devices.sysroot import bundle, debian, wheels
from edgese.devices.sysroot.bundle import EXECUTORCH_SITE, SITE, Sysroot
from edgese.errors import InputError
from edgese.protocols import Progress
from edgese.records.device import SysrootManifest

_PARTIAL: Final = "root.partial"
_KEEP: Final = ("bin", "etc", "lib", "lib64", "sbin", "usr")
_UNUSED_AT_HAND: Final = ("usr/share", "usr/src", "usr/include", "usr/games", "usr/local")


def setup(progress: Progress, *, system: Path | None = None, executorch: bool = False) -> Sysroot:
    """Makes the sysroot in the user's cache, or mends it; what is whole already stays.

    Everything that is fetched is kept, so that an interrupted set-up goes on where it was, and one
    that was damaged is mended without the network. Takes 0.3 GB, with ExecuTorch 1.5 GB.

    Args:
        system: an unpacked arm64 file system with /usr/bin/python3.11, to take instead of Debian's
            packages where apt is not at hand.
        executorch: also ExecuTorch, which brings torch.

    Raises:
        ConfigError: Debian's packages cannot be fetched on this system.
        MissingDependency: pip or Debian's keys are missing.
        InputError: ``system`` is not what it should be.
        StoreError: a file that was fetched is not the right one.
        OutputError: something could not be fetched, or the cache cannot be written.
    """
    store.writable_folder(bundle.folder())
    with store.locked(
        bundle.folder(),
        name="setup.lock",
        on_wait=lambda: progress("wait for another set-up", 0.0),
    ):
        executorch = executorch or bundle.read(EXECUTORCH_SITE) is not None
        if system is not None or _damaged(SITE, progress):
            try:
                _make_base(system, progress)
            finally:
                store.remove(bundle.folder() / _PARTIAL)
        if executorch and _damaged(EXECUTORCH_SITE, progress):
            _make_executorch(progress)
    progress("done", 1.0)
    return bundle.required()


def _damaged(site: str, progress: Progress) -> bool:
    if bundle.read(site) is None:
        return True
    progress("verify what is there", 0.0)
    return bool(bundle.faults(site))


def _make_base(system: Path | None, progress: Progress) -> None:
    part = bundle.folder() / _PARTIAL
    downloads = bundle.folder() / "downloads"
    with store.writing(bundle.folder()):
        store.remove(part)
        for name in ("debian", "wheels"):
            (downloads / name).mkdir(parents=True, exist_ok=True)
        part.mkdir()
    fetched: dict[str, str] = {}
    packages: dict[str, str] = {}
    if system is None:
        debian.check()
        progress("fetch Debian's arm64 packages", 0.05)
        fetched |= debian.download(bundle.DEBIAN_PACKAGES, downloads / "debian")
        progress("unpack Debian's arm64 packages", 0.25)
        packages = debian.unpack([downloads / "debian" / name for name in sorted(fetched)], part)
    else:
        progress(f"copy {system}", 0.05)
        copy_system(system, part)
    progress("fetch the runtimes' aarch64 wheels", 0.35)
    fetched |= wheels.download(bundle.BASE_WHEELS, downloads / "wheels")
    progress("unpack the runtimes' aarch64 wheels", 0.6)
    with store.writing(part):
        wheels.unpack(bundle.BASE_WHEELS, downloads / "wheels", part / SITE)
    progress("hash all files", 0.8)
    manifest = _manifest(SITE, part, fetched, packages)
    with store.writing(bundle.folder()):
        # Whoever reads meanwhile finds no manifest, or one that is true.
        for site in (SITE, EXECUTORCH_SITE):
            store.remove(bundle.manifest_path(site))
        store.remove(bundle.root())
        part.rename(bundle.root())
    store.write_record(manifest, bundle.manifest_path(SITE))


def _make_executorch(progress: Progress) -> None:
    downloads = bundle.folder() / "downloads/executorch"
    site = bundle.root() / EXECUTORCH_SITE
    with store.writing(bundle.folder()):
        downloads.mkdir(parents=True, exist_ok=True)
        store.remove(bundle.manifest_path(EXECUTORCH_SITE))
        store.remove(site)
    progress("fetch ExecuTorch and torch for aarch64 (0.2 GB)", 0.82)
    fetched = wheels.download(bundle.EXECUTORCH_WHEELS, downloads)
    progress("unpack ExecuTorch and torch", 0.9)
    with store.writing(site):
        wheels.unpack(bundle.EXECUTORCH_WHEELS, downloads, site)
    progress("hash all files", 0.95)
    manifest = _manifest(EXECUTORCH_SITE, bundle.root(), fetched, {})
    store.write_record(manifest, bundle.manifest_path(EXECUTORCH_SITE))


def _manifest(
    site: str, root: Path, downloads: dict[str, str], packages: dict[str, str]
) -> SysrootManifest:
    lock = bundle.EXECUTORCH_WHEELS if site == EXECUTORCH_SITE else bundle.BASE_WHEELS
    files = bundle.fingerprints(root, site)
    return SysrootManifest(
        key=bundle.key(site),
        digest=bundle.digest_of(files),
        versions=wheels.pins(lock.read_text(encoding="utf-8")),
        packages=packages,
        downloads=downloads,
        files=files,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def copy_system(system: Path, root: Path) -> None:
    """Copies what programs need of an unpacked arm64 file system."""
    for name in (bundle.PYTHON, bundle.LOADER, *bundle.LIBRARIES):
        if not (system / name).exists():
            raise InputError(
                f"{system} is not an arm64 file system with Python 3.11: there is no /{name}.",
                hint="Unpack one of Debian 12 there, with the packages "
                f"{' '.join(bundle.DEBIAN_PACKAGES)}.",
            )
    if (system / bundle.PYTHON).read_bytes()[18:20] != b"\xb7\x00":
        raise InputError(
            f"{system}/{bundle.PYTHON} is not a program for 64-bit ARM.",
            hint="Take the file system of an arm64 machine or container.",
        )
    with store.writing(root):
        for name in _KEEP:
            if (system / name).is_symlink():
                (root / name).symlink_to((system / name).readlink())
            elif (system / name).is_dir():
                shutil.copytree(system / name, root / name, symlinks=True)
        for name in _UNUSED_AT_HAND:
            store.remove(root / name)
    debian.enclose(root)

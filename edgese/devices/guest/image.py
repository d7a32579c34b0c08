"""Makes what the guest starts from: Debian's kernel for ARM, and a small system with adbd."""

import hashlib
import lzma
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from edgese import store
from edgese.devices.guest.archive import write_archive
from edgese.devices.sysroot import debian
from edgese.errors import InputError, MissingDependency, StoreError
from edgese.protocols import Progress
from edgese.records.device import SysrootManifest

SETUP: Final = "edgese emulator setup --guest"
KERNEL: Final = "vmlinuz"
ARCHIVE: Final = "initrd.cpio.gz"
# Debian 12 has adbd in its backports alone.
PACKAGES: Final = ("adbd", "busybox-static")
_KERNEL_PACKAGE: Final = "linux-image-cloud-arm64"
# In the order in which they need each other.
_MODULES: Final = ("failover", "net_failover", "virtio_net")
_INIT: Final = Path(__file__).with_name("init.sh")
_GETPROP: Final = Path(__file__).with_name("getprop.sh")
_NOT_NEEDED: Final = ("systemd", "lib/systemd", "usr/lib/systemd", "boot", "lib/modules")


def folder() -> Path:
    """Where the image is made and found."""
    return store.cache_folder() / "guest-arm64"


def key() -> str:
    """Names what the image is made from."""
    text = f"{PACKAGES} {_KERNEL_PACKAGE} {store.sha256_of(_INIT)} {store.sha256_of(_GETPROP)}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def required() -> Path:
    """The folder with a complete image.

    Raises:
        MissingDependency: it was not set up; the hint is the command.
    """
    if _faults():
        raise MissingDependency(f"There is no guest's image in {folder()}.", hint=SETUP)
    return folder()


def setup(progress: Progress) -> Path:
    """Makes the image in the user's cache, or mends it; what is whole already stays.

    Raises:
        ConfigError: Debian's packages cannot be fetched on this system.
        MissingDependency: Debian's keys are not installed.
        StoreError: a file that was fetched is not the right one.
        OutputError: something could not be fetched, or the cache cannot be written.
    """
    store.writable_folder(folder())
    with store.locked(folder(), name="setup.lock"):
        if _faults():
            debian.check()
            root = folder() / "root.partial"
            try:
                _make(root, progress)
            finally:
                store.remove(root)
    progress("done", 1.0)
    return required()


def _make(root: Path, progress: Progress) -> None:
    downloads = folder() / "downloads"
    with store.writing(folder()):
        store.remove(root)
        downloads.mkdir(exist_ok=True)
        root.mkdir()
    progress("fetch a kernel and adbd for arm64", 0.05)
    found = debian.download(PACKAGES, downloads, release=debian.BACKPORTS, kernel=_KERNEL_PACKAGE)
    progress("unpack the kernel and adbd", 0.4)
    with store.writing(folder()):
        packages = debian.unpack([downloads / name for name in sorted(found)], root)
        _arrange(root)
        progress("pack the guest's system", 0.7)
        write_archive(root, folder() / ARCHIVE)
    manifest = SysrootManifest(
        key=key(),
        digest=store.sha256_of(folder() / ARCHIVE),
        versions={},
        packages=packages,
        downloads=found,
        files={name: store.sha256_of(folder() / name) for name in (KERNEL, ARCHIVE)},
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    store.write_record(manifest, folder() / "guest.json")


def _arrange(root: Path) -> None:
    """Makes of unpacked packages what the kernel can start."""
    (kernel,) = (root / "boot").glob("vmlinuz-*")
    shutil.copyfile(kernel, folder() / KERNEL)
    modules = root / "modules"
    modules.mkdir()
    for number, name in enumerate(_MODULES):
        (module,) = (root / "lib/modules").rglob(f"{name}.ko*")
        content = module.read_bytes()
        unpacked = lzma.decompress(content) if module.suffix == ".xz" else content
        (modules / f"{number}-{name}.ko").write_bytes(unpacked)
    for name in _NOT_NEEDED:
        store.remove(root / name)
    for name in ("dev", "proc", "sys", "tmp", "run", "data/local/tmp", "bin"):
        (root / name).mkdir(parents=True, exist_ok=True)
    for source, name in ((_INIT, "init"), (_GETPROP, "bin/getprop")):
        shutil.copyfile(source, root / name)
        (root / name).chmod(0o755)


def _faults() -> bool:
    """Whether the image is missing, of another making, or changed."""
    if not (folder() / "guest.json").is_file():
        return True
    try:
        manifest = store.read_record(SysrootManifest, folder() / "guest.json", remake=SETUP)
        files = {name: store.sha256_of(folder() / name) for name in manifest.files}
    except (InputError, StoreError, OSError):
        return True
    return manifest.key != key() or files != manifest.files

"""The sysroot as it lies on disk: found, named by its hash, checked."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from edgese import store
from edgese.errors import InputError, MissingDependency, StoreError
from edgese.records.device import SysrootManifest

LOADER: Final = "lib/ld-linux-aarch64.so.1"
LIBRARIES: Final = ("lib/aarch64-linux-gnu", "usr/lib/aarch64-linux-gnu")
PYTHON: Final = "usr/bin/python3.11"
HOME: Final = "usr"
SITE: Final = "opt/site"
EXECUTORCH_SITE: Final = "opt/executorch"
SETUP: Final = "edgese emulator setup"

_HERE: Final = Path(__file__).parent
BASE_WHEELS: Final = _HERE / "wheels.txt"
EXECUTORCH_WHEELS: Final = _HERE / "executorch.txt"
# Debian 12 has Python 3.11, which all these wheels exist for, and the oldest glibc that they take.
DEBIAN_PACKAGES: Final = ("python3.11-minimal", "libpython3.11-stdlib", "libstdc++6", "libgomp1")


@dataclass(frozen=True, slots=True)
class Sysroot:
    """A complete sysroot.

    Attributes:
        root: folder that plays "/".
        python, loader, home: paths relative to it: the interpreter, the program that starts it
            where no ARM system does, and PYTHONHOME.
        libraries: folders for the loader's --library-path, relative to it.
        site: folders for PYTHONPATH, relative to it.
        versions: of the Python packages in them, the runtimes among them.
        digest: hash over all its files; a copy elsewhere is named after it.
    """

    root: Path
    python: str
    loader: str
    home: str
    libraries: tuple[str, ...]
    site: tuple[str, ...]
    versions: dict[str, str]
    digest: str


def folder() -> Path:
    """Where the sysroot is made and found."""
    return store.cache_folder() / "sysroot-arm64"


def root() -> Path:
    """The folder that plays "/"."""
    return folder() / "root"


def manifest_path(site: str) -> Path:
    """The manifest of the base (`SITE`), or of ExecuTorch's part (`EXECUTORCH_SITE`)."""
    return folder() / ("executorch.json" if site == EXECUTORCH_SITE else "sysroot.json")


def key(site: str) -> str:
    """Names what a part is made from; another key means that it must be made again."""
    lock = EXECUTORCH_WHEELS if site == EXECUTORCH_SITE else BASE_WHEELS
    packages = () if site == EXECUTORCH_SITE else DEBIAN_PACKAGES
    return hashlib.sha256(" ".join(packages).encode() + lock.read_bytes()).hexdigest()[:16]


def read(site: str) -> SysrootManifest | None:
    """The manifest of a part that is complete and that this edgese asks for."""
    path = manifest_path(site)
    if not path.is_file():
        return None
    try:
        manifest = store.read_record(SysrootManifest, path, remake=SETUP)
    except (InputError, StoreError):
        # Truncated, or of another schema: it is made again.
        return None
    return manifest if manifest.key == key(site) else None


def find() -> Sysroot | None:
    """The sysroot, if it was set up; its files are not hashed here (see `faults`)."""
    base = read(SITE)
    if base is None or not (root() / PYTHON).is_file():
        return None
    more = read(EXECUTORCH_SITE)
    return Sysroot(
        root=root(),
        python=PYTHON,
        loader=LOADER,
        home=HOME,
        libraries=LIBRARIES,
        site=(SITE, EXECUTORCH_SITE) if more else (SITE,),
        versions=base.versions | (more.versions if more else {}),
        digest=hashlib.sha256((base.digest + (more.digest if more else "")).encode()).hexdigest(),
    )


def required() -> Sysroot:
    """The sysroot.

    Raises:
        MissingDependency: it was not set up; the hint is the command.
    """
    found = find()
    if found is None:
        raise MissingDependency(
            f"There is no sysroot with ARM's Python and runtimes in {folder()}.", hint=SETUP
        )
    return found


def fingerprints(top: Path, site: str) -> dict[str, str]:
    """SHA-256 of every file of a part by its path under ``top``; "-> target" for a link."""
    found = {}
    for path in _walk(top):
        name = path.relative_to(top).as_posix()
        if (EXECUTORCH_SITE in (name, *map(str, PurePosixPath(name).parents))) == (
            site == EXECUTORCH_SITE
        ):
            link = path.is_symlink()
            found[name] = f"-> {path.readlink()}" if link else store.sha256_of(path)
    return found


def digest_of(files: dict[str, str]) -> str:
    """One hash for many."""
    text = "".join(f"{name}\0{value}\n" for name, value in sorted(files.items()))
    return hashlib.sha256(text.encode()).hexdigest()


def faults(site: str = SITE) -> list[str]:
    """Hashes every file of a part; a sentence for each that is not what was set up.

    Raises:
        MissingDependency: the part was not set up.
    """
    manifest = read(site)
    if manifest is None:
        raise MissingDependency(f"{manifest_path(site)} is missing or outdated.", hint=SETUP)
    found = fingerprints(root(), site)
    return [
        f"{name} {'is missing' if name not in found else 'was changed'}"
        for name, value in manifest.files.items()
        if found.get(name) != value
    ] + [f"{name} does not belong there" for name in sorted(set(found) - set(manifest.files))]


def _walk(top: Path) -> Iterator[Path]:
    for path in sorted(top.iterdir()):
        if path.is_dir() and not path.is_symlink():
            yield from _walk(path)
        else:
            yield path

"""Files on disk: hashes, publication in one step, locks, and records that carry a schema.

A reader never sees half a file: what is written goes to a temporary neighbour under the folder's
lock and takes its name when it is complete. Temporary neighbours exist under that lock alone, so
one that is found by whoever takes it was left by a process that died, and is removed.
"""

import errno
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeVar

import msgspec
import platformdirs

from edgese import bounds
from edgese.errors import InputError, OutputError, StoreError, stage
from edgese.records.artifact import Manifest
from edgese.records.base import Record
from edgese.seals import check_seal

CACHE_VARIABLE: Final = "EDGESE_CACHE_DIR"
LOCK: Final = ".edgese.lock"
PARTIAL: Final = ".edgese-partial"

# What the operating system says of a place that cannot be written, and what to do about it.
_REFUSALS: Final = {
    errno.ENOSPC: ("the disk is full", "Free some space, or name another place."),
    errno.EDQUOT: ("the disk quota is used up", "Free some space, or name another place."),
    errno.EFBIG: ("the file system takes no file of that size", "Name another place."),
    errno.EACCES: ("permission is denied", "Name a place that you may write to."),
    errno.EPERM: ("the operation is not permitted", "Name a place that you may write to."),
    errno.EROFS: ("the file system is read-only", "Name a place that you may write to."),
    errno.ENOTDIR: ("a part of it is a file, not a folder", "Name a folder, or remove the file."),
    errno.EEXIST: ("it is a file, not a folder", "Name a folder, or remove the file."),
    errno.EISDIR: ("a folder is in the way", "Remove the folder, or name another place."),
    errno.ENAMETOOLONG: ("the name is too long", "Name a shorter one."),
    errno.ELOOP: ("its links lead in a circle", "Name another place."),
    errno.EINVAL: ("the file system does not take that name", "Name another place."),
    errno.EILSEQ: ("the file system does not take that name", "Name another place."),
    errno.EBUSY: ("it is in use", "Name another place, or wait."),
    errno.ETXTBSY: ("it is a program that runs", "Name another place, or wait."),
    errno.EMFILE: ("too many files are open", "Raise the limit: `ulimit -n`."),
    errno.ENFILE: ("too many files are open", "Close other programs."),
    errno.EIO: ("the disk reports an error", "Check the disk, or name another place."),
    errno.ESTALE: ("the file server lost it", "Try again, or name another place."),
    errno.ETIMEDOUT: ("the file server does not answer", "Try again, or name another place."),
    errno.ENODEV: ("the device is gone", "Name another place."),
    errno.ENXIO: ("the device is gone", "Name another place."),
}

AnyRecord = TypeVar("AnyRecord", bound=Record)


def cache_folder() -> Path:
    """Where everything lies that can be made again: ``$EDGESE_CACHE_DIR``, or the user's cache."""
    return Path(os.environ.get(CACHE_VARIABLE) or platformdirs.user_cache_dir("edgese"))


@contextmanager
def writing(place: Path) -> Iterator[None]:
    """Turns the system's refusals to write at or below ``place`` into an OutputError."""
    try:
        yield
    except OSError as error:
        if error.errno not in _REFUSALS:
            raise
        reason, remedy = _REFUSALS[error.errno]
        # Of a rename, the second name is where it would have led; of a copy, a temporary one.
        if error.filename2 and PARTIAL not in str(error.filename2):
            place = Path(error.filename2)
        raise OutputError(f"{place} cannot be written: {reason}.", hint=remedy) from error


def writable_folder(folder: Path) -> None:
    """Makes ``folder`` where it is missing, and tries it before any work is put into its contents.

    Raises:
        OutputError: it cannot be made, or nothing can be written in it.
    """
    with writing(folder), staging(folder / "probe") as (probe,):
        # A full disk often still takes an empty file.
        probe.write_bytes(bytes(4096))
        probe.unlink()


def writable_file(path: Path) -> None:
    """Tries the place of a file before any work is put into its contents.

    Raises:
        OutputError: it is a folder, or its folder cannot be made or written.
    """
    with writing(path):
        is_folder = path.is_dir()
    if is_folder:
        raise OutputError(f"{path} is a folder, not a file.", hint="Name a file in it.")
    writable_folder(path.parent)


def make_folder(folder: Path) -> None:
    """Makes ``folder`` and what is missing above it.

    Raises:
        OutputError: it cannot be made.
    """
    try:
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
    except FileNotFoundError as error:
        # Such as /proc, which says that what cannot be made does not exist.
        raise OutputError(
            f"{folder} cannot be made there.", hint="Name a place that you may write to."
        ) from error


@contextmanager
def locked(
    folder: Path, *, name: str = LOCK, on_wait: Callable[[], None] | None = None
) -> Iterator[None]:
    """Holds a lock file in ``folder``, which is made where it is missing.

    Args:
        on_wait: called once where another process holds the lock, before waiting for it.
    """
    from filelock import FileLock, Timeout

    make_folder(folder)
    path = folder / name
    lock = FileLock(path)
    with writing(folder):
        try:
            lock.acquire(timeout=0)
        except Timeout:
            if on_wait is not None:
                on_wait()
            lock.acquire()
    try:
        yield
    finally:
        # Removed while it is held: whoever waits finds that its file has lost its name, and opens
        # the next one. No lock file stays behind in a user's folder.
        path.unlink(missing_ok=True)
        lock.release()


@contextmanager
def staging(*finals: Path) -> Iterator[tuple[Path, ...]]:
    """Temporary places that become ``finals`` when the block ends well, and vanish otherwise.

    All lie in one folder, whose lock is held meanwhile. The first is what counts, the others
    describe it: they are withdrawn before it changes, so that no reader finds a description of
    something else. A place that the block leaves empty keeps its old contents.

    Raises:
        OutputError: the folder cannot be written, or the disk is full.
    """
    folder = finals[0].parent
    partials = tuple(folder / f".{final.name}{PARTIAL}" for final in finals)
    with writing(folder), locked(folder):
        _sweep(folder)
        try:
            yield partials
            written = [pair for pair in zip(partials, finals, strict=True) if pair[0].exists()]
            for _, final in written[1:]:
                remove(final)
            for partial, final in written:
                _replace(partial, final)
        finally:
            _sweep(folder)


def _replace(partial: Path, final: Path) -> None:
    # A rename replaces a file or an empty folder, but not a folder with contents.
    if partial.is_dir() and final.is_dir():
        aside = final.with_name(f".{final.name}.old{PARTIAL}")
        final.rename(aside)
    partial.replace(final)


def _sweep(folder: Path) -> None:
    for path in folder.glob(f".*{PARTIAL}"):
        remove(path)


def remove(path: Path) -> None:
    """Removes a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def copy(source: Path, dest: Path) -> None:
    """Copies a file or a folder to a name that does not exist yet.

    Raises:
        InputError: there is something else than regular files and folders.
        FileNotFoundError: it is gone.
    """
    # One that is gone is another error than one of a wrong kind.
    source.stat()
    if not source.is_dir():
        bounds.opened(source, "file").close()
        shutil.copyfile(source, dest)
        return
    dest.mkdir()
    # shutil.copytree goes on after an error, and what it raises in the end has no error number.
    for path in sorted(source.rglob("*")):
        inside = dest / path.relative_to(source)
        if path.is_dir():
            inside.mkdir()
        else:
            copy(path, inside)


def sha256_of(path: Path) -> str:
    """The hash of a file, or of a folder: over its files' sorted relative names and hashes.

    Raises:
        InputError: it cannot be read, or a folder has links, pipes or devices.
    """
    if not path.is_dir():
        with bounds.opened(path, "file") as file, stage(f"read {path}"):
            return hashlib.file_digest(file, "sha256").hexdigest()
    digest = hashlib.sha256()
    for inside in path.rglob("*"):
        # What a link leads to would be read with the folder, and could change under its hash.
        if inside.is_symlink() or not (inside.is_file() or inside.is_dir()):
            raise InputError(
                f"{inside} is neither a file nor a folder, and {path} has to be made of these.",
                hint="Copy it with `cp -RL`, which copies what links lead to.",
            )
    for file_path in _files(path):
        name = file_path.relative_to(path).as_posix()
        digest.update(f"{name}\0{sha256_of(file_path)}\n".encode())
    return digest.hexdigest()


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    if not path.is_dir():
        return path.stat().st_size
    return sum(file.stat().st_size for file in _files(path))


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def write_record(record: Record, path: Path) -> None:
    """Writes a record as JSON, in one step."""
    write_text(record.to_json() + "\n", path)


def write_text(text: str, path: Path) -> None:
    """Writes a text in one step."""
    with staging(path) as (partial,):
        partial.write_text(text, encoding="utf-8")


class _Versioned(msgspec.Struct):
    """The one key that is read before all others."""

    schema: int


def read_record(kind: type[AnyRecord], path: Path, *, remake: str) -> AnyRecord:
    """Reads a record that carries a schema.

    Args:
        remake: the command that makes such a file, for the hint.

    Raises:
        InputError: it is missing, or not such a record.
        StoreError: it has an older or a newer schema than this edgese reads.
    """
    text = bounds.content(path, "file", bounds.JSON_BYTES, hint=f"`{remake}` makes it.")
    return decode_record(kind, text, path, remake=remake)


def decode_record(kind: type[AnyRecord], text: bytes, path: Path, *, remake: str) -> AnyRecord:
    """As `read_record`, from the contents of the file."""
    current = next(f.default for f in msgspec.structs.fields(kind) if f.name == "schema")
    again = f"It may be truncated; `{remake}` makes it again."
    with stage(f"read {path} as a {kind.__name__}", hint=again):
        try:
            found = msgspec.json.decode(text, type=_Versioned).schema
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise InputError(
                f"{path} is not a readable {kind.__name__}: {error}.", hint=again
            ) from error
    if found < current:
        raise StoreError(
            f"{path} has schema {found}, from an older edgese; this one reads schema {current}.",
            hint=f"Make it again: `{remake}`.",
        )
    if found > current:
        raise StoreError(
            f"{path} has schema {found}, from a newer edgese; this one reads schema {current}.",
            hint="Upgrade: `pip install --upgrade edgese`.",
        )
    return kind.from_json(text, path)


def read_sealed(kind: type[AnyRecord], path: Path, *, remake: str) -> AnyRecord:
    """Reads a record that must be as it was when it was sealed; arguments as `read_record`.

    Raises:
        InputError: it is missing, not such a record, or has no seal.
        StoreError: it was changed since it was written, or its schema is another.
    """
    found = read_record(kind, path, remake=remake)
    check_seal(found, path, remake)
    return found


def manifest_path(artifact: Path) -> Path:
    """Where the manifest of an artifact stands: beside it, with ".json" appended to its name."""
    return artifact.with_name(f"{artifact.name}.json")


def read_manifest(artifact: Path) -> Manifest:
    """The manifest of an artifact, which must be the very one that it describes.

    Raises:
        InputError: the artifact or its manifest is missing or not readable.
        StoreError: one of the two changed since, or the manifest's schema is another.
    """
    remake = "edgese convert MODEL --target TARGET"
    if not artifact.exists():
        raise InputError(f"There is no artifact {artifact}.", hint=f"`{remake}` makes one.")
    if not manifest_path(artifact).exists():
        raise InputError(
            f"{artifact} has no manifest: {manifest_path(artifact).name} is not beside it. edgese "
            "reads only artifacts that it made, because the manifest holds their preprocessing, "
            "interface and labels.",
            hint=f"Copy the manifest beside it, or make the artifact with `{remake}`.",
        )
    manifest = read_sealed(Manifest, manifest_path(artifact), remake=remake)
    # Before its hash: whatever stands there may be large.
    if size_of(artifact) != manifest.size_bytes:
        raise StoreError(
            f"{artifact} is not what its manifest describes: it has {size_of(artifact)} bytes, the "
            f"manifest says {manifest.size_bytes}.",
            hint=f"Convert it again: `{remake}`.",
        )
    found = sha256_of(artifact)
    if found != manifest.sha256:
        raise StoreError(
            f"{artifact} is not what its manifest describes: its hash is {found[:12]}..., "
            f"the manifest says {manifest.sha256[:12]}....",
            hint=f"Convert it again: `{remake}`.",
        )
    return manifest

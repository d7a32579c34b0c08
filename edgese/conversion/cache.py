"""Results of earlier conversions, found again by what they depend on.

The place is ``$EDGESE_CACHE_DIR``, or the user's cache folder::

    artifacts/<key>/<artifact>, manifest.json and bound
    programs/<key>/exported.program, reference.npz, program.json and bound
    work/<key>/         a conversion that runs now, and its lock

An entry's last file, ``bound``, has a hash over its key and its record, whose own hashes are those
of the files. An entry that fails is removed and made again. That finds damage, and not who wrote an
entry: reading one executes nothing in any case.
"""

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final, Literal

from edgese import store
from edgese.bounds import content
from edgese.errors import ConfigError, InputError, OutputError, StoreError
from edgese.program.storage import PROGRAM, REFERENCE
from edgese.records.artifact import Manifest
from edgese.records.conversion import CacheEntry, ProgramRecord
from edgese.seals import sealed

_MANIFEST: Final = "manifest.json"
_PROGRAM_RECORD: Final = "program.json"
_BOUND: Final = "bound"
_BOUND_BYTES: Final = 64
_DAY_S: Final = 86400
_KINDS: Final[tuple[Literal["artifact", "program"], ...]] = ("artifact", "program")


class _InUseError(Exception):
    """Another process works there."""


@contextmanager
def workplace(root: Path, key: str, on_wait: Callable[[], None] | None = None) -> Iterator[Path]:
    """An empty folder for one conversion, which is removed at the end however it ends.

    Its lock keeps a second conversion of the same program waiting until the first is done, and
    tells a folder in use from one that a killed process left; those are removed here.

    Raises:
        OutputError: the cache folder cannot be written.
    """
    with _told_as_cache(), store.locked(root / "work", name=f"{key}.lock", on_wait=on_wait):
        folder = root / "work" / key
        _sweep(root, but=folder)
        store.remove(folder)
        with store.writing(folder):
            folder.mkdir()
        try:
            yield folder
        finally:
            store.remove(folder)


@contextmanager
def _told_as_cache() -> Iterator[None]:
    """An OutputError of a place that nobody named says whose it is."""
    try:
        yield
    except OutputError as error:
        raise OutputError(
            error.message,
            hint=f"{error.hint} It is the cache's: ${store.CACHE_VARIABLE} names its place, and "
            "--no-cache does without.",
        ) from error


def _sweep(root: Path, but: Path | None = None) -> None:
    """Removes what killed conversions left."""
    work = root / "work"
    # A lock may have been left alone.
    for key in {path.name.removesuffix(".lock") for path in work.glob("*")}:
        if work / key != but:
            _if_unused(root, key, partial(store.remove, work / key))


def clear_up(root: Path) -> None:
    """Remove what killed conversions left, where the cache may be written."""
    with suppress(OutputError), store.writing(root):
        _sweep(root)


def _if_unused(root: Path, key: str, action: Callable[[], None]) -> bool:
    """Does something unless a conversion of that program runs; whether it was done."""

    def give_up() -> None:
        raise _InUseError

    try:
        with store.locked(root / "work", name=f"{key}.lock", on_wait=give_up):
            action()
    except _InUseError:
        return False
    return True


def find_artifact(root: Path, key: str) -> tuple[Path, Manifest] | None:
    """The artifact of a key and its manifest; None where there is no such entry.

    Raises:
        InputError, StoreError: an entry is not what was kept: it was changed, or cut.
    """
    entry = _entry(root, "artifact", key)
    if not entry.is_dir():
        return None
    manifest = store.read_sealed(Manifest, entry / _MANIFEST, remake="edgese convert")
    _check_bound(entry, key, _MANIFEST)
    artifact = entry / manifest.artifact
    if artifact.parent != entry or not artifact.exists():
        raise StoreError(f"{entry} has no {manifest.artifact}.", hint="Convert it again.")
    _mark_used(entry / _MANIFEST)
    return artifact, manifest


def keep_artifact(root: Path, key: str, artifact: Path, manifest: Manifest) -> Path:
    """Moves an artifact, alone in its folder, into the cache; returns its new place."""
    with store.writing(root):
        (artifact.parent / _MANIFEST).write_text(sealed(manifest).to_json(), encoding="utf-8")
        _bind(artifact.parent, key, _MANIFEST)
        return _keep(root, "artifact", key, artifact.parent) / artifact.name


def find_program(root: Path, key: str) -> tuple[Path, ProgramRecord] | None:
    """The folder of an exported program whose files are what they were, and its record."""
    entry = _entry(root, "program", key)
    if not (entry / _PROGRAM_RECORD).is_file():
        return None
    try:
        record = store.read_record(ProgramRecord, entry / _PROGRAM_RECORD, remake="edgese convert")
        _check_bound(entry, key, _PROGRAM_RECORD)
        sound = (
            store.sha256_of(entry / PROGRAM) == record.program_sha256
            and store.sha256_of(entry / REFERENCE) == record.reference_sha256
        )
    except (InputError, StoreError, FileNotFoundError):
        return None
    _mark_used(entry / _PROGRAM_RECORD)
    return (entry, record) if sound else None


def keep_program(root: Path, key: str, folder: Path, record: ProgramRecord) -> None:
    """Moves a folder with an exported program into the cache."""
    with store.writing(root):
        (folder / _PROGRAM_RECORD).write_text(record.to_json(), encoding="utf-8")
        _bind(folder, key, _PROGRAM_RECORD)
        _keep(root, "program", key, folder)


def _bind(folder: Path, key: str, record: str) -> None:
    """Writes down that a record is of a key, so that an entry that was changed or moved shows."""
    (folder / _BOUND).write_text(_bound(folder, key, record), encoding="ascii")


def _check_bound(entry: Path, key: str, record: str) -> None:
    """Raises where an entry's record is not the one that was kept under its key.

    Raises:
        StoreError: as said.
    """
    try:
        whole = content(entry / _BOUND, "file", _BOUND_BYTES) == _bound(entry, key, record).encode()
    except (OSError, InputError):
        whole = False
    if not whole:
        raise StoreError(f"{entry / record} is not what was kept there.", hint="It is made again.")


def _bound(folder: Path, key: str, record: str) -> str:
    digest = hashlib.sha256(f"{key}\0".encode())
    digest.update((folder / record).read_bytes())
    return digest.hexdigest()


def _mark_used(record: Path) -> None:
    # A cache that can only be read answers all the same; nobody prunes there.
    with suppress(OutputError), store.writing(record):
        os.utime(record)


def discard_artifact(root: Path, key: str) -> None:
    """Removes an artifact that is not what it was."""
    with _told_as_cache(), store.writing(root):
        store.remove(_entry(root, "artifact", key))


def cache_entries(root: Path | None = None) -> tuple[CacheEntry, ...]:
    """What the cache holds, the latest used first."""
    root = store.cache_folder() if root is None else root
    found = [
        _described(kind, folder)
        for kind in _KINDS
        if (root / f"{kind}s").is_dir()
        for folder in (root / f"{kind}s").iterdir()
    ]
    return tuple(sorted(found, key=lambda entry: entry.used, reverse=True))


def prune(
    *,
    older_than_days: float | None = None,
    max_size_bytes: float | None = None,
    everything: bool = False,
    root: Path | None = None,
) -> tuple[CacheEntry, ...]:
    """Removes entries and returns them; programs that a conversion uses just now stay.

    What killed conversions left goes in any case.

    Args:
        older_than_days: removes what was not used for so long.
        max_size_bytes: removes what was longest unused until no more than this is left.

    Raises:
        ConfigError: nothing says what to remove, or a limit is below 0 or not a number.
        OutputError: an entry cannot be removed.
    """
    if not everything and older_than_days is None and max_size_bytes is None:
        raise ConfigError(
            "Nothing was named to be removed from the cache.",
            hint="Give --older-than DAYS, --max-size MB or --everything.",
        )
    for limit in (older_than_days, max_size_bytes):
        if limit is not None and not limit >= 0:
            raise ConfigError(f"The cache cannot be limited to {limit:g}.", hint="Give 0 or more.")
    root = store.cache_folder() if root is None else root
    with store.writing(root):
        _sweep(root)
    now = datetime.now(UTC)
    seen_bytes, removed = 0, []
    for entry in cache_entries(root):
        seen_bytes += entry.size_bytes
        age_s = (now - datetime.fromisoformat(entry.used)).total_seconds()
        old = older_than_days is not None and age_s >= older_than_days * _DAY_S
        full = max_size_bytes is not None and seen_bytes > max_size_bytes
        if (everything or old or full) and _removed(root, entry):
            removed.append(entry)
    return tuple(removed)


def _removed(root: Path, entry: CacheEntry) -> bool:
    folder = _entry(root, entry.kind, entry.key)
    with store.writing(folder):
        if entry.kind == "program":
            # Workers read it for as long as their conversion runs.
            return _if_unused(root, entry.key, partial(store.remove, folder))
        store.remove(folder)
    return True


def _entry(root: Path, kind: Literal["artifact", "program"], key: str) -> Path:
    return root / f"{kind}s" / key


def _keep(root: Path, kind: Literal["artifact", "program"], key: str, folder: Path) -> Path:
    entry = _entry(root, kind, key)
    entry.parent.mkdir(parents=True, exist_ok=True)
    store.remove(entry)
    return folder.rename(entry)


def _described(kind: Literal["artifact", "program"], folder: Path) -> CacheEntry:
    record = folder / (_MANIFEST if kind == "artifact" else _PROGRAM_RECORD)
    dated = record if record.is_file() else folder
    return CacheEntry(
        kind=kind,
        key=folder.name,
        title=_title(kind, record),
        size_bytes=store.size_of(folder),
        used=datetime.fromtimestamp(dated.stat().st_mtime, UTC).isoformat(timespec="seconds"),
    )


def _title(kind: Literal["artifact", "program"], record: Path) -> str:
    try:
        if kind == "artifact":
            return store.read_record(Manifest, record, remake="edgese convert").artifact
        return store.read_record(ProgramRecord, record, remake="edgese convert").model
    except (InputError, StoreError):
        return "(not readable)"

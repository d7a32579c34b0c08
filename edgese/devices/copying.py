"""Copies to and from another machine, held against what was sent or is there."""

import hashlib
import math
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from edgese.bounds import whole
from edgese.devices import shell
from edgese.devices.remote import Remote, ask, lost, refused, told
from edgese.errors import DeviceError
from edgese.scratch import temporary
from edgese.store import sha256_of, size_of

# Hashing what arrived takes a slow phone a few seconds a gigabyte.
_VERIFY_TIMEOUT_S: Final = 600.0


def send_verified(remote: Remote, pairs: Sequence[tuple[Path, str]], folder: str) -> None:
    """Copies files or folders to names below ``folder`` and holds what arrived against them.

    Raises:
        DeviceError: the far side refused, the connection was lost, or something else arrived.
    """
    expected: list[tuple[Path, str]] = []
    for source, name in pairs:
        if said := remote.send(source, f"{folder}/{name}"):
            if known := remote.explain(said):
                raise DeviceError(*known)
            # sftp says no more than "Failure" of a disk that is full.
            if 0 <= (free_kb := _free_kb(remote, folder)) < _size_kb(source):
                said = f"{said}: no space left, {free_kb} kB are free for {_size_kb(source)} kB"
            raise refused(remote, said, f"copying {source.name} to")
        if source.is_dir():
            inside = [path for path in sorted(source.rglob("*")) if path.is_file()]
            expected += [(p, f"{name}/{p.relative_to(source).as_posix()}") for p in inside]
        else:
            expected.append((source, name))
    if not expected:
        return
    mark = shell.new_mark()
    names = [name for _, name in expected]
    script = f"cd {shlex.quote(folder)} && {{\n{shell.listing(names, mark)}\n}}"
    found = shell.listed(
        told(remote, script, "looking at what arrived on", _VERIFY_TIMEOUT_S), mark
    )
    for number, (source, name) in enumerate(expected):
        there = found.get(number)
        if there is None:
            raise DeviceError(
                f"{name} was copied to {remote.name}, but it is not there.", hint="Try again."
            )
        size_bytes = source.stat().st_size
        if there.size_bytes != size_bytes or there.sha256 not in {"", sha256_of(source)}:
            raise DeviceError(
                f"What arrived on {remote.name} as {name} is not what was sent: "
                f"{there.size_bytes} bytes of {size_bytes}, or with another hash.",
                hint="Try again; the connection or the storage there may be bad.",
            )


def fetched(
    remote: Remote, folder: str, ending: shell.Ending, names: Sequence[str]
) -> dict[str, bytes]:
    """What a job left, by name; its standard error is under "".

    Args:
        names: that were asked for; ``ending.files`` has those that are there, by their place.

    Raises:
        DeviceError: the connection was lost, or something else came back.
    """
    contents = {}
    with temporary("fetched") as place:
        for number, there in ending.files.items():
            path = place / str(number)
            name = names[number] if number < len(names) else ""
            source = f"{folder}/{shell.WORK}/{name}" if name else f"{folder}/stderr.end"
            if said := remote.fetch(source, path):
                raise lost(remote, said, f"fetching {name or 'the error output'}")
            content = path.read_bytes()
            digest = hashlib.sha256(content).hexdigest()
            if len(content) != there.size_bytes or there.sha256 not in {"", digest}:
                raise DeviceError(
                    f"What came back from {remote.name} as {name or 'the error output'} is not "
                    f"what is there: {len(content)} bytes of {there.size_bytes}, or another hash.",
                    hint="Measure again; the connection may be bad.",
                )
            contents[name] = content
    return contents


def _free_kb(remote: Remote, folder: str) -> int:
    """Room where a folder is; -1 where that cannot be found out."""
    try:
        words = ask(remote, f"df -k {shlex.quote(folder)} | tail -n 1").stdout.split()
    except DeviceError:
        return -1
    # "filesystem 1K-blocks used available capacity mounted".
    free = whole(words[3]) if len(words) > 3 else None
    return -1 if free is None else free


def _size_kb(path: Path) -> int:
    return math.ceil(size_of(path) / 1024)

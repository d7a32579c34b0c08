"""The interpreter that phones and boards are given: loader, libraries, Python and the wheels.

It is packed into one file, copied once to a folder of its own there, and used again as long as its
contents are the same. It needs nothing of the system it comes to but a kernel for its processor:
its programs are started through its own loader, by a small script. That script is what Python takes
for itself (the loader's ``--argv0``), so that a process which Python starts anew comes up the same
way.
"""

import json
import os
import shlex
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, Protocol

from edgese.devices import elf
from edgese.devices.copying import send_verified
from edgese.devices.remote import Remote, ask, refused, told
from edgese.errors import DeviceError
from edgese.scratch import temporary
from edgese.store import writing

# Of a system's folders, those that no interpreter reads: what a kernel or an installer would show.
_LEFT_OUT: Final = frozenset({"dev", "etc", "proc", "sys", "tmp", "usr/share", "var"})
_UNPACK_TIMEOUT_S: Final = 600.0
_STAMP: Final = "complete"
# Looks without importing, which may take seconds and leave files behind.
_LOOK: Final = "import importlib.util as u, sys; sys.exit(u.find_spec(sys.argv[1]) is None)"


class Bundle(Protocol):
    """A folder with an interpreter for another machine, as `edgese.devices.sysroot` makes it.

    Paths other than the root are relative to it.
    """

    @property
    def root(self) -> Path:
        """Where everything is."""

    @property
    def python(self) -> str:
        """The interpreter."""

    @property
    def loader(self) -> str:
        """The program that starts it where the system has none of this kind."""

    @property
    def home(self) -> str:
        """PYTHONHOME."""

    @property
    def libraries(self) -> Sequence[str]:
        """Folders that the loader looks for libraries in."""

    @property
    def site(self) -> Sequence[str]:
        """Folders with the wheels' contents, for PYTHONPATH."""

    @property
    def versions(self) -> Mapping[str, str]:
        """Of the packages in them."""

    @property
    def digest(self) -> str:
        """Hash over all its files; a copy elsewhere is named after it."""


def has(remote: Remote, python: Bundle | Sequence[str], module: str) -> bool:
    """Whether an interpreter has a module: a bundle, or what a command starts there.

    Raises:
        DeviceError: no connection.
    """
    if isinstance(python, Sequence):
        return not ask(remote, shlex.join([*python, "-c", _LOOK, module])).code
    return any((python.root / site / module).exists() for site in python.site)


def contents(bundle: Bundle) -> list[tuple[str, Path]]:
    """Every file that is packed, with its name there, in a fixed order.

    Links become what they lead to: not every phone lets them be made. What leads nowhere is left
    out.
    """
    return sorted(_walked(bundle.root, ""))


def pack(files: Sequence[tuple[str, Path]], dest: Path) -> None:
    """Writes the files to an uncompressed archive that is the same for the same contents."""
    with writing(dest), tarfile.open(dest, "w", format=tarfile.GNU_FORMAT) as archive:
        for name, path in files:
            entry = tarfile.TarInfo(f"root/{name}")
            entry.size = path.stat().st_size
            entry.mode = 0o700 if os.access(path, os.X_OK) else 0o600
            with path.open("rb") as file:
                archive.addfile(entry, file)


def launcher(bundle: Bundle, prefix: Sequence[str], shell_path: str) -> str:
    """The script that starts the interpreter on the other machine; it stands beside the root.

    Args:
        prefix: what runs its programs there, where the kernel cannot: an emulator.
        shell_path: of the shell there.
    """

    def there(names: Sequence[str]) -> str:
        return ":".join(f'"$root"/{shlex.quote(name)}' for name in names)

    start = " ".join(map(shlex.quote, prefix))
    return (
        f"#!{shell_path}\n"
        'root="${0%/*}/root"\n'
        f"export PYTHONHOME={there([bundle.home])}\n"
        f"export PYTHONPATH={there(bundle.site)}\n"
        f'exec {start} {there([bundle.loader])} --argv0 "$0" '
        f'--library-path {there(bundle.libraries)} {there([bundle.python])} "$@"\n'
    )


def installed(
    remote: Remote,
    bundle: Bundle,
    machine: str,
    hear: Callable[[str], None],
    prefix: Sequence[str] = (),
) -> str:
    """The path there of the script that starts the interpreter; copies it where it is missing.

    Args:
        machine: as `uname -m` tells it there.
        hear: is told when much is to be copied, as a line of the runner's kind.

    Raises:
        DeviceError: another processor, no space, a lost connection, or it does not start there.
    """
    if not prefix:
        elf.refuse_foreign(bundle.root / bundle.python, machine, remote.name)
    place = f"{remote.base}/edgese-python-{bundle.digest[:16]}"
    path = f"{place}/python"
    where = shlex.quote(place)
    stamp = f"{bundle.digest} {' '.join(prefix)}".strip()
    answer = ask(remote, f"cat {where}/{_STAMP} 2>/dev/null; command -v sh")
    *found, shell_path = answer.stdout.strip().splitlines() or [""]
    if not shell_path.startswith("/"):
        # A shell that has its programs built in names them without a place.
        shell_path = "/bin/sh"
    if found == [stamp]:
        return path
    files = contents(bundle)
    size_mb = sum(file.stat().st_size for _, file in files) / 2**20
    hear(json.dumps({"stage": f"copy the interpreter ({size_mb:.0f} MB, once)", "fraction": 0.0}))
    # Without its stamp it was left by a copy that did not end.
    told(remote, f"rm -rf {where}; umask 077; mkdir -p {where}", "making a folder on")
    try:
        _unpacked(remote, bundle, place, files, launcher(bundle, prefix, shell_path))
        told(remote, f"printf '%s\\n' {shlex.quote(stamp)} >{where}/{_STAMP}", "writing on")
    except BaseException:
        _forget(remote, where)
        raise
    return path


def _unpacked(
    remote: Remote, bundle: Bundle, place: str, files: Sequence[tuple[str, Path]], start: str
) -> None:
    """Copies everything there, unpacks it and tries it."""
    with temporary("interpreter") as folder:
        archive, script = folder / "interpreter.tar", folder / "python"
        pack(files, archive)
        script.write_text(start, encoding="utf-8")
        send_verified(remote, [(archive, archive.name), (script, script.name)], place)
    where = shlex.quote(place)
    # Started by its full path, as every job does: Python remembers what it was started as.
    answer = ask(
        remote,
        f"cd {where} && tar -xf interpreter.tar && rm interpreter.tar && chmod 700 python "
        f"root/{shlex.quote(bundle.python)} && {where}/python -c 'print(7)'",
        _UNPACK_TIMEOUT_S,
    )
    if answer.code or answer.stdout.strip() != "7":
        said = answer.stderr or answer.stdout
        raise refused(remote, said, "starting the interpreter of edgese on")


def clean(remote: Remote) -> tuple[str, ...]:
    """Removes everything of edgese there, interpreters too; gives the names of what was there.

    Raises:
        DeviceError: no connection, or something could not be removed.
    """
    where = shlex.quote(remote.base)
    names = told(remote, f"cd {where} 2>/dev/null && ls -d edgese-* 2>/dev/null; true", "asking")
    told(remote, f"cd {where} 2>/dev/null && rm -rf edgese-*; true", "removing files on", 600)
    left = told(remote, f"cd {where} 2>/dev/null && ls -d edgese-* 2>/dev/null; true", "asking")
    if left.strip():
        raise DeviceError(
            f"Not everything could be removed from {remote.name}: {', '.join(left.split())}.",
            hint=f"Remove it by hand; it is in {remote.base}.",
        )
    return tuple(names.split())


def _forget(remote: Remote, where: str) -> None:
    """Removes a half copy, if there is still a connection; it has no stamp in any case."""
    try:
        ask(remote, f"rm -rf {where}")
    except DeviceError:
        if remote.back(10):
            ask(remote, f"rm -rf {where}")


def _walked(folder: Path, under: str, above: tuple[Path, ...] = ()) -> Iterator[tuple[str, Path]]:
    real = folder.resolve()
    if real in above:
        return
    for path in sorted(folder.iterdir()):
        name = f"{under}{path.name}"
        if path.is_file():
            yield name, path
        elif path.is_dir() and name not in _LEFT_OUT and path.name != "__pycache__":
            yield from _walked(path, f"{name}/", (*above, real))

"""Debian's packages, fetched by a private apt that needs no root and changes nothing here.

Apt verifies the archive's signature with Debian's own keys, and with it the hashes of all packages,
as described in apt-secure(8).
"""

import json
import os
import re
import subprocess
import tarfile
from collections.abc import Sequence
from os.path import relpath
from pathlib import Path
from shutil import which
from typing import Final
from urllib.parse import unquote

from edgese import store
from edgese.errors import ConfigError, MissingDependency, OutputError, StoreError
from edgese.lifeline import Child, run

SUITE: Final = "bookworm"
ARM64: Final = "arm64"
BACKPORTS: Final = f"{SUITE}-backports"
KEYRING: Final = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
MIRROR: Final = "http://deb.debian.org/"
# What no program here needs: documentation, translations, conversions of old encodings.
_UNUSED: Final = ("usr/share", "var", "usr/lib/aarch64-linux-gnu/gconv")
# Installers, which other packages' scripts would call; nothing is installed here.
_INSTALLERS: Final = ("dpkg", "tar")
_ELSEWHERE: Final = (
    "Elsewhere give --sysroot DIR: an unpacked arm64 file system with /usr/bin/python3.11, such as "
    "an exported Debian 12 container."
)
_TOOLS: Final = {"apt-get": "apt", "apt-cache": "apt", "apt-config": "apt", "dpkg-deb": "dpkg"}


def check(elsewhere: str = _ELSEWHERE) -> None:
    """Raises where this system has no apt or none of Debian's keys.

    Args:
        elsewhere: what to do on systems that are no relatives of Debian.

    Raises:
        ConfigError: not a relative of Debian.
        MissingDependency: the keys are not installed.
    """
    if missing := [tool for tool in _TOOLS if which(tool) is None]:
        raise ConfigError(
            f"Debian's packages cannot be fetched here: {', '.join(missing)} not found.",
            hint=f"This needs Debian or Ubuntu. {elsewhere}",
        )
    if not KEYRING.is_file():
        raise MissingDependency(
            f"Debian's keys are not installed: there is no {KEYRING}.",
            hint="sudo apt-get install debian-archive-keyring",
        )


def download(
    packages: Sequence[str],
    folder: Path,
    *,
    release: str = SUITE,
    kernel: str = "",
    alone: Sequence[str] = (),
    architecture: str = ARM64,
) -> dict[str, str]:
    """Fetches packages and what they depend on into ``folder``.

    A repeated call fetches what is still missing; where nothing is, it needs no network.

    Args:
        release: what is preferred where several have a package: the suite, or its backports.
        kernel: a package that names the newest kernel, which is fetched without what it needs to
            be installed.
        alone: packages that are fetched without what they depend on.
        architecture: in Debian's words.

    Returns:
        SHA-256 of each .deb file by its name; each stood in the signed index.

    Raises:
        StoreError: a file is not the one of the index; it is removed.
        OutputError: apt could not fetch them; its own words are told.
    """
    verified = folder / "verified.json"
    asked = [*packages, release, kernel, *alone]
    if known := _verified(verified, asked):
        return known
    config = _configured(folder, architecture)
    _run(["apt-get", "update"], config)
    chosen = ["--yes", "--target-release", release]
    _run(["apt-get", *chosen, "--download-only", "install", *packages], config)
    if kernel:
        # The newest stands first.
        told = _run(["apt-cache", "--no-all-versions", *chosen[1:], "show", kernel], config)
        named = re.search(r"^Depends: (linux-image-\S+)", told, re.MULTILINE)
        if named is None:
            raise StoreError(
                f"Debian's package {kernel} names no kernel.", hint="Please report it."
            )
        alone = [*alone, named[1]]
    if alone:
        _run(["apt-get", *chosen, "download", *alone], config, folder)
    files = sorted(folder.glob("*.deb"))
    index = hashes(_run(["apt-cache", "show", *(package_of(file) for file in files)], config))
    found = {}
    for file in files:
        found[file.name] = store.sha256_of(file)
        if found[file.name] not in index.get(package_of(file), ()):
            file.unlink()
            raise StoreError(
                f"{file.name} is not the file that Debian's signed index describes.",
                hint="It is removed; set up again.",
            )
    with store.writing(folder):
        verified.write_text(json.dumps([asked, found]), encoding="utf-8")
        # The indices of all packages are larger than these few packages.
        store.remove(folder / "apt")
    return found


def _verified(stamp: Path, wanted: Sequence[str]) -> dict[str, str]:
    """The files of an earlier call for the same packages; empty where one is no longer the same."""
    try:
        asked, found = json.loads(stamp.read_text(encoding="utf-8"))
        same = all(store.sha256_of(stamp.parent / name) == value for name, value in found.items())
    except (OSError, ValueError):
        return {}
    return found if same and asked == list(wanted) else {}


def unpack(files: Sequence[Path], root: Path) -> dict[str, str]:
    """Unpacks .deb files into ``root``, without running anything that is in them.

    Returns:
        Version of each package.
    """
    versions = {}
    for file in files:
        package, version = file.name.split("_")[:2]
        if package in _INSTALLERS:
            continue
        _run(["dpkg-deb", "--extract", str(file), str(root)])
        versions[package] = unquote(version)
    for name in _UNUSED:
        store.remove(root / name)
    enclose(root)
    return versions


def extract(package: Path, wanted: re.Pattern[str], folder: Path) -> list[str]:
    """Takes single files out of a .deb file, without the folders that they lie in there.

    Links to other files are followed by name: the file that one names must be wanted too.

    Returns:
        The names of what was taken.
    """
    command = ["dpkg-deb", "--fsys-tarfile", str(package)]
    with Child(command, stdout=subprocess.PIPE) as unpacker:
        assert unpacker.stdout is not None  # noqa: S101 - a pipe was asked for
        taken = []
        with tarfile.open(fileobj=unpacker.stdout, mode="r|") as archive:
            for member in archive:
                if (member.isfile() or member.issym()) and wanted.search(member.name):
                    member.name = Path(member.name).name
                    archive.extract(member, folder, filter="data")
                    taken.append(member.name)
    if unpacker.returncode != 0:
        raise StoreError(
            f"{package} cannot be unpacked: dpkg-deb ended with code {unpacker.returncode}.",
            hint="Remove it, then set up again.",
        )
    return taken


def enclose(root: Path) -> None:
    """Makes absolute links relative: "/etc/x" would lead out of ``root``, to this machine's own."""
    for path in root.rglob("*"):
        if path.is_symlink() and path.readlink().is_absolute():
            inside = root / path.readlink().relative_to("/")
            path.unlink()
            path.symlink_to(relpath(inside, path.parent))


def hashes(index: str) -> dict[str, set[str]]:
    """SHA-256 of the files of each package, of any version, from what ``apt-cache show`` prints."""
    found: dict[str, set[str]] = {}
    for paragraph in index.split("\n\n"):
        fields = dict(re.findall(r"^(Package|SHA256): (\S+)$", paragraph, re.MULTILINE))
        if {"Package", "SHA256"} <= fields.keys():
            found.setdefault(fields["Package"], set()).add(fields["SHA256"])
    return found


def package_of(file: Path) -> str:
    """The package's name, from the file name that apt gives it."""
    return file.name.partition("_")[0]


def sources(mirror: str, architecture: str = ARM64) -> str:
    """The content of sources.list."""
    signed = f"deb [arch={architecture} signed-by={KEYRING}] {mirror.rstrip('/')}"
    return (
        f"{signed}/debian {SUITE} main\n"
        f"{signed}/debian {SUITE}-updates main\n"
        f"{signed}/debian {BACKPORTS} main\n"
        f"{signed}/debian-security {SUITE}-security main\n"
    )


def settings(folder: Path, transport: str, architecture: str = ARM64) -> str:
    """The content of apt.conf.

    Args:
        folder: where everything of this apt lies.
        transport: lines of ``apt-config dump`` about proxies and certificates.
    """
    return "\n".join(
        (
            f'APT::Architecture "{architecture}";',
            f'APT::Architectures {{ "{architecture}"; }};',
            'APT::Install-Recommends "false";',
            # Where root calls it, it would fetch as another user, who may not write here.
            'APT::Sandbox::User "root";',
            'Acquire::Languages "none";',
            'Acquire::Retries "3";',
            # The system's own settings may hook commands into apt.
            'Dir::Etc::parts "/dev/null";',
            'Dir::Etc::main "/dev/null";',
            'Dir::Etc::sourceparts "/dev/null";',
            'Dir::Etc::preferences "/dev/null";',
            'Dir::Etc::preferencesparts "/dev/null";',
            f'Dir::Etc::sourcelist "{folder}/sources.list";',
            f'Dir::State "{folder}/state";',
            f'Dir::State::status "{folder}/status";',
            f'Dir::Cache "{folder}/cache";',
            f'Dir::Cache::archives "{folder.parent}";',
            *re.findall(
                r"^Acquire::https?::(?:Proxy|CaInfo|Verify)\S* .*;$", transport, re.MULTILINE
            ),
            "",
        )
    )


def _configured(folder: Path, architecture: str) -> Path:
    """Writes a private apt's configuration."""
    own = folder / "apt"
    with store.writing(own):
        (own / "state/lists/partial").mkdir(parents=True, exist_ok=True)
        (own / "cache").mkdir(exist_ok=True)
        (folder / "partial").mkdir(exist_ok=True)
        (own / "status").write_bytes(b"")
        (own / "sources.list").write_text(sources(MIRROR, architecture), encoding="ascii")
        config = own / "apt.conf"
        config.write_text(
            settings(own, _run(["apt-config", "dump"]), architecture), encoding="utf-8"
        )
    return config


def _run(command: Sequence[str], config: Path | None = None, folder: Path | None = None) -> str:
    environment = os.environ | {"LC_ALL": "C.UTF-8"}
    if config is not None:
        environment["APT_CONFIG"] = str(config)
    outcome = run(command, env=environment, cwd=folder)
    # apt-get update ends in 0 where an index could not be fetched, and says so as a warning.
    if outcome.returncode or "Failed to fetch" in outcome.stderr:
        lines = [
            line for line in outcome.stderr.splitlines() if line.startswith(("E:", "W:", "dpk"))
        ]
        raise OutputError(
            f"{' '.join(command[:2])} failed: {' '.join(lines[:3]) or outcome.stderr[-300:]}",
            hint="Check the network and the space in the cache folder, then set up again: it goes "
            "on where it stopped.",
        )
    return outcome.stdout

"""Packs what measures artifacts on a device that is elsewhere into one file."""

import hashlib
import io
import shlex
import tarfile
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

from edgese import catalog, guard, lifeline
from edgese.devices import affinity, android, boards, heat, interpreter, sysfs, sysroot
from edgese.errors import ConfigError, DeviceError, MissingDependency
from edgese.measure.bundles import driver
from edgese.measure.job import RUNNER, Subject, measuring_job, subjects_of
from edgese.measure.plan import checked, threads_of
from edgese.records import recognition
from edgese.records.device import CoreState, DeviceFacts
from edgese.records.measurement import DeviceInfo, Job, MeasurePlan
from edgese.records.profile import BundleContents, BundleSubject
from edgese.store import PARTIAL, cache_folder, sha256_of, staging, writable_file
from edgese.version import __version__

CONTENTS: Final = "contents.json"
ARCHIVE: Final = "bundle.pyz"
# The script at the start of a bundle with an interpreter; the archive follows it.
HEADER_BYTES: Final = 4096
PHONE_FOLDER: Final = "/data/local/tmp"

_HERE: Final = Path(__file__).parent
_PLAN: Final = MeasurePlan(threads=1)
# All files of edgese that are packed; they need nothing else of it.
MODULES: Final = {
    "edgese/guard.py": Path(guard.__file__),
    "edgese/lifeline.py": Path(lifeline.__file__),
    "edgese/devices/affinity.py": Path(affinity.__file__),
    "edgese/devices/heat.py": Path(heat.__file__),
    "edgese/devices/sysfs.py": Path(sysfs.__file__),
    "edgese/records/recognition.py": Path(recognition.__file__),
}
# The same contents make the same bundle.
_EPOCH: Final = (1980, 1, 1, 0, 0, 0)


class Packed(NamedTuple):
    """A bundle.

    Attributes:
        commands: that measure it, one after the other; those of adb are given where the phone is.
        results: name of the file that it leaves.
    """

    path: Path
    contents: BundleContents
    commands: tuple[str, ...]
    results: str


def make_bundle(
    artifacts: Sequence[Path],
    *,
    device: str,
    out: Path,
    with_python: bool = False,
    threads: int | None = None,
    launches: int = _PLAN.launches,
    blocks: int = _PLAN.blocks,
    min_runs: int = _PLAN.min_runs,
    min_time_s: float = _PLAN.min_time_s,
    warmup_runs: int = _PLAN.warmup_runs,
    warmup_time_s: float = _PLAN.warmup_time_s,
    timeout_s: float = _PLAN.timeout_s,
    prefix: Sequence[str] = (),
) -> Packed:
    """Packs artifacts, the runner, the plan and a driver into one file.

    Args:
        artifacts: with their manifests.
        device: a phone or a board of the catalogue; the bundle measures on no other.
        out: a zip application for Python 3.11, or, with an interpreter, a shell script.
        with_python: packs `edgese.devices.sysroot` too, so that nothing is needed there.
        threads: for each runtime; None takes the device's fast cores, at most four.
        prefix: what runs the packed interpreter there, where the kernel cannot: an emulator.

    Other arguments are those of `edgese.measure.api.profile`.

    Raises:
        ConfigError: no artifact, an unknown device or none that takes bundles, or a setting that
            cannot be.
        InputError: an artifact or its manifest is missing or not readable.
        StoreError: an artifact is not the one that its manifest describes.
        DeviceError: an artifact's target does not run there.
        MissingDependency: the interpreter is not set up, or lacks a runtime.
        OutputError: ``out`` cannot be written.
    """
    if not artifacts:
        raise ConfigError("No artifact was named.", hint="Name one or more to pack.")
    facts = catalog.device_facts(device)
    _check_device(facts, with_python=with_python)
    subjects = subjects_of(artifacts)
    runtimes = _runtimes(subjects, facts)
    python = _interpreter(runtimes) if with_python else None
    info = _cores(facts, threads)
    plan = checked(
        MeasurePlan(
            threads=threads_of(threads, info),
            launches=launches,
            blocks=blocks,
            min_runs=min_runs,
            min_time_s=min_time_s,
            warmup_runs=warmup_runs,
            warmup_time_s=warmup_time_s,
            timeout_s=timeout_s,
        ),
        info,
        len(artifacts),
    )
    writable_file(out)
    job = measuring_job(subjects, plan, RUNNER.read_bytes())
    contents = BundleContents(
        facts=facts,
        plan=plan,
        subjects=tuple(BundleSubject(label=one.label, manifest=one.manifest) for one in subjects),
        argv=job.argv,
        pull=job.pull,
        files={
            push.name: sha256_of(Path(push.source))
            if push.source
            else hashlib.sha256(push.content).hexdigest()
            for push in job.push
        },
        runtimes=runtimes,
        questions=android.QUESTIONS if facts.kind == "android" else boards.QUESTIONS,
        edgese=__version__,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    text = contents.to_json().encode()
    with staging(out) as (partial,):
        if python is None:
            with partial.open("wb") as file:
                _zip(file, text, job)
        else:
            _with_interpreter(partial, text, job, python, prefix)
    # So that results can be read here where the bundle is not at hand.
    with staging(known_contents(hashlib.sha256(text).hexdigest())) as (partial,):
        partial.write_bytes(text)
    return Packed(
        path=out,
        contents=contents,
        commands=_commands(facts, out, with_python=with_python),
        results=f"{out.name}{driver.SUFFIX}",
    )


def known_contents(digest: str) -> Path:
    """Where the contents of bundles that were made here are kept."""
    return cache_folder() / "bundles" / f"{digest}.json"


def _check_device(facts: DeviceFacts, *, with_python: bool) -> None:
    if facts.kind not in {"android", "linux"}:
        raise ConfigError(
            f"{facts.title} ({facts.name}) takes no bundles: phones with Android and boards with "
            "Linux do.",
            hint="`edgese profile --device NAME` measures what can be reached from here.",
        )
    if not facts.properties:
        raise ConfigError(
            f"{facts.title} ({facts.name}) tells nothing by which it is recognised.",
            hint=f"Add [properties] to its file, targets/devices/{facts.name}.toml.",
        )
    if facts.kind == "android" and not with_python:
        raise ConfigError(
            f"{facts.title} has no Python for a bundle to run in.", hint="Give --with-python."
        )


def _runtimes(subjects: Sequence[Subject], facts: DeviceFacts) -> dict[str, str]:
    """Modules that the interpreter there must have, with their titles."""
    found = {}
    for name in sorted({subject.manifest.target for subject in subjects}):
        target = catalog.target_facts(name)
        if name not in facts.delegates:
            raise DeviceError(
                f"{target.title} does not run on {facts.title}.",
                hint="Leave such artifacts out here.",
            )
        found[target.runtime] = target.title
    return found


def _interpreter(runtimes: dict[str, str]) -> sysroot.Sysroot:
    """The interpreter, with those of its folders of packages alone that are needed."""
    python = sysroot.required()
    needed = {sysroot.SITE}
    for module, title in runtimes.items():
        site = next((one for one in python.site if (python.root / one / module).exists()), None)
        if site is None:
            raise MissingDependency(
                f"The interpreter in {python.root} lacks {title}'s runtime.",
                hint="edgese emulator setup" + (" --executorch" if module == "executorch" else ""),
            )
        needed.add(site)
    return replace(python, site=tuple(site for site in python.site if site in needed))


def _cores(facts: DeviceFacts, threads: int | None) -> DeviceInfo:
    """The device as its file tells it, before anybody has asked it."""
    clocks = [cluster.ghz for cluster in facts.cores for _ in range(cluster.count)]
    cores = [
        CoreState(number=number, maximum_mhz=None if ghz is None else 1000 * ghz)
        for number, ghz in enumerate(clocks)
    ]
    if not cores and threads is None:
        raise ConfigError(
            f"Nobody publishes how many cores {facts.title} has.", hint="Give --threads."
        )
    return DeviceInfo(
        name=facts.name,
        cpu=facts.soc,
        architecture="",
        # Where it is not known, the bundle finds out there.
        cores=len(cores) or threads or 1,
        physical_cores=affinity.big_cores(cores),
        system="",
    )


def _zip(file: io.BufferedIOBase | io.BufferedRandom, contents: bytes, job: Job) -> None:
    """Writes the zip application."""
    texts = {
        "__main__.py": Path(driver.__file__).read_bytes(),
        CONTENTS: contents,
        **{f"{Path(name).parent}/__init__.py": b"" for name in MODULES},
        "edgese/__init__.py": b"",
        **{name: path.read_bytes() for name, path in MODULES.items()},
        **{f"files/{push.name}": push.content for push in job.push if not push.source},
    }
    with zipfile.ZipFile(file, "w") as archive:
        for name, text in texts.items():
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, text)
        for push in job.push:
            if push.source:
                entry = zipfile.ZipInfo(f"files/{push.name}", _EPOCH)
                entry.compress_type = zipfile.ZIP_DEFLATED
                with Path(push.source).open("rb") as source, archive.open(entry, "w") as packed:
                    while data := source.read(1 << 20):
                        packed.write(data)


def _with_interpreter(
    dest: Path, contents: bytes, job: Job, python: sysroot.Sysroot, prefix: Sequence[str]
) -> None:
    """Writes a shell script that is followed by an archive of the interpreter and the rest."""
    # A name that is swept with the bundle's own, also by the next run.
    path = dest.with_name(f".interpreter{PARTIAL}")
    files = [
        (member, file)
        for member, file in interpreter.contents(python)
        if not member.startswith("opt/") or member.startswith(python.site)
    ]
    interpreter.pack(files, path)
    application = io.BytesIO()
    _zip(application, contents, job)
    # The first line names the shell, which only the device knows.
    start = interpreter.launcher(python, prefix, "").partition("\n")[2].encode()
    with tarfile.open(path, "a", format=tarfile.GNU_FORMAT) as archive:
        for member, data in ((ARCHIVE, application.getvalue()), ("start", start)):
            entry = tarfile.TarInfo(member)
            entry.size, entry.mode = len(data), 0o600
            archive.addfile(entry, io.BytesIO(data))
    with dest.open("wb") as file, path.open("rb") as packed:
        file.write(_header(sha256_of(path), path.stat().st_size, python, prefix))
        while data := packed.read(1 << 20):
            file.write(data)


def _header(digest: str, size_bytes: int, python: sysroot.Sysroot, prefix: Sequence[str]) -> bytes:
    text = (_HERE / "unpacking.sh").read_text(encoding="utf-8")
    values = {
        "@DIGEST16@": digest[:16],
        "@DIGEST@": digest,
        "@BODY@": str(HEADER_BYTES + 1),
        "@SIZE@": str(HEADER_BYTES + size_bytes),
        "@MACHINE@": "any" if prefix else "aarch64",
        "@PYTHON@": python.python,
        "@SUFFIX@": driver.SUFFIX,
    }
    for key, value in values.items():
        text = text.replace(key, value)
    return text.encode().ljust(HEADER_BYTES, b"\n")


def _commands(facts: DeviceFacts, out: Path, *, with_python: bool) -> tuple[str, ...]:
    name = shlex.quote(out.name)
    if facts.kind == "android":
        there = f"{PHONE_FOLDER}/{name}"
        return (
            f"adb push {name} {PHONE_FOLDER}/",
            f"adb shell sh {there}",
            f"adb pull {there}{driver.SUFFIX}",
            f"adb shell rm {there} {there}{driver.SUFFIX}",
        )
    return (f"{'sh' if with_python else 'python3'} {name}",)

"""Brings home what a bundle has measured; nothing of it is run.

A results file is held against the bundle that it says it is of: where that is known, nobody else's
files were measured, and nothing that was measured with is another.
"""

import hashlib
import io
import re
import tarfile
import zipfile
from datetime import datetime
from pathlib import Path
from typing import IO, BinaryIO, Final

import msgspec

from edgese.bounds import JSON_BYTES, ZIP_EXPANSION, content, opened
from edgese.devices import android, boards, heat
from edgese.errors import DeviceError, InputError, StoreError, stage
from edgese.measure.bundles.driver import DAMAGED, SUFFIX
from edgese.measure.bundles.packing import ARCHIVE, CONTENTS, HEADER_BYTES, known_contents
from edgese.measure.job import Subject, parsed
from edgese.measure.profiles import profiles_of
from edgese.records.device import DeviceFacts, PhoneState
from edgese.records.profile import (
    BUNDLE_SCHEMA,
    RESULTS_SCHEMA,
    BundleContents,
    BundleResults,
    ProfileResult,
)
from edgese.records.recognition import recognised
from edgese.seals import sealed

_END: Final = re.compile(rb'\{"end": "([0-9a-f]{64})"\}\n')
# A plan or a runner packs well, and is no danger.
_SMALL: Final = 2**20
_AGAIN: Final = "Fetch it again; it may have been cut off on its way."


class _Schema(msgspec.Struct):
    """The one key that is read before all others."""

    schema: int


def import_results(path: Path, bundle: Path | None = None) -> ProfileResult:
    """Reads a results file, holds it against its bundle, and makes profiles of it.

    Args:
        bundle: the file that was measured; None takes the one beside ``path``, or what was kept
            when the bundle was made here.

    Raises:
        InputError: the results or the bundle are missing, truncated, or not what they say.
        StoreError: a hash is another: the file was changed, is of another bundle, or something else
            than the bundle's files was measured; or its schema is another.
        DeviceError: it was measured on another device, or what was measured is not whole.
    """
    results = read_results(_content(path), path)
    contents = _contents(results, path, bundle)
    return imported(results, contents, path)


def read_results(content: bytes, path: Path) -> BundleResults:
    """Reads a results file, if there is no doubt that it is whole.

    Args:
        path: for messages.

    Raises:
        InputError: it has no end, or is no such file.
        StoreError: it was changed after it was written, or its schema is another.
    """
    line, newline, mark = content.partition(b"\n")
    end = _END.fullmatch(mark)
    if not newline or end is None:
        raise InputError(
            f"{path} has no whole end mark, so it is truncated, or no results of a bundle.",
            hint=_AGAIN,
        )
    if hashlib.sha256(line + newline).hexdigest().encode() != end[1]:
        raise StoreError(
            f"{path} is not what was written: its hash is not the one in its end mark.",
            hint="Fetch it again, and leave it as it is.",
        )
    with stage(f"read {path} as results of a bundle", hint=_AGAIN):
        found = msgspec.json.decode(line, type=_Schema).schema
    _check_schema(found, RESULTS_SCHEMA, path)
    return BundleResults.from_json(line, path)


def imported(results: BundleResults, contents: BundleContents, path: Path) -> ProfileResult:
    """Profiles of results that are those of a bundle.

    Raises:
        StoreError, DeviceError: as said in `import_results`.
    """
    names = sorted({*results.ran, *contents.files})
    if other := [name for name in names if results.ran.get(name) != contents.files.get(name)]:
        raise StoreError(
            f"{path} was not measured with the files of its bundle: {', '.join(other)} "
            f"{'is another' if len(other) == 1 else 'are others'}.",
            hint="Measure again, with the bundle as it was made.",
        )
    facts = contents.facts
    if not recognised(facts.properties, results.answers):
        said = ", ".join(value for value in results.answers.values() if value) or "nothing"
        raise DeviceError(
            f"{path} was not measured on {facts.title}: the device there says {said!r} of itself.",
            hint=f"Measure on {facts.title}, or make a bundle for the device that it is.",
        )
    before = _state(results.before, results.started, results, facts, path)
    after = _state(results.after, results.ended, results, facts, path)
    reader = android if facts.kind == "android" else boards
    info = reader.info(before, facts)
    plan = contents.plan
    subjects = [
        Subject(label=one.label, path="", manifest=one.manifest) for one in contents.subjects
    ]
    run = parsed(results.outcome, plan, len(subjects), facts.name)
    result = profiles_of(
        subjects,
        run,
        plan,
        info,
        before=before,
        after=after,
        created=datetime.fromisoformat(results.ended),
    )
    notes = _notes(contents, results, before, after)
    return sealed(msgspec.structs.replace(result, notes=notes))


def _notes(
    contents: BundleContents, results: BundleResults, before: PhoneState, after: PhoneState
) -> tuple[str, ...]:
    """What a reader should know of how it was measured."""
    facts = contents.facts
    if facts.kind == "android":
        warm = heat.phone_too_warm(before, heat.PHONE_COOL_C)
        throttled = android.throttling(before, after)
    else:
        warm, throttled = heat.board_too_warm(before, heat.BOARD_COOL_C), ""
    where = f"Measured elsewhere, on {facts.title}, with Python {results.python}"
    notes = [f"{where} and a bundle of edgese {contents.edgese}; it ended {results.ended}."]
    if warm:
        notes.append(f"{facts.title} was warm before: {warm}. It may have been slowed down.")
    if throttled:
        notes.append(f"{facts.title} was slowed down meanwhile: {throttled}.")
    return tuple(notes)


def contents_of(bundle: Path) -> bytes:
    """The contents that a bundle says it has; its files are held against them.

    Raises:
        InputError: it is missing, or no bundle.
        StoreError: a file in it is another.
    """
    try:
        with opened(bundle, "bundle", hint="Name the file that `edgese bundle` made.") as file:
            return _packed_contents(file, bundle)
    except OSError as error:
        raise InputError(
            f"{bundle} cannot be read: {error.strerror}.",
            hint="Name the file that `edgese bundle` made.",
        ) from error


def _packed_contents(file: BinaryIO, bundle: Path) -> bytes:
    try:
        application: IO[bytes] = file
        if file.read(2) == b"#!":
            # With an interpreter it is a script, and the application a file in what follows it.
            file.seek(HEADER_BYTES)
            with tarfile.open(fileobj=file, mode="r:") as archive:
                # Where it stands: it is stored, and never larger than its file.
                application = archive.extractfile(ARCHIVE) or io.BytesIO()
        with zipfile.ZipFile(application) as packed:
            with packed.open(CONTENTS) as member:
                text = member.read(JSON_BYTES + 1)
            if len(text) > JSON_BYTES:
                raise ValueError(f"its {CONTENTS} has more than {JSON_BYTES >> 20} MiB")
            contents = BundleContents.from_json(text, bundle)
            for name, expected in contents.files.items():
                if _sha256(packed, f"files/{name}", bundle) != expected:
                    raise StoreError(
                        f"{name} in {bundle} is not what was packed.",
                        hint="Name the bundle as it was made.",
                    )
            return text
    except (*DAMAGED, tarfile.TarError) as error:
        raise InputError(
            f"{bundle} is no whole bundle: {error}.",
            hint="Name the file that `edgese bundle` made.",
        ) from error


def _sha256(packed: zipfile.ZipFile, name: str, bundle: Path) -> str:
    """The hash of a member, which is never in memory as a whole.

    Raises:
        InputError: it is far larger than any artifact packs.
    """
    info = packed.getinfo(name)
    if info.file_size > ZIP_EXPANSION * max(info.compress_size, _SMALL):
        raise InputError(
            f"{name} in {bundle} is packed to {info.compress_size} bytes and has "
            f"{info.file_size}, as an archive made to exhaust a machine has.",
            hint="Name the bundle as it was made.",
        )
    with packed.open(info) as member:
        return hashlib.file_digest(member, "sha256").hexdigest()  # type: ignore[arg-type]  # reads


def _contents(results: BundleResults, path: Path, bundle: Path | None) -> BundleContents:
    """What the results say that was measured, from a place that they cannot change."""
    beside = path.with_name(path.name.removesuffix(SUFFIX))
    kept = known_contents(results.bundle)
    if bundle is not None or (beside != path and beside.is_file()):
        source = bundle or beside
        text = contents_of(source)
    elif kept.is_file():
        source = kept
        text = _content(kept)
    else:
        raise InputError(
            f"The bundle that {path} is of was not made here.",
            hint="Name it: --bundle FILE.",
        )
    if hashlib.sha256(text).hexdigest() != results.bundle:
        raise StoreError(
            f"{path} is not of {source}, but of another bundle.",
            hint="Name the bundle that was measured: --bundle FILE.",
        )
    with stage(f"read the contents of {source}"):
        schema = msgspec.json.decode(text, type=_Schema).schema
    _check_schema(schema, BUNDLE_SCHEMA, source)
    return BundleContents.from_json(text, source)


def _state(
    text: str, taken: str, results: BundleResults, facts: DeviceFacts, path: Path
) -> PhoneState:
    try:
        when = datetime.fromisoformat(taken)
    except ValueError as error:
        raise InputError(
            f"{path} has no date where one belongs: {taken!r}.", hint=_AGAIN
        ) from error
    state = (
        android.state(text, "", taken=when)
        if facts.kind == "android"
        else boards.state(text, "", facts, taken=when)
    )
    return msgspec.structs.replace(state, pinned=results.pinned, pinning=results.pinning)


def _check_schema(found: int, current: int, path: Path) -> None:
    if found != current:
        age = "older" if found < current else "newer"
        raise StoreError(
            f"{path} has schema {found}, from {'an' if age == 'older' else 'a'} {age} edgese; "
            f"this one reads schema {current}.",
            hint="Make the bundle again and measure again."
            if age == "older"
            else "Upgrade: `pip install --upgrade edgese`.",
        )


def _content(path: Path) -> bytes:
    return content(
        path, "results file", JSON_BYTES, hint="Name the results file that the bundle left."
    )

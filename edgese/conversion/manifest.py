"""The manifest of a fresh artifact, and both put into the user's folder together."""

from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from edgese import store
from edgese.errors import InputError, StoreError
from edgese.models.keys import EXPORTERS, toolchain
from edgese.models.subject import Subject
from edgese.records.artifact import Manifest
from edgese.records.conversion import ProgramRecord, Succeeded, TargetPlan
from edgese.seals import sealed
from edgese.version import __version__


def manifest_of(
    subject: Subject, plan: TargetPlan, program: ProgramRecord, result: Succeeded
) -> Manifest:
    """What is written beside an artifact that a worker made."""
    return Manifest(
        artifact=plan.artifact,
        sha256=result.sha256,
        size_bytes=result.size_bytes,
        target=plan.facts.name,
        delegate=plan.delegate,
        recipe=plan.recipe,
        model=subject.card,
        spec=subject.spec,
        weights=program.weights,
        options=plan.options,
        interface=result.interface,
        operators=result.operators,
        parity=result.parity,
        program_sha256=program.program_sha256,
        toolchain=toolchain((*EXPORTERS, *plan.facts.packages)),
        quantization=program.quantization,
        edgese=__version__,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def publish(artifact: Path, manifest: Manifest, out: Path) -> Path:
    """Puts an artifact and its manifest into ``out``, both or none; returns the artifact's place.

    One that is there already and unchanged is left as it is.

    Raises:
        StoreError: the artifact's contents are not what its manifest says.
        OutputError: the folder cannot be written, or the disk is full.
    """
    final = out / manifest.artifact
    described = store.manifest_path(final)
    text = sealed(manifest).to_json() + "\n"
    with store.staging(final, described) as (new_artifact, new_manifest):
        if not _is_there(final, described, text, manifest.sha256):
            store.copy(artifact, new_artifact)
            found = (store.sha256_of(new_artifact), store.size_of(new_artifact))
            if found != (manifest.sha256, manifest.size_bytes):
                raise StoreError(
                    f"{artifact} is not what its manifest describes.", hint="Convert it again."
                )
            new_manifest.write_text(text, encoding="utf-8")
    return final


def _is_there(artifact: Path, described: Path, text: str, sha256: str) -> bool:
    # What has links or pipes in it is another one, and is replaced.
    with suppress(InputError):
        return (
            artifact.exists()
            and described.is_file()
            and described.read_bytes() == text.encode()
            and store.sha256_of(artifact) == sha256
        )
    return False

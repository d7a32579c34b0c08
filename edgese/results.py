"""Reads result files of any kind: what a file is, its keys say."""

from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from edgese.bounds import JSON_BYTES, content
from edgese.catalog import target_of
from edgese.errors import InputError, stage
from edgese.records.artifact import Manifest
from edgese.records.base import Record
from edgese.records.budget import Comparison, GateResult
from edgese.records.evaluation import EvaluationResult
from edgese.records.inspection import Inspection
from edgese.records.measurement import SustainedResult
from edgese.records.profile import ProfileResult
from edgese.records.selection import Finding, SelectionResult
from edgese.records.training import TrainingResult
from edgese.seals import check_seal
from edgese.store import decode_record, manifest_path


class Kind(NamedTuple):
    """A kind of result.

    Attributes:
        keys: that a file of it has, and no file of another kind.
        remake: the command that leaves it.
    """

    record: type[Record]
    keys: frozenset[str]
    remake: str


KINDS: Final = (
    Kind(ProfileResult, frozenset({"device", "profiles"}), "edgese profile ARTIFACT --out FILE"),
    Kind(
        EvaluationResult,
        frozenset({"evaluations", "agreements"}),
        "edgese evaluate MODEL ARTIFACT --data FOLDER --out FILE",
    ),
    Kind(SelectionResult, frozenset({"decision", "rounds"}), "edgese select --out FILE"),
    Kind(GateResult, frozenset({"cells", "untrusted"}), "edgese gate --json"),
    Kind(Comparison, frozenset({"ratio", "margin"}), "edgese compare A B --json"),
    Kind(Finding, frozenset({"asked", "candidate"}), "edgese select"),
    Kind(SustainedResult, frozenset({"curves", "ranks_first"}), "edgese profile --sustained TIME"),
    Kind(
        Inspection, frozenset({"delegates", "not_asked"}), "edgese inspect ARTIFACT --json > FILE"
    ),
    Kind(
        TrainingResult,
        frozenset({"log", "start", "classifier"}),
        "edgese train MODEL --data FOLDER --weights FILE",
    ),
    Kind(Manifest, frozenset({"interface", "parity"}), "edgese convert MODEL --target TARGET"),
)

# Of what `edgese predict --json` prints.
_PREDICTION: Final = frozenset({"latency_ms", "interval", "evidence"})


def remake_of(record: type[Record]) -> str:
    """The command that leaves a result of a kind."""
    return next(kind.remake for kind in KINDS if kind.record is record)


def read_result(path: Path) -> Record:
    """The result in a file, as a record of its kind.

    Raises:
        InputError: it is missing, not JSON, truncated, or no result of edgese.
        StoreError: it was written by an older or a newer edgese.
    """
    if target := target_of(path):
        raise InputError(
            f"{path} is a file of the target {target}, not a result.",
            hint=f"Name its manifest, {manifest_path(path)}, or files that --out or --json left.",
        )
    text = content(path, "result", JSON_BYTES, hint="Name files that --out or --json left.")
    with stage(f"read the result {path}"):
        try:
            keys = msgspec.json.decode(text, type=dict[str, msgspec.Raw]).keys()
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise InputError(
                f"{path} is no readable result: {error}.",
                hint="It may be truncated; make it again.",
            ) from error
    for kind in KINDS:
        if kind.keys <= keys:
            record = decode_record(kind.record, text, path, remake=kind.remake)
            if getattr(record, "seal", ""):
                check_seal(record, path, kind.remake)
            return record
    if keys >= _PREDICTION:
        raise InputError(
            f"{path} is a prediction alone, of no artifact; no result is made of it.",
            hint="`edgese profile ARTIFACT --device DEVICE --out FILE` keeps a prediction where "
            "the device is not there.",
        )
    raise InputError(
        f"{path} is no result of edgese: it has the keys {', '.join(sorted(keys)[:6])}.",
        hint="Name files of `edgese profile`, `evaluate`, `select` or `inspect`.",
    )

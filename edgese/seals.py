"""Hashes inside results, which tell whether anything in them was lost, moved or changed since.

A seal is no signature: it protects from accidents, and from editing that is meant well. Whoever
changes a record on purpose can seal it again.
"""

import hashlib
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import msgspec

from edgese.errors import InputError, StoreError
from edgese.records.base import Record

Sealed = TypeVar("Sealed", bound=Record)


def sealed(record: Sealed) -> Sealed:
    """The record with its ``seal``, the hash of everything else in it."""
    return msgspec.structs.replace(record, seal=_hash(record))


def check_seal(record: Record, path: Path, remake: str) -> None:
    """Raises where a record is not as it was when it was sealed.

    Raises:
        InputError: it has no seal.
        StoreError: its seal is of other contents.
    """
    seal = getattr(record, "seal", "")
    if not seal:
        raise InputError(
            f"{path} has no seal, so nobody can tell whether all of it is there.",
            hint=f"Make it again: `{remake}`.",
        )
    if seal != _hash(record):
        raise StoreError(
            f"{path} is not what was written: its seal is {seal[:12]}..., its contents make "
            f"{_hash(record)[:12]}....",
            hint=f"Something in it was lost, moved or changed; make it again: `{remake}`.",
        )


def _hash(record: Record) -> str:
    bare = msgspec.structs.replace(record, seal="")
    # A value that cannot be is told where the record is read, with the name of its field.
    with suppress(msgspec.ValidationError):
        # Read back first: a whole number in a place for fractions is written without its point.
        bare = msgspec.json.decode(msgspec.json.encode(bare), type=type(record))
    return hashlib.sha256(msgspec.json.encode(bare, order="deterministic")).hexdigest()

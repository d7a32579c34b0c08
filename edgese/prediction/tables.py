"""Reads the published measurements in calibration/latency."""

import csv
from collections.abc import Iterator
from functools import cache
from typing import Final

from edgese import catalog
from edgese.errors import InputError
from edgese.records.base import Record

FOLDER: Final = "calibration/latency"


class Cores(Record, frozen=True):
    """A cluster of equal cores of a measured device."""

    kind: str
    count: int
    ghz: float


class MeasuredDevice(Record, frozen=True):
    """A device of ncnn.csv or litert.csv.

    Attributes:
        title: as the source has it.
        soc: what boards of one chip have in common.
        catalogue: name in the catalogue of devices, where this very board is there.
        note: what of its cores does not come from the title.
    """

    name: str
    title: str
    soc: str
    cores: tuple[Cores, ...]
    catalogue: str = ""
    note: str = ""


class _Devices(Record, frozen=True):
    devices: tuple[MeasuredDevice, ...]


class CoreKind(Record, frozen=True):
    """Public facts of a kind of core.

    Attributes:
        flops: fp32 operations a cycle, a multiply-add counted as two.
        fp16: has fp16 arithmetic.
        source: where the flops were read.
    """

    kind: str
    flops: int
    out_of_order: bool
    fp16: bool
    source: str


class _Cores(Record, frozen=True):
    cores: tuple[CoreKind, ...]


class Npu(Record, frozen=True):
    """A device of qualcomm_ai_hub.csv, or a chip that no row measured (without a name)."""

    soc: str
    generation: int
    name: str = ""


class Npus(Record, frozen=True):
    """calibration/latency/npus.toml."""

    devices: tuple[Npu, ...]
    unmeasured: tuple[Npu, ...] = ()


class CpuRow(Record, frozen=True):
    """A row of ncnn.csv; ``powersave`` 1 is the little cores alone, 2 the big ones, 0 all."""

    device: str
    threads: int
    powersave: int
    network: str
    precision: str
    mean_ms: float


class RuntimeRow(Record, frozen=True):
    """A row of litert.csv."""

    device: str
    network: str
    precision: str
    delegate: str
    threads: int | None
    latency_ms: float


class NpuRow(Record, frozen=True):
    """A row of qualcomm_ai_hub.csv."""

    device: str
    network: str
    precision: str
    runtime: str
    latency_ms: float


@cache
def measured_devices() -> dict[str, MeasuredDevice]:
    """The devices of ncnn.csv by name."""
    path = catalog.data_file(f"{FOLDER}/ncnn_devices.toml")
    return {found.name: found for found in _Devices.from_toml(path.read_bytes(), path).devices}


@cache
def litert_devices() -> dict[str, MeasuredDevice]:
    """The devices of litert.csv by name."""
    path = catalog.data_file(f"{FOLDER}/litert_devices.toml")
    return {found.name: found for found in _Devices.from_toml(path.read_bytes(), path).devices}


@cache
def core_kinds() -> dict[str, CoreKind]:
    """Kinds of cores by name."""
    path = catalog.data_file(f"{FOLDER}/cores.toml")
    return {found.kind: found for found in _Cores.from_toml(path.read_bytes(), path).cores}


@cache
def npus() -> Npus:
    """The NPUs whose generation is told."""
    path = catalog.data_file(f"{FOLDER}/npus.toml")
    return Npus.from_toml(path.read_bytes(), path)


def cpu_rows() -> list[CpuRow]:
    """The measurements of ncnn, in an order that does not depend on the file's."""
    return sorted(
        (
            CpuRow(
                device=row["device"],
                threads=int(row["threads"]),
                powersave=int(row["powersave"]),
                network=row["network"],
                precision=row["precision"],
                mean_ms=float(row["mean_ms"]),
            )
            for row in _rows("ncnn")
        ),
        key=_key,
    )


def runtime_rows() -> list[RuntimeRow]:
    """LiteRT's measurements."""
    return sorted(
        (
            RuntimeRow(
                device=row["device"],
                network=row["network"],
                precision=row["precision"],
                delegate=row["delegate"],
                threads=int(row["threads"]) if row["threads"] else None,
                latency_ms=float(row["latency_ms"]),
            )
            for row in _rows("litert")
        ),
        key=_key,
    )


def npu_rows() -> list[NpuRow]:
    """Qualcomm's measurements."""
    return sorted(
        (
            NpuRow(
                device=row["device"],
                network=row["network"],
                precision=row["precision"],
                runtime=row["runtime"],
                latency_ms=float(row["latency_ms"]),
            )
            for row in _rows("qualcomm_ai_hub")
        ),
        key=_key,
    )


def _rows(name: str) -> Iterator[dict[str, str]]:
    path = catalog.data_file(f"{FOLDER}/{name}.csv")
    with path.open(newline="", encoding="utf-8") as file:
        for number, row in enumerate(csv.DictReader(file), start=2):
            if None in row or None in row.values():
                raise InputError(
                    f"{path}, line {number} has not as many cells as the header.",
                    hint="Mend the line.",
                )
            yield row


def _key(row: CpuRow | RuntimeRow | NpuRow) -> tuple[str, ...]:
    return tuple(str(getattr(row, name)) for name in row.__struct_fields__)

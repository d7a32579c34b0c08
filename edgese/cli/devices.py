"""``edgese devices``."""

import re
from typing import TYPE_CHECKING, Annotated, Final

import typer

from edgese.errors import ConfigError

if TYPE_CHECKING:
    from edgese.records.device import CoreCluster, DeviceFacts
    from edgese.records.measurement import DeviceInfo

EXAMPLE: Final = "Example: edgese devices pixel8"

_KINDS: Final = ("host", "android", "linux", "ios", "emulated", "npu")


def devices(
    device: Annotated[
        str | None, typer.Argument(metavar="DEVICE", help="A device's name; default: all.")
    ] = None,
    clean: Annotated[
        bool,
        typer.Option(
            "--clean",
            help="Remove all that edgese has on a phone or a board, its interpreter too.",
        ),
    ] = False,
    serial: Annotated[
        str, typer.Option(help="With --clean: the phone, among several of its kind.")
    ] = "",
    adb_server: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="With --clean: the adb server of the phone.")
    ] = "",
    address: Annotated[
        str, typer.Option(metavar="USER@HOST:PORT", help="With --clean: where the board is.")
    ] = "",
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """List the devices that --device knows and whether they can be reached, or tell all of one.

    Every fact stands in a file with the place that it comes from; what nobody publishes is left
    out. A project may have devices of its own, in its folder targets/devices.
    """
    if clean:
        _clean(device, serial, adb_server, address, json=json)
    elif serial or adb_server or address:
        raise ConfigError(
            "--serial, --adb-server and --address go with --clean here.",
            hint="`edgese profile` takes them too.",
        )
    elif device is None:
        _list(json=json)
    else:
        _show(device, json=json)


def _clean(device: str | None, serial: str, adb_server: str, address: str, *, json: bool) -> None:
    from edgese import catalog
    from edgese.cli import ui
    from edgese.devices import Reach, find_device
    from edgese.devices.adb import AdbDevice
    from edgese.devices.ssh import SshDevice
    from edgese.measure.progress_stream import stages

    if device is None:
        raise ConfigError("--clean needs a device.", hint="Name the phone or the board.")
    facts = catalog.device_facts(device)
    if facts.transport not in {"adb", "ssh"}:
        raise ConfigError(
            f"edgese leaves nothing on {facts.title} that --clean could remove.",
            hint="Name a phone or a board. `edgese cache prune` clears this machine.",
        )
    place = find_device(device, Reach(serial=serial, adb_server=adb_server, address=address))
    assert isinstance(place, AdbDevice | SshDevice)  # noqa: S101  # as their transports say
    with ui.bars([]) as show:
        removed = place.clean(stages(lambda stage, fraction: show("clean", stage, fraction)))
    if json:
        ui.echo_json({"device": device, "removed": removed})
        return
    for name in removed:
        ui.echo(f"removed {name}")
    if not removed:
        ui.echo(f"{facts.title}: nothing to remove.")


def _list(*, json: bool) -> None:
    from edgese import catalog
    from edgese.cli import ui
    from edgese.devices import reachable

    known = sorted(map(catalog.device_facts, catalog.device_names()), key=_place)
    if json:
        ui.echo_json([{"facts": facts, "reachable": reachable(facts.name)} for facts in known])
        return
    ui.table(
        ("device", "SoC", "fastest cores", "GPU", "NPU", "through", "reachable now"),
        [
            (
                facts.name,
                facts.soc or "-",
                _cluster(facts.cores[0]) if facts.cores else "-",
                facts.gpu or "-",
                facts.npu or "-",
                facts.transport,
                reachable(facts.name),
            )
            for facts in known
        ],
        left=7,
    )


def _place(facts: "DeviceFacts") -> tuple[int, list[tuple[str, int]]]:
    """Sorts by kind, then by name, whose numbers count as numbers: pixel9 before pixel10."""
    parts = re.findall(r"(\D*)(\d*)", facts.name)
    return _KINDS.index(facts.kind), [(word, int(number or 0)) for word, number in parts]


def _show(name: str, *, json: bool) -> None:
    from edgese import catalog
    from edgese.cli import ui
    from edgese.devices import host, reachable

    facts = catalog.device_facts(name)
    info = host.info() if facts.transport == "host" else None
    if json:
        ui.echo_json({"facts": facts, "reachable": reachable(name), "info": info})
        return
    ui.echo(f"{facts.name}: {facts.title}")
    ui.echo(f"through {facts.transport}, reachable now: {reachable(name)}")
    ui.table(("fact", "value", "source"), [*_told(info), *_rows(facts)], left=3)


def _told(info: "DeviceInfo | None") -> list[tuple[str, str, str]]:
    """What the machine says of itself."""
    if info is None:
        return []
    facts = {
        "processor": info.cpu,
        "cores": f"{info.cores} ({info.physical_cores} physical), {info.architecture}",
        "system": info.system,
        "memory": "-" if info.memory_mb is None else f"{info.memory_mb:,} MiB",
    }
    return [(fact, value, "this machine, now") for fact, value in facts.items()]


def _rows(facts: "DeviceFacts") -> list[tuple[str, str, str]]:
    """Every fact that is known, with its source."""
    values: list[tuple[str, str, str]] = [("SoC", facts.soc, "soc")]
    values += [("cores", _cluster(cluster), "cores") for cluster in facts.cores]
    values += [("int8 products", _products(facts.cores), "features")] if facts.cores else []
    values += [
        ("GPU", facts.gpu, "gpu"),
        ("NPU", facts.npu, "npu"),
        ("memory", _quantity(facts.memory_gb, "GB"), "memory_gb"),
        (
            "memory bandwidth",
            _quantity(facts.memory_bandwidth_gb_s, "GB/s"),
            "memory_bandwidth_gb_s",
        ),
    ]
    values += [
        (f"{target} runs on", ", ".join(delegates), "delegates")
        for target, delegates in facts.delegates.items()
    ]
    values += [
        ("recognised by", f"{key} = {value}", "properties")
        for key, value in facts.properties.items()
    ]
    if facts.vela is not None:
        values += [
            ("accelerator", facts.vela.accelerator, "vela"),
            ("system", facts.vela.system, "vela"),
            ("memory mode", facts.vela.memory_mode, "vela"),
            ("configuration file", facts.vela.file, "vela"),
        ]
    rows = [(fact, value, facts.sources.get(key, "-")) for fact, value, key in values if value]
    if facts.emulated_as:
        rows.append(("emulated as", facts.emulated_as, "the same int8 products"))
    return [
        line for at, row in enumerate(rows) for line in _lines(row, rows[at - 1] if at else None)
    ]


def _lines(
    row: tuple[str, str, str], before: tuple[str, str, str] | None
) -> list[tuple[str, str, str]]:
    """A fact in lines, one for each source; the source of the fact before is not repeated."""
    fact, value, source = row
    if before is not None and before[2] == source:
        return [(fact, value, '"')]
    first, *others = source.split("; ")
    return [(fact, value, first), *(("", "", other) for other in others)]


def _cluster(cluster: "CoreCluster") -> str:
    clock = "" if cluster.ghz is None else f" {cluster.ghz:.2f} GHz"
    return f"{cluster.count} x {cluster.kind}{clock}"


def _products(cores: "tuple[CoreCluster, ...]") -> str:
    """The int8 instructions that all cores have, because a thread may land on any of them."""
    if all(cluster.i8mm for cluster in cores):
        return "matrix (i8mm) and dot product"
    if all(cluster.dotprod for cluster in cores):
        return "dot product"
    return "none"


def _quantity(value: float | None, unit: str) -> str:
    return "" if value is None else f"{value:g} {unit}"

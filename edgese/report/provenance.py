"""Tables of the page: all figures, and what they come from."""

from collections.abc import Sequence
from typing import Final

import msgspec

from edgese.budgets.regression import same_machine
from edgese.records.device import PhoneState
from edgese.records.emulation import Emulation, Estimate
from edgese.records.measurement import (
    DeviceInfo,
    OperatorTimes,
    Profile,
    SustainedCurve,
    SustainedResult,
)
from edgese.records.prediction import Prediction
from edgese.records.profile import ProfileResult, ProgramProfile
from edgese.report.markup import Markup, joined, tag
from edgese.report.tables import table

# What tells of an artifact that a runtime executed.
_Executed = Profile | OperatorTimes | SustainedCurve | Emulation

_UNITS: Final = {"s": "s", "mb": "MiB"}


def latency_table(profiles: Sequence[Profile], names: Sequence[str]) -> Markup:
    """Everything that a profile tells in figures."""
    return table(
        (
            "artifact",
            "load",
            "first run",
            "p50",
            "p90",
            "p99",
            "inferences",
            "pictures/s",
            "size",
            "MACs",
            "parameters",
        ),
        [
            (
                name,
                f"{one.load_ms:.1f} ms",
                f"{one.first_run_ms:.2f} ms",
                *(
                    f"{value:.2f} ms"
                    for value in (
                        one.latency.p50_ms,
                        one.latency.p90_ms,
                        one.latency.p99_ms,
                    )
                ),
                f"{one.latency.count:,}",
                f"{one.throughput_per_s:.1f}",
                f"{one.size_bytes / 2**20:.1f} MiB",
                "" if one.macs is None else f"{one.macs / 1e6:,.0f} M",
                "" if one.parameters is None else f"{one.parameters / 1e6:.2f} M",
            )
            for one, name in zip(profiles, names, strict=True)
        ],
    )


def section(
    result: ProfileResult | None,
    operators: Sequence[OperatorTimes] = (),
    sustained: SustainedResult | None = None,
    *,
    emulations: Sequence[Emulation] = (),
    predictions: Sequence[Prediction] = (),
    estimates: Sequence[Estimate] = (),
) -> Markup:
    """The device, the plan, versions, hashes and published sources."""
    devices: dict[str, DeviceInfo] = {}
    artifacts: dict[str, _Executed] = {}
    executed: list[Profile | OperatorTimes] = [*(result.profiles if result else ()), *operators]
    machines = [one.device for one in executed] + ([sustained.device] if sustained else [])
    for info in machines:
        other = devices.get(info.name)
        same = other is None or same_machine(other, info)
        devices.setdefault(info.name if same else f"{info.name}, {info.cpu}", info)
    named: list[_Executed] = [*executed, *(sustained.curves if sustained else ())]
    for one in named:
        first = artifacts.get(one.label)
        same = first is None or first.sha256 == one.sha256
        artifacts.setdefault(one.label if same else f"{one.label} {one.sha256[:8]}", one)
    made = result or sustained
    return tag(
        "section",
        tag("header", tag("h2", "Where this comes from")),
        *(_facts(name, _told(info)) for name, info in devices.items()),
        _state("Before", result.before) if result and result.before else None,
        _state("After", result.after) if result and result.after else None,
        _facts("Plan", _told(result.plan)) if result and result.plan else None,
        _facts("Made by", {"edgese": made.edgese, "at": made.created}) if made else None,
        *(_artifact(label, one, {}) for label, one in artifacts.items()),
        *(
            _artifact(
                f"{one.label} on {one.device}",
                one,
                {"emulator": f"QEMU {one.qemu}, {one.cpu}: {' '.join(one.features)}"},
            )
            for one in emulations
        ),
        *(_program(one) for one in (result.programs if result else ())),
        *(_estimate(one) for one in estimates),
        *(
            _facts(
                f"{one.model} {one.precision} on {one.device}",
                {
                    "rests on": f"{one.rows} published measurements",
                    "sources": "\n".join(one.sources),
                    "when left out": "\n".join(
                        f"{e.fit} {e.precision}, device {e.device}, network {e.network}: "
                        f"{e.within_20:.0%} of {e.count} within 20 %, "
                        f"interval held {e.coverage:.0%}"
                        for e in one.evidence
                    ),
                },
            )
            for one in predictions
        ),
    )


def _estimate(one: Estimate) -> Markup:
    configuration = f"{one.accelerator}, {one.system}, {one.memory_mode}, {one.clock_mhz:g} MHz"
    return _facts(
        f"{one.label} on {one.device}",
        {
            "network": _network(one),
            "compiler": one.compiler,
            "configuration": configuration,
            "sha256": one.sha256,
        },
    )


def _state(when: str, state: PhoneState) -> Markup:
    """What a phone or a board said of itself."""
    heat = ", ".join(f"{name} {value:g}" for name, value in state.temperatures_c.items())
    governors = sorted({core.governor for core in state.cores if core.governor})
    return _facts(
        when,
        {
            "taken": state.taken,
            "device": f"{state.model} {state.soc} {state.build}".strip(),
            "temperatures (°C)": heat,
            "battery": ""
            if state.battery_percent is None
            else f"{state.battery_percent} %"
            + ("" if state.battery_c is None else f", {state.battery_c:g} °C")
            + (f", {state.powered}" if state.powered else ""),
            "thermal status": "" if state.thermal_status is None else str(state.thermal_status),
            "governor": ", ".join(governors),
            "pinned to cores": ", ".join(map(str, state.pinned)) or state.pinning,
        },
    )


def _program(one: ProgramProfile) -> Markup:
    return _facts(
        one.label,
        {
            "network": _network(one),
            "program": f"{one.program}, sha256 {one.program_sha256}",
            "sha256": one.sha256,
        },
    )


def _network(one: _Executed | Estimate | ProgramProfile) -> str:
    height, width = one.resolution
    weights = "trained" if one.trained else "random"
    return f"{one.model}, {one.recipe}, {height} x {width} px, {weights} weights"


def _artifact(label: str, one: _Executed, more: dict[str, str]) -> Markup:
    return _facts(
        label,
        {
            "network": _network(one),
            "runtime": f"{one.target}, {one.delegate}",
            "versions": ", ".join(f"{name} {told}" for name, told in one.versions.items()),
            **more,
            "sha256": one.sha256,
        },
    )


def _told(record: DeviceInfo | object) -> dict[str, str]:
    """A record's fields in words; what is not known is left out."""
    fields = msgspec.to_builtins(record)
    return {
        _in_words(name): f"{value:g}" if isinstance(value, float) else str(value)
        for name, value in fields.items()
        if value is not None and value != ""
    }


def _in_words(field: str) -> str:
    """A field's name with its unit in brackets."""
    name, _, unit = field.rpartition("_")
    if name and unit in _UNITS:
        return f"{name.replace('_', ' ')} ({_UNITS[unit]})"
    return field.replace("_", " ")


def _facts(title: str, facts: dict[str, str]) -> Markup:
    return joined(
        tag("h3", title),
        tag(
            "dl",
            *(
                joined(
                    tag("dt", name), tag("dd", value, class_="hash" if name == "sha256" else None)
                )
                for name, value in facts.items()
                if value
            ),
        ),
    )

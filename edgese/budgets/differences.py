"""What changed between two artifacts or two profiles, and what of it may cost time; pure."""

from collections.abc import Iterator
from typing import Final, NamedTuple

from edgese.models.cost import cost
from edgese.records.artifact import Manifest
from edgese.records.budget import Change, Differences
from edgese.records.measurement import Profile

# Changes smaller than this are no reason for anything.
_SMALL: Final = 0.01
# What reduces numbers further is faster, as a rule; a place further on in this list is slower.
_SPEED: Final = ("int8", "int8_weights", "fp16", "fp32")


class Side(NamedTuple):
    """One of the two, and what is known of it."""

    name: str
    manifest: Manifest | None = None
    profile: Profile | None = None


def differences(first: Side, second: Side) -> Differences:
    """Everything that is not the same, and the reasons to be slower that are among it."""
    changes: list[Change] = []
    notes: list[str] = []
    if first.manifest and second.manifest:
        changes += _artifacts(first.manifest, second.manifest)
    else:
        notes.append(
            "Operators, coverage and tools are told by manifests: name the artifacts themselves, "
            "or keep them where their profiles say."
        )
    if first.profile and second.profile:
        changes += _profiles(first.profile, second.profile)
    else:
        notes.append("Times are told by profiles; `edgese compare` measures both in turns.")
    changes = list(dict.fromkeys(changes))
    slower = sorted((one for one in changes if one.slower), key=lambda one: -one.weight)
    return Differences(
        first=first.name,
        second=second.name,
        changes=tuple(changes),
        reasons=tuple(dict.fromkeys(one.slower for one in slower)),
        notes=tuple(notes),
    )


def _artifacts(one: Manifest, other: Manifest) -> Iterator[Change]:
    yield from _network(one, other)
    yield from _numbers(one, other)
    yield from _operators(one, other)
    yield from _coverage(one, other)
    yield from _versions("toolchain", one.toolchain, other.toolchain)
    if one.edgese != other.edgese:
        yield Change(area="toolchain", what="edgese", before=one.edgese, after=other.edgese)
    yield from _grown(
        "file",
        "size",
        one.size_bytes,
        other.size_bytes,
        unit="bytes",
        reason="the file is {:.0%} larger, so more is loaded and read",
        weight=1.0,
    )
    if one.sha256 != other.sha256:
        yield Change(area="file", what="sha256", before=one.sha256[:12], after=other.sha256[:12])


def _network(one: Manifest, other: Manifest) -> Iterator[Change]:
    pairs = (
        ("model", one.model.name, other.model.name),
        ("resolution", _resolution(one), _resolution(other)),
        ("classes", str(one.model.classes), str(other.model.classes)),
        ("batch", str(one.interface.input.shape[0]), str(other.interface.input.shape[0])),
        ("weights", one.weights.sha256[:12] or "none", other.weights.sha256[:12] or "none"),
    )
    for what, before, after in pairs:
        if before != after:
            yield Change(area="network", what=what, before=before, after=after)
    counts = [_macs(one), _macs(other)]
    if counts[0] is not None and counts[1] is not None:
        yield from _grown(
            "network",
            "multiply-adds",
            counts[0],
            counts[1],
            reason="the network computes {:.0%} more multiply-adds",
            weight=5.0,
        )


def _numbers(one: Manifest, other: Manifest) -> Iterator[Change]:
    before, after = one.recipe, other.recipe
    if before.name != after.name:
        slower = _SPEED.index(after.precision) > _SPEED.index(before.precision)
        yield Change(
            area="numbers",
            what="recipe",
            before=before.name,
            after=after.name,
            slower=f"it computes in {after.precision} instead of {before.precision}"
            if slower
            else "",
            weight=6.0,
        )
    for what, then, now in (
        ("input", one.interface.input.dtype, other.interface.input.dtype),
        ("output", one.interface.output.dtype, other.interface.output.dtype),
        (
            "activations",
            one.options.activations or "default",
            other.options.activations or "default",
        ),
        ("compute units", one.options.compute_units or "-", other.options.compute_units or "-"),
    ):
        if then != now:
            yield Change(area="numbers", what=what, before=then, after=now)


def _operators(one: Manifest, other: Manifest) -> Iterator[Change]:
    before, after = one.operators.operators, other.operators.operators
    if one.target != other.target:
        yield Change(area="operators", what="target", before=one.target, after=other.target)
        return
    for kind in sorted(before.keys() | after.keys()):
        then, now = before.get(kind, 0), after.get(kind, 0)
        if then != now:
            new = now > then and then == 0
            yield Change(
                area="operators",
                what=kind,
                before=str(then),
                after=str(now),
                slower=f"{now} operators of a new kind, {kind}" if new else "",
                weight=2.0,
            )


def _coverage(one: Manifest, other: Manifest) -> Iterator[Change]:
    before, after = one.operators, other.operators
    if one.delegate != other.delegate:
        yield Change(
            area="coverage",
            what="delegate",
            before=one.delegate,
            after=other.delegate,
            slower=f"it runs on {other.delegate} instead of {one.delegate}",
            weight=7.0,
        )
    if before.partitions != after.partitions:
        more = after.partitions > before.partitions
        yield Change(
            area="coverage",
            what="pieces of the delegate",
            before=str(before.partitions),
            after=str(after.partitions),
            slower=f"the delegate runs {after.partitions} pieces instead of {before.partitions}, "
            "each with a way to the processor and back"
            if more
            else "",
            weight=8.0,
        )
    then = {outside.operator: outside for outside in before.outside}
    now = {outside.operator: outside for outside in after.outside}
    for kind in sorted(then.keys() | now.keys()):
        counts = (then[kind].count if kind in then else 0, now[kind].count if kind in now else 0)
        if counts[0] != counts[1]:
            more = counts[1] > counts[0]
            yield Change(
                area="coverage",
                what=f"{kind} outside the delegate",
                before=str(counts[0]),
                after=str(counts[1]),
                slower=f"{counts[1]} {kind} run outside the delegate: {now[kind].reason}"
                if more
                else "",
                weight=9.0,
            )


def _profiles(one: Profile, other: Profile) -> Iterator[Change]:
    pairs = (
        ("device", one.device.name, other.device.name, 10.0),
        ("processor", one.device.cpu, other.device.cpu, 10.0),
        ("cores", str(one.device.cores), str(other.device.cores), 4.0),
        ("governor", one.device.governor or "-", other.device.governor or "-", 4.0),
        ("system", one.device.system, other.device.system, 1.5),
        ("threads", str(one.threads), str(other.threads), 9.5),
    )
    for what, before, after, weight in pairs:
        if before != after:
            yield Change(
                area="machine",
                what=what,
                before=before,
                after=after,
                slower=f"it was measured with {what} {after} instead of {before}",
                weight=weight,
            )
    for what, before, after in (
        ("model", one.model, other.model),
        ("recipe", one.recipe, other.recipe),
        ("delegate", one.delegate, other.delegate),
    ):
        if before != after:
            yield Change(area="network", what=what, before=before, after=after)
    yield from _versions("machine", one.versions, other.versions)
    busy = [profile.device.load_average or 0.0 for profile in (one, other)]
    if busy[1] > busy[0] + 0.5:
        yield Change(
            area="machine",
            what="load before",
            before=f"{busy[0]:.1f}",
            after=f"{busy[1]:.1f}",
            slower="the machine was busier before it was measured",
            weight=3.0,
        )
    known = {caution.code for caution in one.cautions}
    for caution in other.cautions:
        if caution.code not in known:
            yield Change(
                area="machine",
                what=caution.code,
                before="no",
                after="yes",
                slower=caution.message,
                weight=3.5,
            )
    for what, then, now in (
        ("p50", one.latency.p50_ms, other.latency.p50_ms),
        ("p90", one.latency.p90_ms, other.latency.p90_ms),
        ("first run", one.first_run_ms, other.first_run_ms),
        ("load", one.load_ms, other.load_ms),
    ):
        if abs(now / then - 1) > _SMALL:
            yield Change(area="time", what=what, before=f"{then:.2f} ms", after=f"{now:.2f} ms")


def _versions(area: str, one: dict[str, str], other: dict[str, str]) -> Iterator[Change]:
    for name in sorted(one.keys() | other.keys()):
        before, after = one.get(name, "-"), other.get(name, "-")
        if before != after:
            runs = area == "machine"
            yield Change(
                area="machine" if runs else "toolchain",
                what=name,
                before=before,
                after=after,
                slower=f"another version executes it: {name} {after} instead of {before}"
                if runs
                else f"another version made it: {name} {after} instead of {before}",
                weight=4.5 if runs else 2.5,
            )


def _grown(
    area: str, what: str, before: float, after: float, *, unit: str = "", reason: str, weight: float
) -> Iterator[Change]:
    if before == after:
        return
    growth = after / before - 1 if before else 1.0
    yield Change(
        area="file" if area == "file" else "network",
        what=what,
        before=f"{before:,.0f} {unit}".strip(),
        after=f"{after:,.0f} {unit}".strip(),
        slower=reason.format(growth) if growth > _SMALL else "",
        weight=weight,
    )


def _macs(manifest: Manifest) -> int | None:
    if manifest.spec is None:
        return None
    pixels = manifest.model.preprocessing
    return cost(manifest.spec, pixels.height, pixels.width).macs


def _resolution(manifest: Manifest) -> str:
    pixels = manifest.model.preprocessing
    return f"{pixels.height}x{pixels.width}"

"""The figures of what was not measured on the device: emulated, predicted, estimated."""

from collections.abc import Sequence

from edgese.records.emulation import Emulation, Estimate
from edgese.records.prediction import Prediction
from edgese.report import svg
from edgese.report.markup import Markup
from edgese.report.scale import around


def emulations(found: Sequence[Emulation], names: Sequence[str]) -> Markup:
    """Instructions of one inference, of each emulated processor."""
    scale = around([one.instructions.total / 1e6 for one in found], zero=True)
    return svg.rows(
        (
            svg.row(
                f"{name} on {one.device}",
                svg.bar(one.instructions.total / 1e6, scale, f"{one.instructions.total:,}"),
                f"{one.instructions.total / 1e6:.1f} M",
                title=f"{one.label}, {one.cpu}",
                note=", ".join(one.dispatch),
            )
            for one, name in zip(found, names, strict=True)
        ),
        scale,
        "M instr.",
    )


def predictions(found: Sequence[Prediction]) -> Markup:
    """Expected latencies with their intervals."""
    ends = [edge for one in found for edge in (one.interval.low, one.interval.high)]
    scale = around(ends)
    drawn = []
    for one in found:
        low, middle, high = (
            svg.SIDE * scale.place(x) for x in (one.interval.low, one.latency_ms, one.interval.high)
        )
        told = f"{one.interval.low:.1f} to {one.interval.high:.1f} ms"
        plot = svg.canvas(
            svg.grid_x(scale),
            svg.line((low, 500.0), (high, 500.0), "interval main", told),
            svg.dot((middle, 500.0), "main", f"{one.latency_ms:.2f} ms"),
            label=f"{one.latency_ms:.1f} ms, {told}",
            class_="plot strip",
        )
        drawn.append(
            svg.row(
                f"{one.model} {one.precision}, {one.resolution[0]} px: {one.target} {one.delegate} "
                f"on {one.device}",
                plot,
                f"{one.latency_ms:.1f} ms",
                note=f"{one.interval.confidence:.0%}: {told}",
            )
        )
    return svg.rows(drawn, scale, "ms")


def estimates(found: Sequence[Estimate], names: Sequence[str]) -> Markup:
    """What compilers compute of accelerators."""
    scale = around([one.latency_ms for one in found], zero=True)
    return svg.rows(
        (
            svg.row(
                f"{name} on {one.device}",
                svg.bar(one.latency_ms, scale, f"{one.cycles:,} cycles"),
                f"{one.latency_ms:.2f} ms",
                title=f"{one.label}: {one.compiler}, {one.system}, {one.memory_mode}",
                note=f"{one.npu_operators} of {one.npu_operators + one.cpu_operators} on the NPU",
            )
            for one, name in zip(found, names, strict=True)
        ),
        scale,
        "ms",
    )

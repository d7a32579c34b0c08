"""The figures of measured profiles: latency, ratios, drift, memory."""

from collections.abc import Sequence
from itertools import chain
from math import exp
from typing import Final

from edgese.measure.summary import block_medians_ms, samples_ms
from edgese.records.measurement import Block, Profile, Ratio
from edgese.report import svg
from edgese.report.markup import Markup, joined, tag
from edgese.report.scale import Scale, around

_BINS: Final = 160
# In bins; wide enough that single inferences make no teeth.
_KERNEL: Final = 1.5
_DRIFT_LEAST: Final = 5.0


def latency(profiles: Sequence[Profile], names: Sequence[str]) -> Markup:
    """The distribution of all counted inferences, a row for each artifact."""
    samples = [samples_ms(_blocks(profile)) for profile in profiles]
    scale = around([edge for one in zip(profiles, samples, strict=True) for edge in _edges(*one)])
    return svg.rows(
        (
            svg.row(
                name,
                _distribution(x, scale, profile),
                f"{profile.latency.p50_ms:.2f} ms",
                title=profile.label,
                note=_beyond(profile, scale),
            )
            for profile, name, x in zip(profiles, names, samples, strict=True)
        ),
        scale,
        "ms",
    )


def ratios(found: Sequence[Ratio], names: dict[str, str]) -> Markup:
    """Ratios with their intervals, beside a line at 1."""
    edges = [1.0, *chain.from_iterable((r.interval.low, r.interval.high) for r in found)]
    # Logarithmic, so that half as long is as far from 1 as twice as long.
    scale = Scale(min(edges) / 1.06, max(edges) * 1.06, logarithmic=True)
    one = svg.SIDE * scale.place(1.0)
    # A sweep has a baseline in each of its groups.
    several = len({ratio.baseline for ratio in found}) > 1
    drawn = []
    for ratio in found:
        low, middle, high = (
            svg.SIDE * scale.place(x)
            for x in (ratio.interval.low, ratio.ratio, ratio.interval.high)
        )
        open_ = ratio.interval.low <= 1.0 <= ratio.interval.high
        kind = "unclear" if open_ else "main"
        told = f"{ratio.interval.low:.3f} to {ratio.interval.high:.3f}"
        plot = svg.canvas(
            svg.grid_x(scale),
            svg.line((one, 0.0), (one, svg.SIDE), "reference"),
            svg.line((low, 500.0), (high, 500.0), f"interval {kind}", told),
            svg.dot((middle, 500.0), kind, f"{ratio.ratio:.3f}"),
            label=f"{ratio.ratio:.3f}, {told}",
            class_="plot strip",
        )
        drawn.append(
            svg.row(
                _beside(ratio, names) if several else names.get(ratio.artifact, ratio.artifact),
                plot,
                f"{ratio.ratio:.3f}",
                title=f"{ratio.artifact} beside {ratio.baseline}",
                note=f"{told}: cannot be told apart" if open_ else told,
            )
        )
    return svg.rows(drawn, scale, "times")


def drift(profiles: Sequence[Profile], names: Sequence[str]) -> Markup:
    """How each artifact's blocks differ from its own median, over the time of the job."""
    series = [
        [
            (block.start_ms / 1000, 100 * (time / profile.latency.p50_ms - 1))
            for block, time in zip(
                _blocks(profile), block_medians_ms(_blocks(profile)), strict=True
            )
        ]
        for profile in profiles
    ]
    points = list(chain.from_iterable(series))
    reach = max(_DRIFT_LEAST, *(abs(change) for _, change in points)) * 1.1
    x = Scale(0.0, max(start for start, _ in points) * 1.03 or 1.0)
    y = Scale(-reach, reach)
    return tag(
        "div",
        *(
            svg.panel(name, _drifting(profile, marks, x, y), x, y, x_unit="s", y_unit="%")
            for profile, name, marks in zip(profiles, names, series, strict=True)
        ),
        class_="panels",
    )


def memory(profiles: Sequence[Profile], names: Sequence[str]) -> Markup:
    """Resident memory: the runtime's own, and what the artifact added to it at its peak."""
    scale = around([profile.peak_memory_mb for profile in profiles], zero=True)
    drawn = []
    for profile, name in zip(profiles, names, strict=True):
        runtime = profile.memory_before_load_mb
        added = max(profile.peak_memory_mb - runtime, 0.0)
        at, end = (svg.SIDE * scale.place(x) for x in (runtime, runtime + added))
        plot = svg.canvas(
            svg.grid_x(scale),
            svg.box(0.0, at, "quiet-bar", f"the runtime: {runtime:.1f} MiB"),
            svg.box(at, end, "main-bar", f"the artifact: {added:.1f} MiB"),
            label=f"{runtime:.1f} MiB of the runtime and {added:.1f} MiB of the artifact",
            class_="plot bar",
        )
        drawn.append(
            svg.row(
                name,
                plot,
                f"+{added:.0f} MiB",
                title=profile.label,
                note=f"of {profile.peak_memory_mb:.0f} MiB",
            )
        )
    return svg.rows(drawn, scale, "MiB")


def density(samples: Sequence[float], scale: Scale) -> list[float]:
    """How many samples lie where, smoothed, at ``_BINS`` places; the most are 1."""
    counts = [0] * _BINS
    for sample in samples:
        counts[min(int(scale.place(sample) * _BINS), _BINS - 1)] += 1
    reach = int(4 * _KERNEL)
    weights = {d: exp(-0.5 * (d / _KERNEL) ** 2) for d in range(-reach, reach + 1)}
    smooth = [
        sum(
            weight * counts[at + distance]
            for distance, weight in weights.items()
            if 0 <= at + distance < _BINS
        )
        for at in range(_BINS)
    ]
    most = max(smooth)
    return [value / most for value in smooth]


def _beside(ratio: Ratio, names: dict[str, str]) -> str:
    baseline = names.get(ratio.baseline, ratio.baseline)
    return f"{names.get(ratio.artifact, ratio.artifact)} beside {baseline}"


def _edges(profile: Profile, samples: Sequence[float]) -> tuple[float, float]:
    """What an axis must hold; single very slow runs would squeeze all shapes, and are told."""
    told = profile.latency
    if not samples:
        return told.min_ms, told.p99_ms
    return min(samples), min(max(samples), 1.3 * told.p99_ms)


def _distribution(samples: Sequence[float], scale: Scale, profile: Profile) -> Markup:
    told = profile.latency
    strokes = (("p50", told.p50_ms, 0), ("p90", told.p90_ms, 180), ("p99", told.p99_ms, 300))
    return svg.canvas(
        svg.grid_x(scale),
        _shape(samples, scale) if samples else "",
        *(
            svg.line((x, short), (x, svg.SIDE - short), name, f"{name} {value:.2f} ms")
            for name, value, short in strokes
            for x in (svg.SIDE * scale.place(value),)
        ),
        label=f"p50 {told.p50_ms:.2f}, p90 {told.p90_ms:.2f}, p99 {told.p99_ms:.2f} ms "
        f"of {told.count} inferences",
        class_="plot strip",
    )


def _shape(samples: Sequence[float], scale: Scale) -> Markup:
    heights = density(samples, scale)
    places = [svg.SIDE * (at + 0.5) / _BINS for at in range(_BINS)]
    upper = [(x, 500 - 430 * height) for x, height in zip(places, heights, strict=True)]
    lower = [(x, 500 + 430 * height) for x, height in zip(places, heights, strict=True)]
    return svg.area(upper, lower, "shape")


def _beyond(profile: Profile, scale: Scale) -> str:
    told = profile.latency
    beyond = f", max {told.max_ms:.1f}" if told.max_ms > scale.high else ""
    return f"p90 {told.p90_ms:.2f}, p99 {told.p99_ms:.2f}{beyond}"


def _drifting(profile: Profile, marks: Sequence[tuple[float, float]], x: Scale, y: Scale) -> Markup:
    def at(start_s: float, change: float) -> svg.Point:
        return svg.SIDE * x.place(start_s), svg.SIDE * (1 - y.place(change))

    # A launch's first block tells where it began.
    starts = [at(launch.blocks[0].start_ms / 1000, 0.0)[0] for launch in profile.launches[1:]]
    return svg.canvas(
        svg.grid_y(y),
        *(svg.line((start, 0.0), (start, svg.SIDE), "launch") for start in starts),
        svg.line(at(x.low, 0.0), at(x.high, 0.0), "reference"),
        joined(
            *(
                svg.dot(at(start, change), "main", f"{start:.1f} s: {change:+.1f} %")
                for start, change in marks
            )
        ),
        label=f"medians of {len(marks)} blocks over time",
    )


def _blocks(profile: Profile) -> tuple[Block, ...]:
    return tuple(chain.from_iterable(launch.blocks for launch in profile.launches))

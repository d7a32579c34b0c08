"""Weights from a palette: 16 or 64 values a tensor, and from iOS 18 on a scale for each channel.

BatchNorm that is folded into a convolution leaves its channels at very different scales, which one
palette cannot serve; a scale a channel can, and came with iOS 18 [1].

Source: [1] https://apple.github.io/coremltools/docs-guides/source/opt-whats-new.html.
"""

from typing import Any, Final

from edgese.records.artifact import Precision

BITS: Final[dict[Precision, int]] = {"palette6": 6, "palette4": 4}
# Below so many weights a palette and its indices save nothing that counts.
_FEWEST: Final = 512


def palettized(model: Any, bits: int, *, scaled: bool) -> Any:  # noqa: ANN401  # coremltools is untyped
    """The model with its larger weights from palettes, found by k-means.

    Args:
        scaled: with a scale for each channel.
    """
    import coremltools.optimize.coreml as cto

    config = cto.OpPalettizerConfig(
        mode="kmeans", nbits=bits, enable_per_channel_scale=scaled, weight_threshold=_FEWEST
    )
    return cto.palettize_weights(model, cto.OptimizationConfig(global_config=config))

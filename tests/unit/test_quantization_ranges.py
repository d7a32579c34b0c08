"""Ranges and grids: what each method clips, and what a grid can hold."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgese.program.qparams import FINEST, HIGH, LOW, constant_grid, grid_of, weight_scales
from edgese.quantization.ranges import BINS, STEPS, Histogram, chosen_range

METHODS = ("min_max", "percentile", "mse", "fisher")


def histogram(values, weights=None):
    low, high = float(values.min()), float(values.max())
    counts, _ = np.histogram(values, BINS, (low, high), weights=weights)
    return Histogram(low=low, high=high, weights=counts.astype(np.float64))


def error(values, low, high):
    """Mean squared error of values on the grid of a range, computed value by value."""
    step = (high - low) / STEPS
    return np.mean((np.clip(np.round((values - low) / step), 0, STEPS) * step + low - values) ** 2)


@pytest.fixture
def heavy():
    """Values of which a few lie far out, as the activations of real networks do."""
    generator = np.random.default_rng(0)
    return np.concatenate([generator.normal(0, 1, 200_000), [40.0, -25.0]])


def test_min_max_clips_nothing(heavy):
    assert chosen_range(histogram(heavy), "min_max") == (-25.0, 40.0)


def test_a_percentile_leaves_its_share_out_at_either_end(heavy):
    low, high = chosen_range(histogram(heavy), "percentile", percentile=99.0)
    inside = np.mean((heavy >= low) & (heavy <= high))
    assert inside == pytest.approx(0.99, abs=0.004)


def test_the_least_squared_error_is_found_among_narrower_and_wider_ranges(heavy):
    low, high = chosen_range(histogram(heavy), "mse")
    found = error(heavy, low, high)
    assert found < 0.8 * error(heavy, -25.0, 40.0)
    for factor in (0.6, 0.8, 1.25, 1.7):
        assert found <= error(heavy, factor * low, factor * high) * 1.02


def test_what_costs_nothing_at_the_output_is_clipped():
    values = np.random.default_rng(0).uniform(-30, 6, 100_000)
    # As before a sigmoid: far below 0 an error changes nothing.
    weights = np.where(values < -8, 0.0, 1.0)
    low, high = chosen_range(histogram(values, weights), "fisher")
    assert -8.5 < low < -7
    assert high == pytest.approx(6, rel=0.05)


@pytest.mark.parametrize("method", METHODS)
def test_a_tensor_that_is_always_zero_has_a_range(method):
    low, high = chosen_range(Histogram(low=0.0, high=0.0, weights=np.zeros(BINS)), method)
    assert (low, high) == (0.0, 0.0)
    assert grid_of(low, high).scale == FINEST


@given(
    st.lists(st.floats(-1e4, 1e4, width=32), min_size=2, max_size=50),
    st.sampled_from(METHODS),
)
def test_zero_is_in_every_range_and_nothing_beyond_what_occurred(values, method):
    of = np.array(values, np.float64)
    low, high = chosen_range(histogram(of), method)
    assert min(of.min(), 0.0) - 1e-6 <= low <= 0.0 <= high <= max(of.max(), 0.0) + 1e-6


@given(st.floats(-1e6, 0), st.floats(0, 1e6))
def test_a_grid_holds_its_range_and_an_exact_zero(low, high):
    grid = grid_of(low, high)
    assert LOW <= grid.zero_point <= HIGH
    lowest, highest = ((code - grid.zero_point) * grid.scale for code in (LOW, HIGH))
    assert lowest <= low + 0.51 * grid.scale
    assert highest >= high - 0.51 * grid.scale


@given(st.floats(1e-30, 1e30))
def test_every_scale_is_a_number_that_a_32_bit_float_holds(high):
    scale = grid_of(0.0, high).scale
    assert scale == float(np.float32(scale))


@pytest.mark.parametrize("value", [6.0, -3.0, 1 / 6, 0.5])
def test_a_constant_is_exact_on_its_grid(value):
    grid = constant_grid(value)
    code = round(value / grid.scale)
    assert abs(code) == 127
    assert code * grid.scale == pytest.approx(value, rel=1e-6)


def test_the_largest_weight_of_each_channel_is_127_steps():
    weight = np.array([[0.5, -1.27], [0.0, 0.0], [1e-3, 2e-3]], np.float32)
    scales = weight_scales(weight)
    assert np.allclose(np.abs(weight).max(1)[[0, 2]] / scales[[0, 2]], 127)
    assert scales[1] > 0

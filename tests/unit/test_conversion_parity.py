import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edgese.conversion.parity import NOISELESS_DB, compared, cosines, sqnr
from edgese.records.artifact import ParityBound

BOUND = ParityBound(min_cosine=0.999, min_sqnr_db=30.0)
FLOATS = st.floats(-(2.0**100), 2.0**100, width=32)
LOGITS = arrays(np.float32, (3, 5), elements=FLOATS)


def logits(pictures=8, classes=10):
    return np.random.default_rng(0).normal(size=(pictures, classes)).astype(np.float32)


def test_equal_logits_pass_without_noise():
    parity = compared(logits(), logits(), BOUND)
    assert parity.verdict == "passed"
    assert parity.pictures == 8
    assert parity.cosine == pytest.approx(1.0, abs=1e-12)
    assert (parity.max_abs_diff, parity.sqnr_db, parity.top1_agreement) == (0, NOISELESS_DB, 1)


def test_noise_of_a_known_power_has_the_sqnr_that_it_should():
    reference = np.ones((4, 100))
    assert sqnr(reference + 0.1, reference) == pytest.approx(20.0)


def test_one_wrong_picture_among_many_fails_by_its_cosine():
    actual = logits(100)
    actual[7] = -actual[7]
    parity = compared(actual, logits(100), BOUND)
    assert parity.verdict == "failed"
    assert parity.cosine == pytest.approx(-1.0)
    assert "the smallest cosine is -1.000000, below 0.999" in parity.reason
    assert parity.top1_agreement == pytest.approx(0.99)


def test_a_scale_that_the_cosine_does_not_see_fails_by_its_sqnr():
    parity = compared(2 * logits(), logits(), BOUND)
    assert parity.verdict == "failed"
    assert parity.cosine == pytest.approx(1.0)
    assert parity.reason == "the SQNR is 0.0 dB, below 30 dB"


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_outputs_that_are_not_finite_fail_and_are_counted(value):
    actual = logits()
    actual[0, :2] = value
    parity = compared(actual, logits(), BOUND)
    assert (parity.verdict, parity.reason) == ("failed", "2 outputs are not finite")


def test_another_shape_fails_with_both_shapes():
    parity = compared(logits(8, 9), logits(8, 10), BOUND)
    assert parity.reason == "its output has shape (8, 9), not (8, 10)"


def test_a_silent_output_beside_a_reference_fails():
    parity = compared(np.zeros_like(logits()), logits(), BOUND)
    assert (parity.verdict, parity.cosine) == ("failed", 0.0)


@given(LOGITS, LOGITS)
def test_every_figure_is_finite_and_in_its_range(actual, reference):
    parity = compared(actual, reference, BOUND)
    assert -1 <= parity.cosine <= 1
    assert -NOISELESS_DB <= parity.sqnr_db <= NOISELESS_DB
    assert 0 <= parity.top1_agreement <= 1
    assert np.isfinite(parity.max_abs_diff)


@given(LOGITS, LOGITS)
def test_cosine_is_symmetric(a, b):
    a, b = a.astype(np.float64), b.astype(np.float64)
    np.testing.assert_allclose(cosines(a, b), cosines(b, a), atol=1e-12)


@given(LOGITS, st.floats(1e-3, 1e3))
def test_cosine_does_not_see_a_positive_scale(a, scale):
    a = a.astype(np.float64)
    np.testing.assert_allclose(cosines(a * scale, a), 1.0, atol=1e-9)


@given(LOGITS)
def test_what_equals_its_reference_always_passes(reference):
    assert compared(reference, reference, BOUND).verdict == "passed"

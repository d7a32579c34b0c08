"""Charts for a terminal, and the axes that they share with the page."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgese.report.chart import Bar, bars, shortened
from edgese.report.scale import Scale, around, number, ticks


def test_a_bar_is_as_long_as_its_value():
    long, short, _ = bars([Bar("a", 8.0), Bar("b", 4.0)], unit="ms", width=60).splitlines()
    assert long.count("█") == pytest.approx(2 * short.count("█"), abs=1)
    assert long.endswith("8.00 ms")
    assert short.endswith("4.00 ms")


def test_whiskers_reach_from_low_to_high():
    (line, _) = bars([Bar("a", 5.0, 2.5, 10.0)], width=60).splitlines()
    assert line.count("█") == pytest.approx(line.count("▓"), abs=1)
    assert line.count("█") + line.count("▓") == pytest.approx(line.count("─") + 1, abs=2)
    assert line.count("┤") == 1


def test_all_rows_have_one_length_up_to_their_figures():
    rows = [Bar("a", 1.0), Bar("bbbb", 2.0, None, 3.0), Bar("c", 3.0)]
    lines = bars(rows, width=70).splitlines()[:-1]
    assert len({line.rindex(".") for line in lines}) == 1
    assert max(map(len, lines)) <= 70


def test_plain_terminals_get_plain_characters():
    text = bars([Bar("a" * 90, 5.0, 2.0, 7.0), Bar("b", 1.0)], ascii_only=True, reference=6.0)
    assert text.isascii()
    assert "#" in text
    assert ":" in text


def test_the_end_of_a_long_label_is_kept():
    (line, _) = bars([Bar("x" * 100 + "fp32.tflite", 1.0)], width=60).splitlines()
    assert line.startswith("…")
    assert "fp32.tflite  " in line


def test_a_reference_is_marked_where_no_bar_hides_it():
    below, above, _ = bars([Bar("a", 0.5), Bar("b", 1.5)], reference=1.0, width=60).splitlines()
    assert "┊" in below
    assert "┊" not in above


def test_notes_follow_the_figures():
    assert "1.00  cannot be told apart" in bars([Bar("a", 1.0, note="cannot be told apart")])


def test_no_rows_make_no_chart():
    assert bars([]) == ""


def test_zeros_are_drawn_without_a_bar():
    assert "█" not in bars([Bar("a", 0.0), Bar("b", 0.0)])


@pytest.mark.parametrize(
    ("labels", "short"),
    [
        (["out/a.tflite", "out/b.onnx"], ["a.tflite", "b.onnx"]),
        (["out/x/a", "out/y/a"], ["x/a", "y/a"]),
        (["out/x/a", "out/y/b"], ["a", "b"]),
        (["a", "b"], ["a", "b"]),
        (["out/a"], ["a"]),
        (["/out/a", "out/a"], ["/out/a", "out/a"]),
        ([], []),
    ],
)
def test_folders_that_all_labels_share_are_left_out(labels, short):
    assert shortened(labels) == short


@given(
    low=st.floats(0.001, 1e6),
    times=st.floats(1.001, 1e6),
    logarithmic=st.booleans(),
)
def test_ticks_lie_on_their_axis_and_rise(low, times, logarithmic):
    scale = Scale(low, low * times, logarithmic=logarithmic)
    found = ticks(scale)
    assert found == sorted(set(found))
    assert len(found) <= 11
    slack = 1e-9 * scale.high
    assert all(scale.low - slack <= tick <= scale.high + slack for tick in found)


@given(st.lists(st.floats(0.001, 1e6), min_size=1))
def test_an_axis_holds_its_values(values):
    for scale in (around(values), around(values, zero=True)):
        assert all(scale.low <= value <= scale.high for value in values)
        assert all(0 <= scale.place(value) <= 1 for value in values)


def test_a_logarithmic_axis_puts_half_and_double_at_one_distance():
    scale = Scale(0.25, 4.0, logarithmic=True)
    assert scale.place(1.0) == pytest.approx(0.5)
    assert scale.place(2.0) - 0.5 == pytest.approx(0.5 - scale.place(0.5))


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (5.0, "5"), (0.25, "0.25"), (1.2000000000000002, "1.2"), (25000.0, "25,000")],
)
def test_ticks_are_labelled_with_no_more_digits_than_they_need(value, text):
    assert number(value) == text

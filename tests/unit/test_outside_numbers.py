"""Numbers and names from outside that are longer than anybody means."""

import pytest

from edgese.bounds import shortened, whole
from edgese.cli.parsing import resolution_of
from edgese.data.classes import ClassNames
from edgese.data.listing import labelled
from edgese.devices import adb_client, ssh_client
from edgese.devices.clusters import cores
from edgese.devices.heat import field
from edgese.devices.shell import answered
from edgese.devices.sysfs import temperatures
from edgese.errors import ConfigError, InputError
from edgese.selection.candidates import enumerated

# More than `int` reads, and a digit to `str.isdigit` that `int` does not read.
ODD = ["9" * 5000, "²"]


@pytest.mark.parametrize(("text", "number"), [("0", 0), ("007", 7), ("9" * 18, 10**18 - 1)])
def test_a_number_of_few_digits_is_read(text, number):
    assert whole(text) == number


@pytest.mark.parametrize("text", [*ODD, "9" * 19, "", "-1", "+1", "1_0", " 1", "1.0"])
def test_everything_else_is_no_number(text):
    assert whole(text) is None


READERS = {
    "resolution": resolution_of,
    "width": lambda text: resolution_of(f"3x{text}"),
    "adb server": lambda text: adb_client.server_address(f"h:{text}"),
    "board": lambda text: ssh_client.parsed(f"u@h:{text}"),
    "range": lambda text: enumerated([f"efficientnet_b0..b{text}"], targets=["tflite"]),
}


@pytest.mark.parametrize("text", ODD, ids=["long", "exponent"])
@pytest.mark.parametrize("reader", READERS)
def test_an_option_with_a_number_that_cannot_be_is_an_error(reader, text):
    with pytest.raises(ConfigError):
        READERS[reader](text)


@pytest.mark.parametrize("text", ["2147483648", "0"])
def test_a_side_that_no_tensor_can_have_is_no_resolution(text):
    with pytest.raises(ConfigError, match="not a size in pixels"):
        resolution_of(text)
    assert resolution_of("2147483647") == (2147483647, 2147483647)


@pytest.mark.parametrize("text", ODD, ids=["long", "exponent"])
def test_what_a_device_says_is_no_crash(text):
    assert answered(f"mark:{text}", "mark").code is None
    assert cores(f"{text} 1 - - -") == ()
    assert cores(f"0 1 {text} - -")[0].maximum_mhz is None
    assert temperatures(f"{text} cpu") == {}
    assert field(f"  level: {text}\n", "level") is None
    assert field("  level: 84\n", "level") == 84


@pytest.mark.parametrize("text", [*ODD, "-1", "4"])
def test_a_label_that_is_no_class_is_told_in_few_words(tmp_path, text):
    (tmp_path / "a.png").touch()
    (tmp_path / "a.csv").write_text(f"file,label\na.png,{text}\n")
    with pytest.raises(InputError, match="is no class of the") as found:
        labelled(tmp_path / "a.csv", ClassNames(classes=4))
    assert len(str(found.value)) < 1000


def test_signs_and_zeros_before_a_label_do_not_matter():
    found = {"+1": 1, "-0": 0, "007": None, "003": 3}
    assert ClassNames(classes=4).of_values([*found])[1] == found


def test_a_csv_of_many_columns_is_told_in_few_words(tmp_path):
    (tmp_path / "a.csv").write_text(",".join(["x"] * 100_000) + "\n")
    with pytest.raises(InputError, match="no column 'file'") as found:
        labelled(tmp_path / "a.csv", ClassNames(classes=4))
    assert len(str(found.value)) < 1000


def test_names_in_a_message_are_few_and_short():
    assert shortened(["a", "b"]) == "a, b"
    assert shortened(["a"] * 10, most=2) == "a, a and 8 more"
    assert len(shortened(["x" * 10_000])) < 300

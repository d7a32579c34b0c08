"""Small values that options take."""

import pytest

from edgese.cli.parsing import seconds_of
from edgese.errors import ConfigError


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("90", 90), ("90s", 90), ("10m", 600), ("1.5m", 90), ("1h", 3600), ("0.5", 0.5)],
)
def test_a_length_of_time_is_read(value, seconds):
    assert seconds_of(value) == seconds


@pytest.mark.parametrize("value", ["", "m", "0", "0m", "-1s", "10 m", "10min", "1m30s", "nan"])
def test_what_is_no_length_of_time_is_a_config_error(value):
    with pytest.raises(ConfigError, match="length of time"):
        seconds_of(value)

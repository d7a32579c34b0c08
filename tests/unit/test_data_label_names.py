"""Names of classes are read from a text file, one a line."""

import pytest

from edgese.data.labels import label_names
from edgese.errors import InputError


def test_each_line_names_a_class(tmp_path):
    path = tmp_path / "labels.txt"
    path.write_text("cat\n a dog \nbird\n\n", encoding="utf-8")
    assert label_names(path) == ("cat", "a dog", "bird")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"cat\n\nbird\n", "Line 2"),
        (b"", "Line 1"),
        (b"caf\xe9", "no UTF-8"),
        (None, "cannot be read"),
    ],
)
def test_what_names_no_classes_is_an_input_error(content, told, tmp_path):
    path = tmp_path / "labels.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=told):
        label_names(path)

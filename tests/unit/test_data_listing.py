import errno
import os
from pathlib import Path

import pytest

from edgese.data.classes import ClassNames
from edgese.data.listing import labelled, limited, unlabelled
from edgese.errors import ConfigError, InputError
from edgese.records.data import DataSet, Picture

PETS = ClassNames(classes=2, labels=("cat", "dog"))


def touch(root: Path, *files: str) -> Path:
    """Nothing opens the files while listing, so they may be empty."""
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).touch()
    return root


def table(root: Path, text: str, *files: str) -> Path:
    touch(root, *files)
    path = root / "labels.csv"
    path.write_text(text, encoding="utf-8")
    return path


def rows(data: DataSet) -> list[tuple[str, int]]:
    return [(picture.file, picture.label) for picture in data.pictures]


def test_class_folders_are_recognised_by_name(tmp_path):
    data = labelled(touch(tmp_path, "dog/2.PNG", "dog/1.jpg", "Cat/deep/3.webp"), PETS)
    assert rows(data) == [("Cat/deep/3.webp", 0), ("dog/1.jpg", 1), ("dog/2.PNG", 1)]
    assert data.labelled_by == "name"


def test_class_folders_are_recognised_by_number(tmp_path):
    data = labelled(touch(tmp_path, "1/a.jpg", "0/a.bmp"), PETS)
    assert rows(data) == [("0/a.bmp", 0), ("1/a.jpg", 1)]
    assert data.labelled_by == "number"


def test_class_folders_without_known_names_go_by_order_and_say_so(tmp_path):
    data = labelled(touch(tmp_path, "n02/a.jpg", "n01/a.jpg"), PETS)
    assert rows(data) == [("n01/a.jpg", 0), ("n02/a.jpg", 1)]
    assert data.labelled_by == "order"


def test_hidden_files_and_folders_are_passed_over(tmp_path):
    files = ("cat/a.jpg", "cat/._a.jpg", "cat/.thumbs/a.jpg", ".checkpoints/a.jpg", "cat/notes.txt")
    assert rows(labelled(touch(tmp_path, *files), PETS)) == [("cat/a.jpg", 0)]


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ((), "There is no picture in"),
        (("notes.txt",), "There is no picture in"),
        (("cat/notes.txt",), "There is no picture in"),
        (("a.jpg",), "lie in no class folder, such as a.jpg"),
        (("cat/a.jpg", "b.jpg"), "lie in no class folder, such as b.jpg"),
        (("cat/a.jpg", "bird/a.jpg"), "1 of the 2 folders"),
        (("1/a.jpg", "2/a.jpg"), "fit no class of the model: 2"),
    ],
)
def test_a_folder_that_is_no_labelled_set_is_an_input_error(tmp_path, files, said):
    with pytest.raises(InputError) as caught:
        labelled(touch(tmp_path, *files), PETS)
    assert said in caught.value.message
    assert caught.value.hint


def test_an_empty_folder_says_what_was_looked_for(tmp_path):
    with pytest.raises(InputError, match=r"\.bmp, \.jpeg, \.jpg, \.png, \.webp were looked for"):
        labelled(tmp_path, PETS)


def test_a_folder_beside_its_csv_is_pointed_to_the_csv(tmp_path):
    table(tmp_path, "file,label\nimages/a.jpg,0\n", "images/a.jpg")
    with pytest.raises(InputError) as caught:
        labelled(tmp_path, PETS)
    assert f"Did you mean {tmp_path / 'labels.csv'}?" in caught.value.hint


@pytest.mark.parametrize("closed", ["", "cat", "cat/deep"])
def test_a_folder_that_cannot_be_read_is_an_input_error_and_not_passed_over(
    tmp_path, monkeypatch, closed
):
    touch(tmp_path, "cat/deep/a.jpg", "dog/a.jpg")
    scandir = os.scandir

    def refusing(path):
        if Path(path) == tmp_path / closed:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)

    # The tests may run as root, whom no folder refuses.
    monkeypatch.setattr(os, "scandir", refusing)
    with pytest.raises(InputError, match="Permission denied") as caught:
        labelled(tmp_path, PETS)
    assert str(tmp_path / closed) in caught.value.message


@pytest.mark.parametrize(
    ("text", "by"),
    [
        ("file,label\nx/a.jpg,1\nb.jpg,0\n", "number"),
        ("file,label\nx/a.jpg,dog\nb.jpg,CAT\n", "name"),
        ("\ufefflabel, file ,author\r\n1,x/a.jpg,Jo\r\n\r\n0, b.jpg ,\r\n", "number"),
        ('file,label\n"x/a.jpg","1"\n"b.jpg","0"', "number"),
    ],
)
def test_a_csv_is_read_with_its_columns_in_any_order(tmp_path, text, by):
    data = labelled(table(tmp_path, text, "x/a.jpg", "b.jpg"), PETS)
    assert rows(data) == [("x/a.jpg", 1), ("b.jpg", 0)]
    assert by == data.labelled_by
    assert str(tmp_path) == data.root


def test_a_split_takes_its_rows_alone(tmp_path):
    # The file of the other split is not there, and need not be.
    path = table(tmp_path, "file,label,split\na.jpg,0,test\nb.jpg,9,train\n", "a.jpg")
    data = labelled(path, PETS, split="test")
    assert rows(data) == [("a.jpg", 0)]
    assert data.split == "test"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no column 'file' and no column 'label'"),
        ("file,class\na.jpg,0\n", "no column 'label'"),
        ("file,label\n", "has no rows"),
        ("file,label\na.jpg,0\nmissing.jpg,0\n", "Line 3 of {path} names 'missing.jpg'"),
        ("file,label\n\na.jpg,2\n", "Line 3 of {path} has the label '2'"),
        ("file,label\na.jpg,0\nb.jpg,O\n", "Line 3 of {path} has the label 'O'"),
        ("file,label\na.jpg,0\nb.jpg,-1\n", "Line 3 of {path} has the label '-1'"),
        ("file,label\na.jpg,0\nb.jpg\n", "Line 3 of {path} has no label"),
        ("file,label\na.jpg,0\n,1\n", "Line 3 of {path} has no file"),
        (
            "file,label\na.jpg,0\nb.jpg,1\na.jpg,1\n",
            "Line 4 of {path} names 'a.jpg', the image of line 2",
        ),
        ("file,label\na.jpg,0\n./a.jpg,1\n", "'./a.jpg', the image of line 2"),
        ("file,label\na.jpg,0\nhere/../a.jpg,0\n", "'here/../a.jpg', the image of line 2"),
        ("file,label\na.jpg,0\nlink.jpg,0\n", "'link.jpg', the image of line 2"),
        ('file,label\n"a.jpg,0\n', "not a readable CSV file"),
    ],
)
def test_a_wrong_csv_is_an_input_error_with_the_line(tmp_path, text, said):
    path = table(tmp_path, text, "a.jpg", "b.jpg")
    (tmp_path / "here").mkdir()
    (tmp_path / "link.jpg").symlink_to("a.jpg")
    with pytest.raises(InputError) as caught:
        labelled(path, PETS)
    assert said.format(path=path) in caught.value.message
    assert caught.value.hint


def test_a_csv_that_is_no_text_is_an_input_error(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_bytes(b"\xff\xd8\xff\xe0\x00\x10JFIF")
    with pytest.raises(InputError, match="not a readable CSV file"):
        labelled(path, PETS)


def test_an_unknown_split_tells_the_ones_that_exist(tmp_path):
    path = table(tmp_path, "file,label,split\na.jpg,0,train\nb.jpg,0,test\n", "a.jpg", "b.jpg")
    with pytest.raises(InputError) as caught:
        labelled(path, PETS, split="val")
    assert caught.value.hint == "It has: test, train."


def test_a_split_needs_its_column(tmp_path):
    with pytest.raises(InputError, match="no column 'split'"):
        labelled(table(tmp_path, "file,label\na.jpg,0\n", "a.jpg"), PETS, split="test")


def test_a_folder_has_no_splits(tmp_path):
    with pytest.raises(ConfigError, match="split 'test'"):
        labelled(tmp_path, PETS, split="test")


@pytest.mark.parametrize(("name", "said"), [("gone", "does not exist"), ("a.zip", "but no CSV")])
def test_what_is_neither_folder_nor_csv_is_an_input_error(tmp_path, name, said):
    touch(tmp_path, "a.zip")
    with pytest.raises(InputError, match=said):
        labelled(tmp_path / name, PETS)


def test_without_labels_all_pictures_below_are_taken_in_order(tmp_path):
    touch(tmp_path, "b.jpg", "x/y/a.jpg", "x/a.JPEG", "notes.txt", ".hidden/c.jpg")
    assert (tmp_path / "b.jpg", tmp_path / "x/a.JPEG", tmp_path / "x/y/a.jpg") == unlabelled(
        tmp_path
    )


def test_without_labels_a_csv_needs_no_label_column(tmp_path):
    path = table(tmp_path, "file,split\na.jpg,calibration\nb.jpg,test\n", "a.jpg", "b.jpg")
    assert (tmp_path / "a.jpg",) == unlabelled(path, split="calibration")


def test_without_labels_an_empty_folder_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match="There is no picture"):
        unlabelled(tmp_path)


def listed(*pictures: tuple[str, int]) -> DataSet:
    return DataSet(
        source="s",
        root="r",
        pictures=tuple(Picture(file=file, label=label) for file, label in pictures),
        labelled_by="number",
    )


def test_a_limit_takes_pictures_from_all_over_the_list():
    data = listed(*((f"{i}.jpg", i // 5) for i in range(10)))
    assert rows(limited(data, 3)) == [("0.jpg", 0), ("3.jpg", 0), ("6.jpg", 1)]


def test_a_limit_beyond_the_list_takes_all_of_it():
    data = listed(("a.jpg", 0))
    assert data == limited(data, 5)


def test_a_limit_of_nothing_is_refused():
    with pytest.raises(ConfigError):
        limited(listed(("a.jpg", 0)), 0)


def test_the_identity_of_a_set_depends_on_names_labels_and_order_alone():
    data = listed(("a.jpg", 0), ("b.jpg", 1))
    moved = DataSet(source="x", root="y", pictures=data.pictures, labelled_by="order")
    others = (
        listed(("a.jpg", 0)),
        listed(("a.jpg", 0), ("b.jpg", 0)),
        listed(("b.jpg", 1), ("a.jpg", 0)),
    )
    assert data.sha256() == moved.sha256()
    assert data.sha256() not in {other.sha256() for other in others}

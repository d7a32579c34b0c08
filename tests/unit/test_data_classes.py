import pytest

from edgese.data.classes import ClassNames
from edgese.data.labels import labels_of

PETS = ClassNames(classes=3, labels=("tabby cat", "Cardigan", "cardigan"))


@pytest.mark.parametrize(
    ("values", "by", "indices"),
    [
        (["0", "2"], "number", [0, 2]),
        (["3", "-1", "02"], "number", [None, None, 2]),
        (["Tabby_Cat"], "name", [0]),
        (["Cardigan", "cardigan"], "name", [1, 2]),
        (["CARDIGAN"], "name", [None]),
        (["tabby cat", "2"], "name", [0, 2]),
        (["1", "2S"], "name", [1, None]),
    ],
)
def test_values_are_read_as_numbers_or_names(values, by, indices):
    assert (by, dict(zip(values, indices, strict=True))) == PETS.of_values(values)


def test_numbers_that_are_names_of_classes_are_names():
    digits = ClassNames(classes=3, labels=("1", "2", "3"))
    assert digits.of_values(["1", "3"]) == ("name", {"1": 0, "3": 2})


def test_a_name_that_two_classes_bear_is_neither():
    twice = ClassNames(classes=3, labels=("crane", "crane", "maillot"))
    assert twice.of_values(["crane", "maillot"]) == ("name", {"crane": None, "maillot": 2})


def test_as_many_unknown_folders_as_classes_go_by_their_order():
    synsets = ["n02123045", "n01440764", "n02113186"]
    assert PETS.of_folders(synsets) == ("order", {"n01440764": 0, "n02113186": 1, "n02123045": 2})


@pytest.mark.parametrize("folders", [["a", "b"], ["a", "b", "c", "d"], ["tabby cat", "b", "c"]])
def test_folders_that_are_too_few_too_many_or_partly_known_do_not_go_by_order(folders):
    by, indices = PETS.of_folders(folders)
    assert by == "name"
    assert None in indices.values()


def test_numbered_folders_from_1_do_not_go_by_order():
    by, indices = ClassNames(classes=3).of_folders(["1", "2", "3"])
    assert (by, indices) == ("number", {"1": 1, "2": 2, "3": None})


def test_imagenet_has_a_thousand_different_names_in_order():
    labels = labels_of("imagenet-1k")
    assert len(set(labels)) == len(labels) == 1000
    assert (
        labels[0],
        labels[264],
        labels[474],
        labels[985],
        labels[999],
    ) == ("tench", "Cardigan", "cardigan", "daisy", "toilet tissue")


def test_own_labels_stay_what_they_are():
    assert labels_of(("a", "b")) == ("a", "b")

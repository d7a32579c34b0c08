"""What is chosen from: names, ranges, files and their combinations; what is published of them."""

import pytest

from edgese.errors import ConfigError, InputError
from edgese.models.registry import find_model, models
from edgese.selection.candidates import enumerated, spec_of
from edgese.selection.figures import of_rows
from edgese.selection.published import published, table


def names(*subjects, **options):
    return [one.model for one in enumerated(subjects, targets=["tflite"], **options)]


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("efficientnet_b0..b2", ["efficientnet_b0", "efficientnet_b1", "efficientnet_b2"]),
        ("efficientnet_lite0..1", ["efficientnet_lite0", "efficientnet_lite1"]),
        ("resnet18..50", ["resnet18", "resnet34", "resnet50"]),
        ("efficientnet_v2_b1..b2", ["efficientnet_v2_b1", "efficientnet_v2_b2"]),
    ],
)
def test_a_range_is_of_one_series_and_holds_both_ends(asked, found):
    assert names(asked) == found


def test_within_a_family_a_range_is_told_by_its_ends():
    assert names("b3..b4", family="efficientnet") == ["efficientnet_b3", "efficientnet_b4"]


def test_a_family_is_all_that_is_listed_under_it():
    assert names(family="efficientnet_lite") == [f"efficientnet_lite{n}" for n in range(5)]


@pytest.mark.parametrize(
    "asked", ["efficientnet_b4..b0", "efficientnet_b0..lite3", "b0..b99", "nothing1..2"]
)
def test_what_is_no_range_is_refused(asked):
    with pytest.raises(ConfigError, match="no range"):
        names(asked)


def test_an_unknown_family_tells_the_known_ones():
    with pytest.raises(ConfigError) as caught:
        names(family="mobilenet")
    assert "efficientnet_lite" in caught.value.hint


def test_every_combination_is_a_candidate_once():
    found = enumerated(
        ["efficientnet_b0", "efficientnet_b0..b1"],
        resolutions=[(192, 192), (224, 224)],
        recipes=["fp32", "int8"],
        targets=["tflite", "onnxruntime"],
        gates=["", "none"],
    )
    assert len(found) == len({one.label for one in found}) == 2 * 2 * 2 * 2 * 2


def test_a_file_lists_candidates_with_what_is_theirs(tmp_path):
    path = tmp_path / "candidates.toml"
    path.write_text(
        '[[candidate]]\nmodel = "efficientnet_b0"\nresolution = 96\nrecipe = "int8"\n'
        'weights = "b0.safetensors"\n'
        '[[candidate]]\nmodel = "resnet18"\ntarget = "onnxruntime"\n'
    )
    first, second = enumerated([str(path)], targets=["tflite"], weights="{model}.pth")
    assert (first.resolution, first.recipe, first.target) == ((96, 96), "int8", "tflite")
    assert first.weights == "b0.safetensors"
    assert (second.target, second.recipe, second.weights) == ("onnxruntime", "fp32", "resnet18.pth")


def test_an_unknown_key_in_a_file_of_candidates_is_told(tmp_path):
    path = tmp_path / "candidates.toml"
    path.write_text('[[candidate]]\nmodel = "resnet18"\nresolutoin = 96\n')
    with pytest.raises(InputError, match="resolutoin"):
        enumerated([str(path)], targets=["tflite"])


def test_a_recipe_that_a_target_cannot_execute_is_no_candidate():
    with pytest.raises(ConfigError, match="int8-weights"):
        enumerated(["resnet18"], recipes=["int8-weights"], targets=["tflite", "executorch"])


def test_gates_are_taken_out_or_changed():
    own, none, hard = enumerated(
        ["efficientnet_b0"], targets=["tflite"], gates=["", "none", "gate=hard_sigmoid,reduction=8"]
    )
    assert spec_of(own) == find_model("efficientnet_b0")
    assert all(stage.se is None for stage in spec_of(none).stages)
    changed = [stage.se for stage in spec_of(hard).stages]
    assert {(se.gate, se.reduction) for se in changed} == {("hard_sigmoid", 8)}
    assert len({spec_of(one).name for one in (own, none, hard)}) == 3


@pytest.mark.parametrize("gates", ["gate=cubic", "size=3", "hard_sigmoid"])
def test_gates_that_cannot_be_are_refused(gates):
    with pytest.raises(ConfigError, match="gates"):
        enumerated(["efficientnet_b0"], targets=["tflite"], gates=[gates])


def test_a_network_without_gates_has_none_to_change():
    with pytest.raises(ConfigError, match="no gates"):
        enumerated(["resnet18"], targets=["tflite"], gates=["none"])


def test_rows_bound_a_file_from_below():
    spec = find_model("efficientnet_b0")
    macs, size, memory = of_rows(spec, "fp32")
    assert macs.value == pytest.approx(385.9e6, rel=0.01)
    assert size.high is None
    assert 0.97 * 4 * 5.289e6 < size.low < 4 * 5.289e6
    assert memory.low == size.low / 2**20
    assert of_rows(spec, "int8")[1].low == size.low / 4


def test_every_published_accuracy_has_a_place_to_read_it():
    told = table()
    sources = {spec.published.source for spec in models().values() if spec.published}
    assert sources | {row.source for row in told.accuracy} <= told.urls.keys()
    assert all(url.startswith("https://") for url in told.urls.values())
    assert {spec.published.dataset for spec in models().values() if spec.published} <= (
        told.pictures.keys()
    )


def test_a_published_accuracy_is_of_just_this_network_recipe_and_resolution():
    def accuracy(name, **options):
        (one,) = enumerated([name], targets=["tflite"], **options)
        found = published(one)
        return found and found.value

    assert accuracy("efficientnet_lite0") == pytest.approx(0.751)
    assert accuracy("efficientnet_lite0", recipes=["int8"]) == pytest.approx(0.744)
    assert accuracy("efficientnet_lite0", resolutions=[(192, 192)]) is None
    assert accuracy("efficientnet_b0", recipes=["int8"]) is None
    assert accuracy("efficientnet_b0", gates=["none"]) is None
    assert accuracy("se_resnet50") is None


def test_a_published_accuracy_is_as_sure_as_its_test_set_is_large():
    (one,) = enumerated(["efficientnet_lite0"], targets=["tflite"])
    found = published(one)
    assert found.low == pytest.approx(0.7472, abs=2e-4)
    assert found.high == pytest.approx(0.7548, abs=2e-4)
    assert "imagenet-1k" in found.told


def test_a_classifier_of_ones_own_is_counted_and_has_no_published_accuracy():
    own, ten = (
        enumerated(["efficientnet_b0"], targets=["tflite"], classes=classes)[0]
        for classes in (None, 10)
    )
    lost = [of_rows(spec_of(one), "int8")[1].low for one in (own, ten)]
    assert lost[0] - lost[1] == 990 * 1280
    assert published(own) is not None
    assert published(ten) is None

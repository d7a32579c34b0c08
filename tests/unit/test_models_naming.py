"""Names of other projects, from the rows."""

import msgspec
import pytest

from edgese.errors import InputError
from edgese.models.fitting import fitted
from edgese.models.naming import NAMINGS, recognised, stored_tensors
from edgese.models.registry import customized, find_model, models

DESCRIBED = [
    (model, naming)
    for model, spec in models().items()
    for naming in NAMINGS
    if stored_tensors(spec, naming) is not None
]


def shapes(model, naming, **changes):
    spec = customized(find_model(model), **changes)
    return {name: tensor.shape for name, tensor in stored_tensors(spec, naming).items()}


def test_every_model_has_names_of_others_or_is_too_unlike_them():
    without = {model for model in models() if (model, "edgese") not in DESCRIBED}
    only_ours = {
        model for model in models() if {n for m, n in DESCRIBED if m == model} == {"edgese"}
    }

    assert without == set()
    assert only_ours == set()


@pytest.mark.parametrize(("model", "naming"), DESCRIBED)
def test_names_are_unique_and_recognised(model, naming):
    tensors = stored_tensors(find_model(model), naming)
    ours = stored_tensors(find_model(model), "edgese")

    assert recognised(tensors) == naming
    assert {tensor.name for tensor in tensors.values()} == set(ours)
    assert len(tensors) == len(ours)


@pytest.mark.parametrize(("model", "naming"), DESCRIBED)
def test_a_model_with_its_own_form_of_names_is_taken(model, naming):
    spec = find_model(model)
    found = shapes(model, naming) | {"bn1.num_batches_tracked": ()}
    if NAMINGS[naming].is_form(spec):
        assert fitted(spec, found, "w.pth")[0] == naming
    else:
        with pytest.raises(InputError, match="differently"):
            fitted(spec, found, "w.pth")


def test_legacy_names_in_todays_form_are_refused_with_the_v1_name():
    with pytest.raises(InputError, match=r"weights of se_resnet50_v1;"):
        fitted(find_model("se_resnet50"), shapes("se_resnet50_v1", "senet"), "w.pth")


def test_todays_names_in_the_v1_form_are_refused_with_the_other_name():
    with pytest.raises(InputError, match=r"weights of se_resnet50;"):
        fitted(find_model("se_resnet50_v1"), shapes("se_resnet50", "resnet"), "w.pth")


def test_timm_names_in_torchvisions_eps_are_refused_with_the_tensorflow_name():
    spec = find_model("efficientnet_v2_s")

    with pytest.raises(InputError, match=r"weights of tf_efficientnet_v2_s;"):
        fitted(spec, shapes("efficientnet_v2_s", "timm"), "w.pth")


def test_a_spec_files_own_form_is_trusted():
    spec = msgspec.structs.replace(find_model("se_resnet50"), name="mine")

    assert fitted(spec, shapes("se_resnet50", "senet"), "w.pth")[0] == "senet"


def test_weights_of_another_architecture_are_named():
    with pytest.raises(InputError) as caught:
        fitted(find_model("efficientnet_b0"), shapes("efficientnet_b1", "torchvision"), "w.pth")

    assert "does not hold the weights of efficientnet_b0" in caught.value.message
    assert "unexpected (features." in caught.value.message
    assert caught.value.hint == "They are the weights of efficientnet_b1; ask for that model."


def test_weights_of_another_family_are_named():
    with pytest.raises(InputError) as caught:
        fitted(find_model("efficientnet_b0"), shapes("resnet18", "resnet", classes=7), "w.pth")

    assert "torchvision's and timm's ResNet names" in caught.value.message
    assert caught.value.hint == "They are the weights of resnet18; ask for that model."


def test_missing_unexpected_and_misshapen_keys_stand_in_one_error():
    found = shapes("efficientnet_lite0", "edgese")
    del found["stem.conv0.norm.bias"]
    found["extra.weight"] = (1,)
    found["head.conv.conv.weight"] = (1280, 320, 3, 3)

    with pytest.raises(InputError) as caught:
        fitted(find_model("efficientnet_lite0"), found, "w.pth")

    assert "1 missing (stem.conv0.norm.bias)" in caught.value.message
    assert "1 unexpected (extra.weight)" in caught.value.message
    assert (
        "1 of another shape (head.conv.conv.weight 1280x320x3x3 instead of 1280x320x1x1)"
        in caught.value.message
    )
    assert not caught.value.hint


@pytest.mark.parametrize("naming", ["edgese", "timm", "efficientnet_pytorch"])
def test_another_number_of_classes_is_told_with_the_option(naming):
    with pytest.raises(InputError) as caught:
        fitted(
            find_model("efficientnet_lite0"),
            shapes("efficientnet_lite0", naming, classes=10),
            "w.pth",
        )

    assert "10 classes" in caught.value.message
    assert "1000" in caught.value.message
    assert "--classes 10" in caught.value.hint


def test_a_classifier_is_not_needed_for_features():
    features = customized(find_model("efficientnet_lite0"), classes=0)

    naming, ours = fitted(features, shapes("efficientnet_lite0", "timm"), "w.pth")

    assert naming == "timm"
    assert "classifier.weight" not in ours.values()


def test_names_of_nobody_are_an_input_error():
    with pytest.raises(InputError, match=r"no naming that edgese knows: encoder\.weight"):
        fitted(find_model("efficientnet_b0"), {"encoder.weight": (1, 2)}, "w.pth")

"""What a recipe, or a call, asks for in vain is refused, and never skipped."""

import pytest

from edgese import catalog
from edgese.__main__ import run
from edgese.conversion.api import convert
from edgese.data.calibration import calibration_set
from edgese.errors import ConfigError, InputError
from edgese.records.artifact import Recipe

INT8 = """
name = "mine"
precision = "{precision}"
summary = "A recipe."

[parity]
min_cosine = 0.99
min_sqnr_db = 15.0

[quantization]
"""


@pytest.mark.parametrize(
    ("precision", "keys", "reason"),
    [
        ("int8", "percentile = 99.9", "`percentile` is for ranges"),
        ("int8", 'ranges = "mse"\npercentile = 99.9', '"percentile", not "mse"'),
        (
            "int8",
            "bias_correction = false\ncompensation = true",
            "`compensation` moves the means",
        ),
        (
            "int8",
            "bias_correction = false\nnorm_reestimation = true",
            "`norm_reestimation` moves the means",
        ),
        ("int8_weights", "bias_correction = false", "ranges other than"),
        ("int8_weights", 'ranges = "min_max"', "bias_correction has no effect"),
        (
            "int8_weights",
            'ranges = "min_max"\nbias_correction = false\ntraining = "qat"',
            "training has no effect",
        ),
    ],
)
def test_a_key_without_effect_is_an_error(precision, keys, reason):
    text = INT8.format(precision=precision) + keys
    with pytest.raises(InputError, match=reason):
        Recipe.from_toml(text, "mine.toml")


@pytest.mark.parametrize(
    "keys", ['ranges = "percentile"\npercentile = 99.9', "equalization = true", "pictures = 8"]
)
def test_a_key_with_an_effect_is_none(keys):
    made = Recipe.from_toml(INT8.format(precision="int8") + keys, "mine.toml")
    assert Recipe.from_json(made.to_json(), "mine.json") == made


def test_every_recipe_that_is_shipped_means_what_it_says():
    assert [catalog.recipe(name).name for name in catalog.recipe_names()] == list(
        catalog.recipe_names()
    )


def test_a_split_of_the_embedded_pictures_is_refused():
    with pytest.raises(ConfigError, match="The split 'train' of the embedded pictures"):
        calibration_set("embedded", 8, "train")


def test_a_split_without_calibration_pictures_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="The split 'train' of no calibration pictures"):
        convert(
            "efficientnet_lite0",
            "onnxruntime",
            weights="none",
            recipe="fp32",
            split="train",
            out=tmp_path,
        )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--max-drop", "1"), "--max-drop means nothing to the recipe int8"),
        (("--target", "tflite"), "--target means nothing to the recipe int8"),
        (
            ("--recipe", "auto", "--judge", "x", "--analyze"),
            "--analyze means nothing to the recipe auto",
        ),
        (
            ("--recipe", "auto", "--judge", "x", "--batch", "4"),
            "--batch 4 means nothing to the recipe auto",
        ),
    ],
)
def test_an_option_without_effect_is_refused(arguments, message, capsys):
    asked = ("quantize", "efficientnet_lite0", "--weights", "none", "--data", "embedded")
    assert run([*asked, *arguments]) == ConfigError.exit_code
    assert message in " ".join(capsys.readouterr().err.split())

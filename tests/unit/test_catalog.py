"""Data files are found, the user's first, and read strictly."""

import pytest

from edgese import catalog, project
from edgese.errors import ConfigError, InputError


@pytest.fixture
def user_project(tmp_path, monkeypatch):
    (tmp_path / "edgese.toml").write_text("")
    (tmp_path / "calibration/recipes").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    project.root.cache_clear()
    project.file.cache_clear()
    yield tmp_path
    project.root.cache_clear()
    project.file.cache_clear()


RECIPE = """
name = "mine"
precision = "fp32"
summary = "A recipe of the user's own."
parity = { min_cosine = 0.5, min_sqnr_db = 10.0 }
"""


@pytest.mark.parametrize("name", catalog.recipe_names())
def test_every_built_in_recipe_can_be_read_and_is_named_as_its_file(name):
    assert catalog.recipe(name).name == name


@pytest.mark.parametrize("name", catalog.target_names())
def test_every_built_in_target_can_be_read_and_is_named_as_its_file(name):
    facts = catalog.target_facts(name)
    assert facts.name == name
    assert catalog.recipe(facts.default_recipe).precision in facts.precisions


@pytest.mark.parametrize("name", catalog.target_names())
def test_a_target_tells_what_each_of_its_delegates_takes(name):
    facts = catalog.target_facts(name)
    named = [delegate.name for delegate in facts.coverage]
    assert set(facts.delegates) <= set(named)
    assert len(set(named)) == len(named)


def test_there_are_four_built_in_targets():
    assert catalog.target_names() == ("coreml", "executorch", "onnxruntime", "tflite")


@pytest.mark.parametrize("name", ["mine", "mine-2.5"])
def test_a_project_adds_a_recipe(user_project, name):
    text = RECIPE.replace("mine", name)
    (user_project / f"calibration/recipes/{name}.toml").write_text(text)
    assert catalog.recipe(name).summary == "A recipe of the user's own."
    assert {name, "fp32"} <= set(catalog.recipe_names())


def test_a_project_replaces_a_recipe(user_project):
    text = RECIPE.replace("mine", "fp32")
    (user_project / "calibration/recipes/fp32.toml").write_text(text)
    assert catalog.recipe("fp32").summary == "A recipe of the user's own."


def test_a_file_that_calls_itself_something_else_is_an_error(user_project):
    (user_project / "calibration/recipes/fp32.toml").write_text(RECIPE)
    with pytest.raises(InputError, match=r"fp32\.toml calls itself 'mine'"):
        catalog.recipe("fp32")


def test_a_folder_without_edgese_toml_is_no_project(user_project):
    (user_project / "calibration/recipes/mine.toml").write_text(RECIPE)
    (user_project / "edgese.toml").unlink()
    project.root.cache_clear()
    with pytest.raises(ConfigError, match="no recipe named 'mine'"):
        catalog.recipe("mine")


@pytest.mark.parametrize("name", ["fp23", "../recipes/fp32", "", "FP32"])
def test_an_unknown_name_is_told_with_the_known_ones(name):
    with pytest.raises(ConfigError) as told:
        catalog.recipe(name)
    assert "fp16" in told.value.hint
    assert "fp32" in told.value.hint


def test_a_near_name_is_suggested():
    with pytest.raises(ConfigError, match="Did you mean 'tflite'"):
        catalog.target_facts("tflight")


def test_a_misspelt_key_is_an_error_that_names_it(user_project):
    (user_project / "calibration/recipes/mine.toml").write_text(RECIPE + "precison = 'fp16'\n")
    with pytest.raises(InputError, match="precison"):
        catalog.recipe("mine")

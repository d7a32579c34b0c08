"""A project's edgese.toml sets what commands leave out."""

from pathlib import Path

import pytest

from edgese import project
from edgese.errors import ConfigError, InputError


@pytest.fixture
def folder(tmp_path, monkeypatch):
    inner = tmp_path / "work" / "deep"
    inner.mkdir(parents=True)
    monkeypatch.chdir(inner)
    forget()
    yield tmp_path
    forget()


def forget():
    project.root.cache_clear()
    project.file.cache_clear()


@pytest.mark.usefixtures("folder")
def test_without_a_project_a_missing_subject_is_told():
    assert project.root() is None
    with pytest.raises(ConfigError, match="No model was named"):
        project.subject(None)


def test_what_is_given_goes_before_the_project(folder):
    (folder / "edgese.toml").write_text('[project]\nmodel = "efficientnet_b0"\n')
    assert project.subject("se_resnet50") == "se_resnet50"
    assert project.subject(None) == "efficientnet_b0"


def test_files_are_relative_to_the_project_from_any_folder_below(folder):
    (folder / "edgese.toml").write_text(
        '[project]\nmodel = "mine.toml"\nweights = "w.safetensors"\nout = "artifacts"\n'
    )
    assert project.subject(None) == str(folder / "mine.toml")
    assert project.weights(project.subject(None)) == str(folder / "w.safetensors")
    assert project.out() == folder / "artifacts"


def test_words_that_are_no_files_stay_as_they_are(folder):
    (folder / "edgese.toml").write_text(
        '[project]\nmodel = "efficientnet_lite0"\nweights = "imagenet"\n'
    )
    assert project.weights("efficientnet_lite0") == "imagenet"
    assert project.out() == Path("edgese-out")


def test_the_projects_weights_are_for_its_own_model_alone(folder):
    (folder / "edgese.toml").write_text('[project]\nmodel = "mine.toml"\nweights = "w.pth"\n')
    assert project.weights(project.subject("se_resnet50")) is None


@pytest.mark.parametrize(
    "text", ['[project]\nmodle = "efficientnet_b0"\n', "[project\n", "[project]\nmodel = 3\n"]
)
def test_a_wrong_file_is_an_error_that_names_it(folder, text):
    (folder / "edgese.toml").write_text(text)
    with pytest.raises(InputError, match=r"edgese\.toml"):
        project.defaults()

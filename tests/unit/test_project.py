"""A project's edgese.toml sets what commands leave out."""

import os
from pathlib import Path

import pytest

from edgese import catalog, project
from edgese.budgets.load_budget import budget_place, load_budget
from edgese.budgets.noise import place
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


BUDGET = "[budget]\nlatency_p50_ms = 12\n"


@pytest.fixture
def foreign(monkeypatch):
    """Makes a file somebody else's: as far as this process knows, it runs as another user."""

    def made(path):
        if os.geteuid() == 0:
            os.chown(path, 4242, -1)
        else:
            monkeypatch.setattr(os, "geteuid", lambda: 4242)
        return path

    return made


def test_a_file_of_another_user_is_refused_by_whatever_would_take_it(folder, foreign):
    (folder / "edgese.toml").write_text(BUDGET)
    foreign(folder / "edgese.toml")
    for use in (project.root, project.defaults, lambda: load_budget(None), catalog.recipe_names):
        with pytest.raises(ConfigError, match="belongs to user") as told:
            use()
        assert str(folder / "edgese.toml") in told.value.message
        assert f"EDGESE_PROJECT={folder}" in told.value.hint


def test_a_checkout_that_anybody_may_write_is_taken(folder):
    """GitLab's runners make such checkouts."""
    (folder / "edgese.toml").write_text(BUDGET)
    (folder / "edgese.toml").chmod(0o666)
    assert project.root() == folder


def test_a_link_counts_by_who_put_it_there(folder):
    if os.geteuid() != 0:
        pytest.skip("only root makes links of other users")
    (folder / "mine.toml").write_text(BUDGET)
    (folder / "edgese.toml").symlink_to(folder / "mine.toml")
    os.chown(folder / "edgese.toml", 4242, -1, follow_symlinks=False)
    with pytest.raises(ConfigError, match="belongs to user 4242"):
        project.root()


def test_the_hint_is_a_way_out(folder, foreign, monkeypatch):
    (folder / "edgese.toml").write_text(BUDGET)
    foreign(folder / "edgese.toml")
    for named in (folder, folder / "edgese.toml"):
        monkeypatch.setenv("EDGESE_PROJECT", str(named))
        forget()
        assert project.root() == folder
        assert budget_place(None) == str(folder / "edgese.toml")
        assert load_budget(None).tables[0].latency_p50_ms == 12
    monkeypatch.setenv("EDGESE_PROJECT", str(folder / "work"))
    forget()
    with pytest.raises(ConfigError, match=r"no edgese\.toml"):
        project.root()


def test_the_caller_of_sudo_is_trusted_by_root_alone(folder, monkeypatch):
    (folder / "edgese.toml").write_text(BUDGET)
    owner = (folder / "edgese.toml").stat().st_uid
    monkeypatch.setenv("SUDO_UID", str(owner))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert project.root() == folder
    forget()
    if owner != 0:
        monkeypatch.setattr(os, "geteuid", lambda: 4242)
        with pytest.raises(ConfigError, match="belongs to user"):
            project.root()


@pytest.mark.parametrize(
    ("file", "use"),
    [
        ("calibration/recipes/own.toml", lambda: catalog.recipe("own")),
        ("targets/devices/own.toml", lambda: catalog.device_facts("own")),
        ("calibration/x.csv", lambda: catalog.data_file("calibration/x.csv")),
        ("noise.json", place),
    ],
)
def test_what_lies_beside_the_projects_file_is_held_to_the_same(folder, foreign, file, use):
    (folder / "edgese.toml").write_text(BUDGET)
    path = folder / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text('name = "own"\n')
    project.root()
    foreign(path)
    with pytest.raises(ConfigError, match="belongs to user") as told:
        use()
    assert str(path) in told.value.message


@pytest.mark.parametrize("kind", ["a broken link", "a pipe", "a folder"])
def test_a_nearer_project_that_is_no_file_is_not_passed_over(folder, kind):
    """The file of a folder above would decide in its place, and nobody would know."""
    (folder / "edgese.toml").write_text('[project]\nmodel = "efficientnet_b0"\n')
    nearer = folder / "work" / "edgese.toml"
    match kind:
        case "a broken link":
            nearer.symlink_to("gone.toml")
        case "a pipe":
            os.mkfifo(nearer)
        case _:
            nearer.mkdir()
    with pytest.raises(ConfigError, match=r"work/edgese\.toml is no file"):
        project.root()

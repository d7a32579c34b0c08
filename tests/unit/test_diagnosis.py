"""What is installed, missing, of another version and broken are four different things."""

import pytest

from edgese import diagnosis

METADATA = "Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"


@pytest.fixture
def wanted(tmp_path, monkeypatch):
    """Says what edgese wants, and installs packages where its processes find them."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    def install(requirement, *, version="1.0", module=None):
        name = requirement.partition("==")[0]
        monkeypatch.setattr(
            diagnosis.metadata, "requires", lambda _: [f'{requirement}; extra == "tflite"']
        )
        if module is not None:
            (tmp_path / f"{name}.py").write_text(module)
            info = tmp_path / f"{name}-{version}.dist-info"
            info.mkdir()
            (info / "METADATA").write_text(METADATA.format(name=name, version=version))
        (state,) = diagnosis.diagnose().packages
        return state

    return install


@pytest.mark.parametrize(
    ("installed", "status", "remedy"),
    [
        ({"module": ""}, "ok", ""),
        ({}, "missing", "pip install 'edgese[tflite]'"),
        ({"module": "", "version": "2.0"}, "other_version", "pip install 'thing==1.0'"),
        (
            {"module": "import gone"},
            "broken",
            "pip install --force-reinstall --no-deps 'thing==1.0'",
        ),
    ],
)
def test_each_state_has_its_own_remedy(wanted, installed, status, remedy):
    state = wanted("thing==1.0", **installed)
    assert (state.status, state.remedy, state.extra) == (status, remedy, "tflite")


@pytest.mark.parametrize(
    ("module", "error"),
    [
        ("import gone", "ModuleNotFoundError: No module named 'gone'"),
        ("import os; os.abort()", "importing it ended in signal 6"),
        ("raise SystemExit(3)", "importing it ended in exit code 3"),
    ],
)
def test_what_is_broken_says_how(wanted, module, error):
    assert wanted("thing==1.0", module=module).error == error


def test_every_extra_that_a_command_needs_is_looked_at():
    asked = {extra for extra, _ in diagnosis.wanted_packages()}
    # Qualcomm's compiler comes for Linux on x86_64 alone.
    assert asked | {"qualcomm"} == set(diagnosis.EXTRAS)

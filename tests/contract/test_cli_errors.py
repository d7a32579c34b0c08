"""Bad input at the command line: its exit code, what was found, and what to do."""

import importlib.util
import os
import pickle
from pathlib import Path

import pytest

from edgese.__main__ import run

SPEC = """
name = "tiny"
family = "mine"
classes = 3

[stem]
channels = [8]

[[stages]]
block = "basic"
channels = 8
depth = 1
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EDGESE_CACHE_DIR", str(tmp_path / "cache"))
    (tmp_path / "tiny.toml").write_text(SPEC)
    return tmp_path


@pytest.fixture
def ends(capsys):
    """Runs a command and checks its exit code; gives what stderr said."""

    def check(code, *arguments):
        assert run([str(argument) for argument in arguments]) == code
        said = capsys.readouterr()
        assert said.out == ""
        return said.err

    return check


class Evil:
    """Runs a command where it is unpickled."""

    def __reduce__(self):
        return os.system, ("touch was-executed",)


def convert(model, *rest, target="onnxruntime"):
    return ("convert", model, "--target", target, *rest)


@pytest.mark.usefixtures("place")
def test_an_unknown_model_is_told_with_the_nearest_names(ends):
    said = ends(2, *convert("efficentnet-b0", "--weights", "none"))
    assert "efficientnet_b0" in said


@pytest.mark.usefixtures("place")
def test_an_unknown_target_is_told_with_the_known_ones(ends):
    said = ends(2, *convert("tiny.toml", "--weights", "none", target="onnx"))
    assert "onnxruntime" in said


@pytest.mark.usefixtures("place")
def test_missing_weights_are_not_replaced_by_random_ones(ends):
    said = ends(2, *convert("tiny.toml"))
    assert "--weights" in said


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize("resolution", ["0", "0x224", "-1", "big"])
def test_a_resolution_that_is_none_is_refused(ends, resolution):
    said = ends(2, *convert("tiny.toml", "--weights", "none", f"--resolution={resolution}"))
    assert "224" in said


@pytest.mark.usefixtures("place")
def test_a_missing_extra_ends_in_its_install_command(monkeypatch, capsys):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "edgese.conversion.api.find_spec",
        lambda name: None if name == "onnxscript" else find(name),
    )
    assert run([*convert("tiny.toml", "--weights", "none")]) == 3
    assert "pip install 'edgese[onnxruntime]'" in capsys.readouterr().err


@pytest.mark.usefixtures("place")
def test_a_missing_weights_file_is_told(ends):
    assert "gone.pth" in ends(8, *convert("tiny.toml", "--weights", "gone.pth"))


def test_a_pickle_of_code_is_refused_and_not_executed(place, ends):
    (place / "evil.pth").write_bytes(pickle.dumps(Evil(), protocol=2))
    said = ends(8, *convert("tiny.toml", "--weights", "evil.pth"))
    assert "evil.pth" in said
    assert not (place / "was-executed").exists()


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_truncated_weights_are_told(place, ends, suffix):
    import torch
    from safetensors.torch import save_file

    tensors = {"classifier.weight": torch.zeros(3, 8)}
    whole = place / f"whole{suffix}"
    if suffix == ".pth":
        torch.save(tensors, whole)
    else:
        save_file(tensors, whole)
    (place / f"half{suffix}").write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    said = ends(8, *convert("tiny.toml", "--weights", f"half{suffix}"))
    assert f"half{suffix}" in said


def test_weights_of_another_architecture_are_told_in_one_error(place, ends):
    from edgese import build, find_model, save_weights

    (place / "wide.toml").write_text(SPEC.replace("8", "16").replace("depth = 1", "depth = 2"))
    save_weights(build(find_model("wide.toml")), place / "wide.safetensors")
    said = ends(8, *convert("tiny.toml", "--weights", "wide.safetensors"))
    assert "wide.safetensors" in said


def test_an_out_folder_that_is_a_file_is_told_before_any_work(place, ends):
    (place / "taken").write_text("")
    said = ends(9, *convert("tiny.toml", "--weights", "none", "--out", "taken"))
    assert "taken" in said


@pytest.mark.skipif(not Path("/sys/kernel").is_dir(), reason="needs a folder closed to root too")
@pytest.mark.usefixtures("place")
def test_an_out_folder_without_permission_is_told(ends):
    said = ends(9, *convert("tiny.toml", "--weights", "none", "--out", "/sys/kernel/artifacts"))
    assert "/sys/kernel" in said


def test_a_misspelt_key_in_a_spec_is_named(place, ends):
    (place / "wrong.toml").write_text(SPEC.replace("depth", "dept"))
    assert "dept" in ends(8, *convert("wrong.toml", "--weights", "none"))


@pytest.mark.usefixtures("place")
def test_an_option_of_another_target_is_refused(ends):
    said = ends(2, *convert("tiny.toml", "--weights", "none", "--deployment-target", "iOS17"))
    assert "coreml" in said.lower().replace(" ", "")


def test_a_folder_without_pictures_is_told(place, ends):
    (place / "empty").mkdir()
    said = ends(8, *convert("tiny.toml", "--weights", "none", "--pictures", "empty"))
    assert "empty" in said


@pytest.mark.parametrize("command", ["evaluate", "profile"])
def test_an_artifact_that_is_not_there_is_told(place, ends, command):
    data = ("--data", place) if command == "evaluate" else ()
    assert "gone.tflite" in ends(8, command, "gone.tflite", *data)


def test_untrained_weights_have_no_accuracy(place, ends):
    said = ends(2, "evaluate", "tiny.toml", "--weights", "none", "--data", place)
    assert "UNTRAINED" in said


@pytest.mark.usefixtures("place")
def test_targets_in_one_word_are_told_how_to_be_named(ends):
    said = ends(2, *convert("tiny.toml", "--weights", "none", target="tflite,coreml"))
    assert "--target tflite --target coreml" in said


@pytest.mark.parametrize("command", ["evaluate", "profile"])
def test_a_result_that_could_not_be_written_is_told_before_any_work(place, ends, command):
    (place / "x.onnx").write_bytes(b"")
    data = ("--data", place) if command == "evaluate" else ()
    assert "is a folder" in ends(9, command, "x.onnx", "--out", place, *data)


def test_an_unknown_device_is_told(place, ends):
    (place / "x.onnx").write_bytes(b"")
    assert "host" in ends(2, "profile", "x.onnx", "--device", "toaster")

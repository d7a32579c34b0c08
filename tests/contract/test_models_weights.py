"""Weights in and out through real files."""

import pickle
import zipfile

import msgspec
import pytest
import torch
from torch import nn

from edgese.errors import InputError, OutputError
from edgese.models.builder import build
from edgese.models.checkpoint import file_format
from edgese.models.naming import stored_tensors
from edgese.models.registry import customized, find_model
from edgese.models.untrained import plausible
from edgese.models.weights import load_network, resolve_weights, save_weights
from edgese.records.model import Preprocessing

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = find_model("se_resnet20_small")


@pytest.fixture(scope="module")
def network():
    return plausible(build(SMALL), seed=3)


@pytest.fixture(scope="module")
def state(network):
    """The network's weights in torchvision's and timm's ResNet names, as a state dict."""
    ours = network.state_dict()
    return {theirs: ours[tensor.name] for theirs, tensor in stored_tensors(SMALL, "resnet").items()}


def load(path, spec=SMALL):
    return load_network(spec, resolve_weights(spec, str(path)))


def saved(tmp_path, content, name="w.pth", **options):
    torch.save(content, tmp_path / name, **options)
    return tmp_path / name


def assert_same(actual, expected):
    for name, tensor in expected.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            assert torch.equal(actual.state_dict()[name], tensor), name


def test_a_state_dict_in_foreign_names_is_loaded(tmp_path, state, network):
    loaded, info = load(saved(tmp_path, state))

    assert_same(loaded, network)
    assert not loaded.training
    assert (info.naming, info.trained, len(info.sha256)) == ("resnet", True, 64)


@pytest.mark.parametrize("wrapper", ["state_dict", "model", "state_dict_ema"])
def test_what_training_scripts_save_is_unwrapped(wrapper, tmp_path, state, network):
    parallel = {f"module.{name}": tensor for name, tensor in state.items()}

    loaded, _ = load(saved(tmp_path, {"epoch": 3, wrapper: parallel}))

    assert_same(loaded, network)


def test_the_older_file_format_is_read(tmp_path, state, network):
    path = saved(tmp_path, state, _use_new_zipfile_serialization=False)

    assert_same(load(path)[0], network)


def test_half_precision_is_widened(tmp_path, state, network):
    halves = {name: tensor.half() for name, tensor in state.items()}

    loaded, _ = load(saved(tmp_path, halves))

    actual = loaded.state_dict()["stem.conv0.conv.weight"]
    assert actual.dtype == torch.float32
    assert torch.equal(actual, network.state_dict()["stem.conv0.conv.weight"].half().float())


def test_two_sets_of_weights_in_one_file_are_refused(tmp_path, state):
    with pytest.raises(InputError, match="state_dict, state_dict_ema"):
        load(saved(tmp_path, {"state_dict": state, "state_dict_ema": state}))


def test_saved_weights_come_back_with_preprocessing_and_labels(tmp_path, network):
    labels = tuple("abcdefghij")
    spec = msgspec.structs.replace(
        SMALL, labels=labels, preprocessing=Preprocessing(height=40, width=40, crop=0.8)
    )
    trained = build(spec)
    trained.load_state_dict(network.state_dict())
    path = tmp_path / "w.safetensors"

    save_weights(trained, path)
    resolved = resolve_weights(SMALL, str(path))
    loaded, info = load_network(resolved.spec, resolved)

    assert_same(loaded, network)
    assert loaded.spec == spec
    assert info.naming == "edgese"
    assert [entry.name for entry in tmp_path.iterdir()] == ["w.safetensors"]


def test_weights_that_cannot_be_written_are_an_output_error(tmp_path, network):
    with pytest.raises(OutputError, match="absent"):
        save_weights(network, tmp_path / "absent" / "w.safetensors")


class Code:
    """Runs a command where it is unpickled."""

    def __reduce__(self):
        return print, ("it ran",)


def test_a_pickle_of_code_is_refused_and_not_run(tmp_path, capsys):
    path = tmp_path / "w.pth"
    path.write_bytes(pickle.dumps({"conv1.weight": Code()}, protocol=2))

    with pytest.raises(InputError, match="pickled program"):
        load(path)
    assert capsys.readouterr().out == ""


def test_a_whole_pickled_module_is_refused_with_the_way_out(tmp_path):
    with pytest.raises(InputError, match="pickled program") as caught:
        load(saved(tmp_path, nn.Conv2d(1, 1, 1)))

    assert "state_dict()" in caught.value.hint


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_a_torchscript_program_is_refused(tmp_path):
    path = tmp_path / "w.pt"
    torch.jit.save(torch.jit.script(nn.ReLU()), path)

    with pytest.raises(InputError, match="TorchScript"):
        load(path)


def test_an_exported_program_is_refused(tmp_path):
    path = tmp_path / "w.pt2"
    torch.export.save(torch.export.export(nn.ReLU(), (torch.zeros(1),)), path)

    with pytest.raises(InputError, match="exported program"):
        load(path)


def test_another_zip_file_is_refused(tmp_path):
    path = tmp_path / "w.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "no weights")

    with pytest.raises(InputError, match="zip file"):
        load(path)


def test_a_zip_file_with_a_damaged_directory_is_an_input_error(tmp_path, state):
    path = saved(tmp_path, state)
    path.write_bytes(path.read_bytes().replace(b"PK\x01\x02", b"PK\x01\x03"))

    with pytest.raises(InputError, match="as a torch file: BadZipFile"):
        load(path)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.9, 0.999])
def test_a_truncated_torch_file_is_an_input_error(zipped, share, tmp_path, state):
    path = saved(tmp_path, state, _use_new_zipfile_serialization=zipped)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])

    with pytest.raises(InputError) as caught:
        load(path)

    assert str(path) in caught.value.message
    assert caught.value.hint


def test_a_truncated_safetensors_file_is_an_input_error(tmp_path, network):
    path = tmp_path / "w.safetensors"
    save_weights(network, path)
    path.write_bytes(path.read_bytes()[:-4])

    with pytest.raises(InputError, match="bytes long"):
        load(path)


@pytest.mark.parametrize(
    "content", [{"epoch": 3}, [torch.zeros(1)], {}, {"conv1.weight": [1.0]}], ids=str
)
def test_a_torch_file_without_a_state_dict_is_an_input_error(content, tmp_path):
    with pytest.raises(InputError, match="not a state_dict"):
        load(saved(tmp_path, content))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_named(value, tmp_path, state):
    broken = dict(state)
    broken["layer2.0.conv1.weight"] = torch.full_like(broken["layer2.0.conv1.weight"], value)

    with pytest.raises(InputError, match=r"NaN or infinity in 1 .*layer2\.0\.conv1\.weight"):
        load(saved(tmp_path, broken))


def test_integer_weights_are_refused(tmp_path, state):
    integers = {name: tensor.to(torch.int8) for name, tensor in state.items()}

    with pytest.raises(InputError, match="as int8"):
        load(saved(tmp_path, integers))


def test_weights_of_another_model_are_named(tmp_path, state):
    with pytest.raises(InputError, match="weights of se_resnet20_small"):
        load(saved(tmp_path, state), find_model("se_resnet32_small"))


def test_another_number_of_classes_names_the_option(tmp_path, state):
    with pytest.raises(InputError, match="--classes 10"):
        load(saved(tmp_path, state), customized(SMALL, classes=100))


def test_features_need_no_classifier(tmp_path, state, network):
    features, _ = load(saved(tmp_path, state), customized(SMALL, classes=0))
    pictures = torch.randn(1, 3, 32, 32)

    with torch.no_grad():
        expected, actual = network(pictures), network.classifier(features(pictures))
    torch.testing.assert_close(actual, expected)


def test_saved_weights_can_be_read_by_whoever_may_read_other_files(tmp_path):
    save_weights(build(find_model("resnet20_small")), tmp_path / "weights.safetensors")
    (tmp_path / "other").write_bytes(b"")
    modes = {path.stat().st_mode for path in tmp_path.iterdir()}
    assert len(modes) == 1


def test_weights_bring_their_classes_where_nobody_asked_for_a_number(tmp_path):
    trained = build(customized(find_model("efficientnet_lite0"), classes=5))
    trained.spec = msgspec.structs.replace(trained.spec, labels=tuple("abcde"))
    path = tmp_path / "w.safetensors"
    save_weights(trained, path)
    named = find_model("efficientnet_lite0")

    brought = resolve_weights(named, str(path)).spec
    assert (brought.classes, brought.labels) == (5, tuple("abcde"))
    with pytest.raises(InputError, match="has 5 classes") as caught:
        resolve_weights(customized(named, classes=7), str(path), classes=7)
    assert "--classes 5" in caught.value.hint
    with pytest.raises(InputError, match="has 5 classes"):
        resolve_weights(named, str(path), classes=1000)


@pytest.mark.parametrize("lowest", [0x80, 0x50, 0x00])
def test_a_safetensors_file_is_one_whatever_byte_its_headers_length_begins_with(
    lowest, tmp_path, network
):
    path = tmp_path / "w.safetensors"
    save_weights(network, path)
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    padding = (lowest - length) % 256
    header = content[8 : 8 + length] + b" " * padding
    path.write_bytes((length + padding).to_bytes(8, "little") + header + content[8 + length :])
    assert path.read_bytes()[0] == lowest
    assert file_format(path) == "safetensors"
    assert_same(load(path)[0], network)

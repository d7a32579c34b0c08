"""Weights, images and modules as nobody meant them: they work, or an error says why not."""

import json
import os
import socket
import zipfile

import msgspec
import pytest
import torch
from PIL import Image
from torch import nn

from edgese import catalog
from edgese.data.calibration import calibration_set
from edgese.data.pictures import read_picture
from edgese.data.sources import pictures_of_files
from edgese.errors import ConfigError, ConversionError, InputError
from edgese.evaluation.api import evaluate
from edgese.models.builder import build
from edgese.models.registry import find_model
from edgese.models.subject import find_subject
from edgese.models.weights import load_network, resolve_weights, save_weights
from edgese.program.export import exported, logits_of
from edgese.quantization.integer import Integer, quantized_network
from edgese.records.model import Preprocessing

save_file = pytest.importorskip("safetensors.torch").save_file
PIXELS = Preprocessing(height=32, width=32)


@pytest.fixture
def spec(tmp_path, tiny_spec):
    path = tmp_path / "tiny.toml"
    path.write_text(tiny_spec)
    return find_model(str(path))


@pytest.fixture
def state(spec):
    network, _ = load_network(spec, resolve_weights(spec, "none"))
    return network.state_dict()


def loaded(spec, path):
    return load_network(spec, resolve_weights(spec, str(path)))[0]


FORMS = {
    "float8": lambda t: t.to(torch.float8_e4m3fn),
    "float8_e5m2": lambda t: t.to(torch.float8_e5m2),
    "complex64": lambda t: t.to(torch.complex64),
    "bool": lambda t: t.to(torch.bool),
    "int8": lambda t: t.to(torch.int8),
    "qint8": lambda t: torch.quantize_per_tensor(t, 0.1, 0, torch.qint8),
    "sparse_coo": lambda t: t.to_sparse(),
    "meta": lambda t: t.to("meta"),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["first", "all"])
def test_weights_that_are_no_floats_are_refused_with_their_form(tmp_path, spec, state, form, name):
    changed = [key for key in state if key.endswith("conv.weight")]
    changed = changed[:1] if name == "first" else changed
    torch.save(
        {key: FORMS[form](t) if key in changed else t for key, t in state.items()},
        tmp_path / "w.pth",
    )
    with pytest.raises(
        InputError, match=rf"(?s)w\.pth.*({form}|pickled program|without its values)"
    ):
        loaded(spec, tmp_path / "w.pth")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floats_are_weights(tmp_path, spec, state, dtype):
    save_file({key: tensor.to(dtype) for key, tensor in state.items()}, tmp_path / "w.safetensors")
    network = loaded(spec, tmp_path / "w.safetensors")
    for key, tensor in network.state_dict().items():
        assert torch.equal(tensor, state[key].to(dtype).to(tensor.dtype)), key


def test_a_files_contents_and_not_its_suffix_tell_what_it_is(tmp_path, spec, state):
    torch.save(state, tmp_path / "zip.safetensors")
    torch.save(state, tmp_path / "old.safetensors", _use_new_zipfile_serialization=False)
    save_file(state, tmp_path / "plain.pth")
    key = next(name for name in state if name.endswith("weight"))
    for name in ("zip.safetensors", "old.safetensors", "plain.pth"):
        network = loaded(spec, tmp_path / name)
        assert torch.equal(network.state_dict()[key], state[key]), name


@pytest.mark.parametrize("suffix", ["safetensors", "pth", "pt", "ckpt"])
@pytest.mark.parametrize("content", ["zip", "json", "deep", "png", "pickle"])
def test_another_kind_of_file_is_an_input_error(tmp_path, spec, suffix, content):
    path = tmp_path / f"w.{suffix}"
    match content:
        case "zip":
            with zipfile.ZipFile(path, "w") as archive:
                archive.writestr("a.txt", "a")
        case "json":
            path.write_text('{"a": 1}')
        case "deep":
            header = b'{"a": ' + b"[" * 100_000
            path.write_bytes(len(header).to_bytes(8, "little") + header)
        case "png":
            Image.new("RGB", (4, 4)).save(path, "PNG")
        case "pickle":
            path.write_bytes(b"\x80\x02}q\x00.")
    with pytest.raises(InputError, match=rf"w\.{suffix}"):
        loaded(spec, path)


def test_an_archive_that_would_fill_the_memory_is_refused(tmp_path, spec):
    path = tmp_path / "w.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(2**28))
    assert path.stat().st_size < 2**20
    with pytest.raises(InputError, match="made to exhaust memory"):
        loaded(spec, path)


def test_a_header_that_names_a_tensor_twice_is_an_input_error(tmp_path, spec):
    entry = '{"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}'
    header = f'{{"a": {entry}, "a": {entry}}}'.encode()
    path = tmp_path / "w.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    with pytest.raises(InputError, match="'a' twice"):
        loaded(spec, path)


# ---- images -------------------------------------------------------------------------------------


@pytest.fixture
def photos(tmp_path, spec, state):
    """Four classes of one image each, and weights that count as trained."""
    for label in range(4):
        (tmp_path / "photos" / str(label)).mkdir(parents=True)
        image = Image.effect_noise((40, 36), 50).convert("RGB")
        image.save(tmp_path / "photos" / str(label) / "a.png")
    network, _ = load_network(spec, resolve_weights(spec, "none"))
    network.load_state_dict(state)
    save_weights(network, tmp_path / "w.safetensors")
    return tmp_path / "photos"


def evaluated(tmp_path, data):
    weights = str(tmp_path / "w.safetensors")
    return evaluate(str(tmp_path / "tiny.toml"), data, weights=weights, threads=1)


@pytest.mark.parametrize("kind", ["pipe", "folder", "socket", "device", "loop", "large"])
def test_what_is_no_image_file_is_named_and_not_waited_for(tmp_path, photos, monkeypatch, kind):
    path = photos / "0" / "b.jpg"
    match kind:
        case "pipe":
            os.mkfifo(path)
        case "folder":
            path.mkdir()
        case "socket":
            monkeypatch.chdir(path.parent)
            with socket.socket(socket.AF_UNIX) as made:
                made.bind(path.name)
        case "device":
            path.symlink_to("/dev/zero")
        case "loop":
            path.symlink_to(path.name)
        case "large":
            with path.open("wb") as file:
                file.write(b"RIFF\xff\xff\xff\x7fWEBPVP8 ")
                file.truncate(2**40)
    with pytest.raises(InputError, match=r"b\.jpg"):
        read_picture(path)
    found = evaluated(tmp_path, photos)
    # A folder called .jpg is one of the folders that are looked through.
    assert (found.pictures, len(found.unreadable)) == (4, 0 if kind == "folder" else 1)


def test_names_that_are_not_utf_8_are_read_and_recorded(tmp_path, photos):
    odd = os.fsdecode(b"\xff\xfe.png")
    (photos / "0" / "a.png").rename(photos / "0" / odd)
    (photos / "1" / os.fsdecode(b"\xe9.jpg")).write_bytes(b"no image")
    found = evaluated(tmp_path, photos)
    assert found.pictures == 4
    assert found.predictions[0].file == r"0/\xff\xfe.png"
    assert found.unreadable[0].file == r"1/\xe9.jpg"
    assert json.loads(found.to_json())["pictures"] == 4


def test_calibration_takes_whole_paths_and_odd_names(tmp_path, photos):
    files = []
    for number in range(8):
        path = photos / "0" / os.fsdecode(b"\xff%d.png" % number)
        path.write_bytes((photos / "1" / "a.png").read_bytes())
        files.append(path)
    found = calibration_set(photos / "0", 8)
    assert found.calibration.pictures[1].file == r"\xff0.png"
    found.calibration.to_json()
    listing = tmp_path / "lists" / "x.csv"
    listing.parent.mkdir()
    whole = [photos / str(label) / "a.png" for label in range(4)]
    more = [photos / str(label) / "b.png" for label in range(4)]
    for source, dest in zip(whole, more, strict=True):
        dest.write_bytes(source.read_bytes())
    listing.write_text("\n".join(["file", *map(str, whole + more)]))
    found = calibration_set(listing, 8)
    assert [picture.file for picture in found.calibration.pictures] == [
        path.as_posix() for path in whole + more
    ]
    told = pictures_of_files(str(listing), found.files)
    assert told.read(5).size == (40, 36)


# ---- modules ------------------------------------------------------------------------------------


class Base(nn.Module):
    """A small classifier; kinds of it differ in `answer`."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.a = nn.Conv2d(3, 8, 3, 2, 1)
        self.b = nn.Conv2d(8, 8, 3, 2, 1)
        self.c = nn.Linear(8, 10)

    def features(self, x):
        """What the classifier sees."""
        return torch.relu(self.b(torch.relu(self.a(x))))

    def head(self, x):
        """The classifier."""
        return self.c(x.mean((2, 3)))

    def forward(self, x):
        """See `nn.Module`."""
        return self.head(self.features(x))


def with_other_strides():
    module = Base()
    weight = module.a.weight.detach()
    module.a.weight = nn.Parameter(weight.permute(1, 0, 2, 3).contiguous().permute(1, 0, 2, 3))
    assert not module.a.weight.is_contiguous()
    return module


def expanded():
    module = Base()
    module.a.weight = nn.Parameter(module.a.weight.detach()[:1].expand(8, -1, -1, -1))
    return module


class Shared(Base):
    """One convolution under two names."""

    def __init__(self):
        super().__init__()
        self.other = self.b

    def forward(self, x):
        """See `nn.Module`."""
        return self.head(torch.relu(self.other(self.features(x))))


class Twice(Base):
    """One convolution that is called twice."""

    def forward(self, x):
        """See `nn.Module`."""
        return self.head(torch.relu(self.b(self.features(x))))


WORKING = {
    "strides": with_other_strides,
    "expanded": expanded,
    "shared": Shared,
    "called twice": Twice,
    "half": lambda: Base().half(),
    "bfloat16": lambda: Base().bfloat16(),
    "double": lambda: Base().double(),
    "channels last": lambda: Base().to(memory_format=torch.channels_last),
    "training": lambda: Base().train(),
}


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("kind", WORKING)
def test_modules_that_can_be_made_right_are_quantized(kind):
    module = WORKING[kind]()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    training = module.training
    found = subject(module)
    network, _ = found.load()
    recipe = catalog.recipe("int8")
    integer = Integer(recipe=recipe, pictures=calibration_set("embedded", 8))
    made = quantized_network(network, found.card, integer, batch=1, on_stage=lambda *_: None)
    assert made.fidelity.sqnr_db > 15
    assert module.training is training
    for name, tensor in module.state_dict().items():
        assert tensor.dtype == before[name].dtype
        assert torch.equal(tensor, before[name])
    # As exact as float32 is relative to the module's own numbers.
    x = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        own = module.double()(x.double())
    theirs = torch.from_numpy(logits_of(network, x.numpy(), 1)).double()
    assert torch.allclose(own, theirs, rtol=1e-4, atol=1e-5)


def subject(module):
    return find_subject(
        module,
        weights=None,
        resolution=None,
        classes=None,
        features=False,
        preprocessing=PIXELS,
        labels=(),
        name="mine",
        batch=1,
    )


def answering(function):
    """A classifier whose forward is ``function``."""

    class Answering(Base):
        def forward(self, *x):
            return function(self, *x)

    return Answering()


REFUSED = {
    "two inputs": (lambda s, x, y: s.head(s.features(x) + y), "missing 1 required"),
    "dict": (lambda s, x: {"y": s.head(s.features(x))}, "a dict with the keys 'y'"),
    "tuple": (lambda s, x: (s.head(s.features(x)), x), "a tuple of 2"),
    "nothing": (lambda _s, _x: None, "a NoneType"),
    "4-D": (lambda s, x: s.features(x), r"of shape \(1, 8, 8, 8\)"),
    "integers": (lambda s, x: s.head(s.features(x)).round().int(), r"of torch\.int32"),
    "complex": (lambda s, x: torch.fft.fft(s.head(s.features(x))), r"of torch\.complex64"),
    "raises": (lambda _s, _x: {}["missing"], r"KeyError in \S*test_hostile: 'missing'"),
    "wrong shape": (lambda s, x: s.c(x), "RuntimeError"),
    "leaves": (lambda _s, _x: open("/nowhere"), r"No such file or directory \(/nowhere\)"),  # noqa: PTH123, SIM115
    "recursion": (lambda s, x: s(x), "nested deeper than"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_modules_that_are_no_classifier_of_one_image_are_refused_with_the_reason(kind):
    function, reason = REFUSED[kind]
    with pytest.raises(ConfigError, match=reason) as caught:
        subject(answering(function))
    assert "tensor" in caught.value.hint


UNEXPORTABLE = {
    "branch on data": lambda s, x: (
        s.head(s.features(x)) if s.features(x).sum() > 0 else s.head(s.features(-x))
    ),
    "loop on data": lambda s, x: (
        s.head(s.features(x)) * sum(1 for _ in range(int(x.abs().sum()) + 1))
    ),
}


@pytest.mark.parametrize("kind", UNEXPORTABLE)
def test_modules_that_torch_cannot_export_are_a_conversion_error(kind):
    found = subject(answering(UNEXPORTABLE[kind]))
    with pytest.raises(ConversionError, match=r"Cannot export mine with torch\.export"):
        exported(found.load()[0], "mine", (1, 3, 32, 32))


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: Base().to("meta"), "meta tensor"),
        (lambda: nn.Sequential(nn.LazyConv2d(4, 3)), "take a copy|run Sequential"),
        (lambda: Base().to(torch.complex64), r"torch\.complex64"),
    ],
    ids=["meta", "lazy", "complex"],
)
def test_modules_without_numbers_are_refused_with_the_reason(make, reason):
    with pytest.raises(ConfigError, match=reason):
        subject(make())


@pytest.mark.parametrize("classes", [10**11, 10**20])
def test_a_network_that_no_memory_holds_is_a_config_error(spec, classes):
    large = msgspec.structs.replace(spec, classes=classes)
    with pytest.raises(ConfigError, match="too large for this machine"):
        load_network(large, resolve_weights(large, "none"))
    with pytest.raises(ConfigError, match="too large for this machine"):
        build(large)

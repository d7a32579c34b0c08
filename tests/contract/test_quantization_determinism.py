"""One program: the same integers on any number of cores, for any targets, in every run."""

import json
import os
import subprocess
import sys
import threading
from contextlib import ExitStack, contextmanager

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnxruntime")
pytest.importorskip("ai_edge_litert")

from PIL import Image  # noqa: E402
from torch import nn  # noqa: E402

from edgese import catalog, machine, quantize  # noqa: E402
from edgese.errors import ConfigError  # noqa: E402
from edgese.models.builder import build  # noqa: E402
from edgese.models.untrained import plausible  # noqa: E402
from edgese.parallel import one_thread, own_settings, torch_threads  # noqa: E402
from edgese.program.export import exported, logits_of  # noqa: E402
from edgese.program.fingerprint import integers_sha256  # noqa: E402
from edgese.program.forms import held_tensors  # noqa: E402
from edgese.program.integers import integer_outputs  # noqa: E402
from edgese.quantization.ptq import quantized  # noqa: E402
from edgese.records.model import ModelSpec  # noqa: E402

SIDE = 64
SPEC = f"""
name = "small"
family = "mine"
classes = 10
stem = {{ channels = [16] }}
stages = [
    {{ block = "mbconv", channels = 24, depth = 2, expansion = 4, se = {{ reduction = 4 }} }},
    {{ block = "mbconv", channels = 48, depth = 1, expansion = 4, stride = 2 }},
]
head = {{ channels = 64 }}
preprocessing = {{ height = {SIDE}, width = {SIDE} }}
"""
# What `edgese convert` does in a process that may use so many cores, from an empty cache.
CONVERT = """
import json, os, sys, tempfile
import numpy as np
import torch
from edgese import convert, machine
from edgese.conversion import cache
from edgese.program import storage

cores, spec, data, *targets = sys.argv[1:]
torch.set_num_threads(int(cores))
machine.cores = lambda: int(cores)
with tempfile.TemporaryDirectory() as folder:
    os.environ["EDGESE_CACHE_DIR"] = f"{folder}/cache"
    rows = convert(spec, targets, weights="none", recipe="int8", data=data, out=folder)
    (reference,) = cache.store.cache_folder().glob(f"programs/*/{storage.REFERENCE}")
    with np.load(reference) as arrays:
        logits = arrays["logits"].tolist()
    told = [(row.error, row.integers) for row in rows]
    manifests = [json.load(open(row.manifest))["quantization"] for row in rows]
    print(json.dumps([told, [m["integers"] for m in manifests], manifests[0]["fidelity"], logits]))
"""


def images(count, seed=0):
    """Coarse shapes and noise: (count, 3, SIDE, SIDE), about as normalised photographs are."""
    generator = np.random.default_rng(seed)
    coarse = generator.normal(0, 1, (count, 3, 8, 8)).repeat(SIDE // 8, 2).repeat(SIDE // 8, 3)
    return (coarse + 0.3 * generator.normal(0, 1, coarse.shape)).astype(np.float32)


@pytest.fixture
def folder(tmp_path):
    """Image files, in a folder of their own: a training leaves a drawing, which is an image too."""
    place = tmp_path / "images"
    place.mkdir()
    for index, image in enumerate(images(20)):
        pixels = np.clip(128 + 50 * image, 0, 255).astype(np.uint8).transpose(1, 2, 0)
        Image.fromarray(pixels).save(place / f"{index}.png")
    return place


def converted(folder, cores, hash_seed, *targets):
    spec = folder / "small.toml"
    spec.write_text(SPEC)
    outcome = subprocess.run(
        [sys.executable, "-c", CONVERT, str(cores), str(spec), str(folder), *targets],
        env={**os.environ, "PYTHONHASHSEED": str(hash_seed)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert outcome.returncode == 0, outcome.stderr
    told, manifests, fidelity, logits = json.loads(outcome.stdout.splitlines()[-1])
    assert [error for error, _ in told] == [""] * len(targets)
    integers = {each for _, each in told} | set(manifests)
    assert len(integers) == 1, "artifacts of one program tell different integers"
    return integers.pop(), fidelity, logits


def test_cores_targets_and_runs_change_no_integer_and_no_reference(folder):
    one = converted(folder, 1, 1, "onnxruntime")
    two = converted(folder, 2, 2, "onnxruntime", "tflite")
    assert len(one[0]) == 64
    assert one == two
    assert converted(folder, 2, 3, "onnxruntime") == two


@pytest.fixture(scope="module")
def network():
    with one_thread():
        return plausible(build(ModelSpec.from_toml(SPEC, "small.toml")), seed=0)


@pytest.mark.parametrize("recipe", ["int8", "int8-percentile", "int8-weights"])
def test_the_number_of_lanes_changes_nothing(recipe, network, monkeypatch):
    given = images(19)
    found = []
    for cores in (1, 2, 5):
        monkeypatch.setattr(machine, "cores", lambda cores=cores: cores)
        made = quantized(
            exported(network, "small", (1, 3, SIDE, SIDE)), catalog.recipe(recipe), given
        )
        logits = integer_outputs(made.program, given[:5], 1).tobytes()
        floats = logits_of(network, given[:5], 1).tobytes()
        found.append((made.integers, made.fidelity, logits, floats))
    assert found[0] == found[1] == found[2]


def test_threads_of_torch_are_put_back(network):
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        exported(network, "small", (1, 3, SIDE, SIDE))
        logits_of(network, images(4), 1)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


@pytest.fixture(scope="module")
def program(network):
    recipe = catalog.recipe("int8-minmax")
    return quantized(exported(network, "small", (1, 3, SIDE, SIDE)), recipe, images(8)).program


def test_the_hash_sees_every_number_of_a_program(program):
    before = integers_sha256(program)
    assert integers_sha256(program) == before
    read = {node.name for node in program.graph.nodes if node.op == "placeholder" and node.users}
    held = {name: tensor for name, tensor in held_tensors(program).items() if name in read}
    kinds = [next(n for n in held if part in n) for part in ("_weight_", "_scales_", "_bias_of_")]
    for name in kinds:
        tensor = held[name]
        first = tensor.view(-1)[0].item()
        # Some steps of a weight or a bias, towards the other end; the last place of a scale.
        away = first - 1 if first > 0 else first + 1
        tensor.view(-1)[0] = first * (1 + 2**-22) if "scales" in name else away
        assert integers_sha256(program) != before, name
        tensor.view(-1)[0] = first
    assert integers_sha256(program) == before
    pair = next(n for n in program.graph.nodes if "quantize_per_tensor" in str(n.target))
    kept = pair.args
    for index, changed in ((1, np.nextafter(kept[1], 1)), (2, kept[2] + 1)):
        pair.args = (*kept[:index], changed, *kept[index + 1 :])
        assert integers_sha256(program) != before, index
    pair.args = kept
    assert integers_sha256(program) == before


class Kept(nn.Module):
    """A layer that a recipe may keep in float."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.one, self.two = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 1)

    def forward(self, x):
        """(N, 3, H, W) to (N, 4)."""
        return self.two(self.one(x)).mean((2, 3))


def test_the_hash_sees_what_stays_in_float():
    import msgspec

    recipe = catalog.recipe("int8-minmax")
    how = msgspec.structs.replace(recipe.quantization, keep_float=("two",))
    recipe = msgspec.structs.replace(recipe, quantization=how)
    hashes = []
    for change in (0.0, 1e-3):
        net = Kept().eval()
        net.two.weight.data[0, 0] += change
        made = quantized(exported(net, "kept", (1, 3, SIDE, SIDE)), recipe, images(8))
        floats = [n for n in held_tensors(made.program) if "two" in n]
        assert floats
        hashes.append(made.integers)
    assert hashes[0] != hashes[1]


def test_a_faulty_image_stops_all_lanes_with_its_error(network, monkeypatch):
    from edgese.errors import InputError

    monkeypatch.setattr(machine, "cores", lambda: 3)
    given = images(19)
    given[17] = np.nan
    with pytest.raises(InputError, match="NaN or infinity at"):
        quantized(
            exported(network, "small", (1, 3, SIDE, SIDE)), catalog.recipe("int8-minmax"), given
        )


def test_a_training_for_integers_does_not_depend_on_the_threads_of_torch(folder, tmp_path):
    pytest.importorskip("matplotlib")
    spec = folder / "small.toml"
    spec.write_text(SPEC)
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            found.append(
                quantize(
                    spec,
                    folder,
                    weights="none",
                    recipe="int8-qat",
                    epochs=2,
                    out=tmp_path / str(threads),
                )
            )
    finally:
        torch.set_num_threads(before)
    started = quantize(spec, folder, weights="none", recipe="int8", out=tmp_path / "start")
    assert found[0].integers == found[1].integers != started.integers


def assigned(holder, name, value):
    """A setting of torch that is an attribute, until the block ends."""

    @contextmanager
    def block():
        before = getattr(holder, name)
        setattr(holder, name, value)
        try:
            yield
        finally:
            setattr(holder, name, before)

    return block


def called(function, read, value):
    """A setting of torch that is made by a function."""

    @contextmanager
    def block():
        before = read()
        function(value)
        try:
            yield
        finally:
            function(before)

    return block


SMALLER = """
name = "smaller"
family = "mine"
classes = 10
stem = { channels = [8] }
stages = [{ block = "mbconv", channels = 8, depth = 1, expansion = 4, se = { reduction = 2 } }]
head = { channels = 64 }
preprocessing = { height = 32, width = 32 }
"""
ONEDNN = torch.backends.mkldnn
# What scripts set for themselves.
SETTINGS = {
    "less precise products": called(
        torch.set_float32_matmul_precision, torch.get_float32_matmul_precision, "medium"
    ),
    "less precise kernels": assigned(ONEDNN.conv, "fp32_precision", "bf16"),
    "no oneDNN": assigned(ONEDNN, "enabled", value=False),
    "double": called(torch.set_default_dtype, torch.get_default_dtype, torch.float64),
    "another device": lambda: torch.device("meta"),
    "inference": torch.inference_mode,
    "no gradients": torch.no_grad,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
}


def state():
    """What a script may have set."""
    return (
        *(torch.get_default_dtype(), torch.get_default_device(), torch.is_grad_enabled()),
        *(torch.is_autocast_enabled("cpu"), torch.is_inference_mode_enabled(), ONEDNN.enabled),
        *(ONEDNN.matmul.fp32_precision, ONEDNN.conv.fp32_precision),
        torch.get_float32_matmul_precision(),
    )


@pytest.fixture(scope="module")
def unsettled():
    """Integers by recipe, as nobody has set anything."""
    return {}


def quantized_in(folder, out, recipe, **steps):
    spec = folder / "smaller.toml"
    spec.write_text(SMALLER)
    data = folder / "calibration.csv"
    data.write_text("file\n" + "".join(f"{number}.png\n" for number in range(8)))
    return quantize(spec, data, weights="none", recipe=recipe, out=out, **steps).integers


@pytest.mark.parametrize("setting", SETTINGS)
def test_what_a_script_has_set_in_torch_changes_no_integer(setting, folder, tmp_path, unsettled):
    if not unsettled:
        unsettled["int8"] = quantized_in(folder, tmp_path / "without", "int8")
    with SETTINGS[setting]():
        before = state()
        found = quantized_in(folder, tmp_path / "with", "int8")
        after = state()
    assert found == unsettled["int8"]
    assert before == after


def test_what_a_script_has_set_in_torch_changes_no_training_for_integers(folder, tmp_path):
    pytest.importorskip("matplotlib")
    without = quantized_in(folder, tmp_path / "without", "int8-qat", epochs=1)
    with ExitStack() as stack:
        for setting in SETTINGS.values():
            stack.enter_context(setting())
        before = state()
        found = quantized_in(folder, tmp_path / "with", "int8-qat", epochs=1)
        after = state()
    assert found == without
    assert before == after


def test_settings_come_back_when_the_last_of_several_threads_is_done():
    inside, leave = threading.Event(), threading.Event()

    def other():
        with own_settings():
            inside.set()
            leave.wait(10)

    with SETTINGS["double"](), SETTINGS["no oneDNN"]():
        thread = threading.Thread(target=other)
        with own_settings():
            thread.start()
            assert inside.wait(10)
        # The other one still computes.
        assert (torch.get_default_dtype(), ONEDNN.enabled) == (torch.float32, True)
        leave.set()
        thread.join()
        assert (torch.get_default_dtype(), ONEDNN.enabled) == (torch.float64, False)


@pytest.mark.parametrize("setting", ["OMP_THREAD_LIMIT=1", "OMP_DYNAMIC=true"])
def test_a_limit_of_openmp_below_the_threads_is_refused_as_torch_would_wait_for_ever(
    setting, monkeypatch
):
    monkeypatch.setenv(*setting.split("="))
    with pytest.raises(ConfigError, match=setting.split("=")[0]), torch_threads(2):
        pass
    with torch_threads(1):
        assert torch.get_num_threads() == 1

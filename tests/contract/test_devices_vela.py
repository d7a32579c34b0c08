"""Vela itself, on a small network: what an estimate says, that it repeats, and what is refused."""

from functools import cache
from pathlib import Path

import msgspec
import pytest

from edgese.catalog import device_facts, device_names, recipe, target_facts
from edgese.devices import vela
from edgese.errors import ConfigError, DeviceError, InputError, MissingDependency, StoreError
from edgese.records.artifact import (
    Interface,
    Manifest,
    ModelCard,
    OperatorReport,
    Parity,
    TargetOptions,
    TensorInfo,
    WeightsInfo,
)
from edgese.records.device import VelaConfiguration
from edgese.records.model import Preprocessing
from edgese.seals import sealed
from edgese.store import manifest_path, sha256_of, size_of

NPUS = [name for name in device_names() if device_facts(name).transport == "vela"]
HEIGHT, WIDTH, CLASSES = 24, 20, 4
needs_vela = pytest.mark.skipif(vela.missing() != "", reason=f"Vela {vela.missing()}")


def described(artifact, target="tflite", chosen="int8-minmax"):
    """Writes the manifest of an artifact and gives the artifact's path."""
    shape = (1, HEIGHT, WIDTH, 3)
    picture = TensorInfo(name="x", shape=shape, layout="NHWC", dtype="float32")
    logits = TensorInfo(name="y", shape=(1, CLASSES), layout="NC", dtype="float32")
    manifest = Manifest(
        artifact=artifact.name,
        sha256=sha256_of(artifact),
        size_bytes=size_of(artifact),
        target=target,
        delegate="xnnpack",
        recipe=recipe(chosen),
        model=ModelCard(
            name="tiny", classes=CLASSES, preprocessing=Preprocessing(height=HEIGHT, width=WIDTH)
        ),
        spec=None,
        weights=WeightsInfo(source="none", sha256="", naming="edgese", trained=False),
        options=TargetOptions(),
        interface=Interface(input=picture, output=logits),
        operators=OperatorReport(operators={}, delegate="xnnpack", partitions=1),
        parity=Parity(verdict="not_run"),
        program_sha256="",
        toolchain={},
        edgese="0",
        created="2026-01-01T00:00:00+00:00",
    )
    manifest_path(artifact).write_text(sealed(manifest).to_json(), encoding="utf-8")
    return artifact


@cache
def models():
    """The bytes of an integer network with a gate: with floats at its ends, and with codes."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("flatbuffers")
    from torch import nn
    from torch.nn import functional as F

    from edgese.quantization.ptq import quantized
    from edgese.targets.tflite import quantized as tflquantized

    class Gated(nn.Module):
        """A convolution, squeeze-and-excitation on it, and a classifier."""

        def __init__(self):
            super().__init__()
            self.stem = nn.Conv2d(3, 16, 3, stride=2, padding=1)
            self.reduce = nn.Conv2d(16, 4, 1)
            self.expand = nn.Conv2d(4, 16, 1)
            self.head = nn.Linear(16, CLASSES)

        def forward(self, x):
            """(N, 3, H, W) to (N, classes)."""
            x = torch.relu(self.stem(x))
            gate = torch.relu(self.reduce(F.adaptive_avg_pool2d(x, 1)))
            x = x * torch.sigmoid(self.expand(gate))
            return self.head(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1))

    torch.manual_seed(0)
    exported = torch.export.export(Gated().eval(), (torch.zeros(1, 3, HEIGHT, WIDTH),))
    pictures = torch.randn(16, 3, HEIGHT, WIDTH).numpy()
    program = quantized(exported, recipe("int8-minmax"), pictures).program
    return {
        io: tflquantized.model(program, "logits", io_codes=io == "int8") for io in ("float", "int8")
    }


@pytest.fixture
def artifact(tmp_path):
    """Writes the network with floats or codes at its ends, and gives its path."""

    def written(io="float") -> Path:
        path = tmp_path / f"tiny-{io}.tflite"
        path.write_bytes(models()[io])
        return described(path)

    return written


@pytest.fixture
def anything(tmp_path):
    """A file that is no network at all."""
    path = tmp_path / "any.tflite"
    path.write_bytes(b"no network")
    return path


@needs_vela
@pytest.mark.parametrize("name", NPUS)
def test_every_npu_of_the_catalogue_is_a_configuration_that_vela_takes(name, artifact):
    facts = device_facts(name)
    found = vela.estimated(artifact(), facts)
    assert found.source == "estimated"
    assert found.device == name
    assert found.accelerator == facts.vela.accelerator.replace("-", "_").replace(
        "ethos_u", "Ethos_U"
    )
    assert (found.system, found.memory_mode) == (facts.vela.system, facts.vela.memory_mode)
    assert found.latency_ms == pytest.approx(found.cycles / found.clock_mhz / 1e3, rel=1e-3)
    assert 0 < found.compute_cycles <= found.cycles
    # The convolutions and the classifier; gates and poolings come on top.
    assert found.macs >= (HEIGHT // 2) * (WIDTH // 2) * 16 * 27 + 2 * 16 * 4 + 16 * CLASSES
    assert found.sram_bytes > 0
    assert (found.resolution, found.trained) == ((HEIGHT, WIDTH), False)
    assert found.compiler.startswith("ethos-u-vela ")


@needs_vela
def test_floats_at_the_ends_are_left_to_the_processor_and_codes_are_not(artifact):
    facts = device_facts("ethos-u55-128")
    floats = vela.estimated(artifact("float"), facts)
    assert floats.cpu_operators == 2
    assert {each.operator for each in floats.fallbacks} == {"QUANTIZE", "DEQUANTIZE"}
    assert all(each.reason for each in floats.fallbacks)
    on = [each.processor for each in floats.operators]
    assert (on.count("cpu"), on[0], on[-1]) == (2, "cpu", "cpu")

    inside = vela.estimated(artifact("int8"), facts)
    assert (inside.cpu_operators, inside.fallbacks) == (0, ())
    assert inside.npu_operators == floats.npu_operators
    assert sum(each.macs for each in inside.operators) == inside.macs == floats.macs


@needs_vela
def test_an_estimate_repeats_and_changes_nothing(artifact, tmp_path):
    path, facts = artifact(), device_facts("ethos-u65-256")
    before = {each.name: each.read_bytes() for each in tmp_path.iterdir()}
    one, two = (msgspec.structs.replace(vela.estimated(path, facts), created="") for _ in range(2))
    assert one == two
    assert {each.name: each.read_bytes() for each in tmp_path.iterdir()} == before


@needs_vela
def test_more_arithmetic_units_take_less_time(artifact):
    path = artifact("int8")
    cycles = [
        vela.estimated(path, device_facts(f"ethos-u55-{units}")).cycles for units in (32, 64, 128)
    ]
    assert cycles == sorted(cycles, reverse=True)
    assert len(set(cycles)) == 3


@needs_vela
def test_a_configuration_that_vela_does_not_have_is_told(artifact):
    facts = msgspec.structs.replace(
        device_facts("ethos-u55-128"),
        vela=VelaConfiguration(
            accelerator="ethos-u55-128", system="Nowhere", memory_mode="Shared_Sram"
        ),
    )
    with pytest.raises(DeviceError, match="Nowhere"):
        vela.estimated(artifact(), facts)


@needs_vela
def test_a_configuration_of_ones_own_is_taken_by_its_path(artifact, tmp_path):
    own = tmp_path / "board.ini"
    own.write_text(
        "[System_Config.Slow]\ncore_clock=100e6\naxi0_port=Sram\naxi1_port=OffChipFlash\n"
        "Sram_clock_scale=1.0\nOffChipFlash_clock_scale=0.125\n"
        "[Memory_Mode.Mine]\nconst_mem_area=Axi1\narena_mem_area=Axi0\ncache_mem_area=Axi0\n"
    )
    facts = msgspec.structs.replace(
        device_facts("ethos-u55-128"),
        vela=VelaConfiguration(
            accelerator="ethos-u55-128", system="Slow", memory_mode="Mine", file=str(own)
        ),
    )
    found = vela.estimated(artifact(), facts)
    assert (found.system, found.memory_mode, found.clock_mhz) == ("Slow", "Mine", 100.0)


@needs_vela
def test_a_file_that_velas_native_code_dies_of_ends_in_an_error(anything):
    with pytest.raises(DeviceError, match=r"Vela .*ended"):
        vela.estimated(described(anything), device_facts("ethos-u55-128"))


@needs_vela
def test_the_listed_operators_are_those_of_velas_own_report(tmp_path):
    import re
    import subprocess
    import sys

    words = [sys.executable, "-P", "-m", "ethosu.vela", "--supported-ops-report"]
    subprocess.run(words, cwd=tmp_path, check=True, capture_output=True, timeout=120)
    report = (tmp_path / "SUPPORTED_OPS.md").read_text(encoding="utf-8")
    table = report.split("## Ethos-U55 and Ethos-U65 TFLite Summary Table")[1].split("\n## ")[0]
    listed = {each.name: each for each in target_facts("tflite").coverage}["ethos-u"].operators
    assert set(listed) == set(re.findall(r"^\| ([A-Z0-9_]+) \|", table, re.MULTILINE))


@pytest.mark.parametrize(
    ("device", "fields", "says"),
    [
        ("pixel8", {}, "pixel8 is no Ethos-U"),
        ("ethos-u55-128", {"target": "onnxruntime"}, "artifact for onnxruntime"),
        ("ethos-u55-128", {"chosen": "fp32"}, "computes in int8, and .* is fp32"),
        ("ethos-u55-128", {"chosen": "int8-weights"}, "is int8_weights"),
    ],
)
def test_what_has_no_estimate_is_refused_before_vela_is_asked(device, fields, says, anything):
    with pytest.raises(ConfigError, match=says) as told:
        vela.estimated(described(anything, **fields), device_facts(device))
    assert told.value.hint


def test_without_vela_it_is_told_how_to_install_it(anything, monkeypatch):
    monkeypatch.setattr(vela, "find_spec", lambda _: None)
    with pytest.raises(MissingDependency, match="not installed") as told:
        vela.estimated(described(anything), device_facts("ethos-u55-128"))
    assert told.value.hint == "pip install 'edgese[vela]'"


def test_an_artifact_without_its_manifest_or_with_anothers_is_refused(anything):
    facts = device_facts("ethos-u55-128")
    with pytest.raises(InputError):
        vela.estimated(anything, facts)
    described(anything).write_bytes(b"another")
    with pytest.raises(StoreError):
        vela.estimated(anything, facts)

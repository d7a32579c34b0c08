"""Real runtimes for ARM on emulated processors: what is counted, chosen, and refused."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest

from edgese import store
from edgese.catalog import target_names
from edgese.devices.emulator import counter
from edgese.devices.emulator.symbols import Functions
from edgese.devices.qemu import RUNTIMES, Emulated
from edgese.devices.sysroot import bundle
from edgese.errors import DeviceError, MissingDependency
from edgese.measure import emulation
from edgese.measure.emulation import emulated
from edgese.measure.job import RUNNER, launches_of, measuring_job, parsed, subjects_of
from edgese.records.measurement import Job, MeasurePlan
from edgese.seals import sealed

pytestmark = pytest.mark.usefixtures("sysroot")

TINY = """
name = "tiny"
family = "mine"
classes = 4
activation = "silu"

[stem]
channels = [8]

[[stages]]
block = "mbconv"
channels = 16
depth = 2
expansion = 4
se = { reduction = 4 }

[preprocessing]
height = 64
width = 64
"""
MACS = 3_989_824
# Two marked calls of a loop, with another loop that is not marked between them.
LOOPS = """
import ctypes, sys
mark = ctypes.CDLL(None).syscall
def loop(rounds):
    mark(0x5E5E, 1)
    sum(range(rounds))
    mark(0x5E5E, 2)
loop(1000)
loop(1000)
sum(range(int(sys.argv[1])))
loop(1000)
"""


@pytest.fixture(scope="session")
def artifacts(tmp_path_factory):
    """A tiny network in int8 for two runtimes."""
    pytest.importorskip("torch")
    pytest.importorskip("ai_edge_litert")
    pytest.importorskip("onnx")
    from edgese.conversion.api import convert

    folder = tmp_path_factory.mktemp("artifacts")
    (folder / "tiny.toml").write_text(TINY, encoding="utf-8")
    rows = convert(
        str(folder / "tiny.toml"),
        ["tflite", "onnxruntime"],
        recipe="int8",
        weights="none",
        data="embedded",
        out=folder,
    )
    return SimpleNamespace(**{row.target: Path(row.artifact) for row in rows})


@pytest.fixture(scope="session")
def on_a76(artifacts):
    (found,) = emulated([artifacts.tflite], "arm64-a76", runs=2)
    return found


def test_one_inference_takes_the_same_instructions_in_every_process(on_a76):
    assert [len(process) for process in on_a76.totals] == [2, 2, 2]
    every = [total for process in on_a76.totals for total in process]
    assert max(every) - min(every) < 0.001 * min(every)
    assert on_a76.spread < 0.001
    assert on_a76.source == "emulated"


def test_the_instructions_that_multiply_make_the_networks_products(on_a76):
    found = on_a76.instructions
    products = 16 * found.int8_dot + 8 * found.integer_multiply_add
    assert on_a76.macs == MACS
    assert MACS < products < 1.3 * MACS


def test_importing_and_loading_is_not_counted(on_a76):
    # Importing numpy alone takes some hundred million.
    assert on_a76.instructions.total < MACS
    assert 0 < on_a76.overhead < 10_000


def test_xnnpacks_kernels_are_named(on_a76):
    most = on_a76.kernels[0]
    assert most.name.startswith("xnn_qs8_qc8w_")
    assert sum(kernel.share for kernel in on_a76.kernels if "xnn_" in kernel.name) > 0.9
    (gemm,) = [k for k in on_a76.kernels if "_gemm_" in k.name and k.share > 0.1]
    assert "neondot" in gemm.name
    assert gemm.by == "dot product"
    assert on_a76.cautions == ()


def test_each_processor_gets_the_kernels_that_are_made_for_it(artifacts, on_a76):
    (a53,), (a710,) = (
        emulated([artifacts.tflite], name, runs=1, launches=1)
        for name in ("arm64-a53", "arm64-a710")
    )
    assert a53.dispatch == ("integer multiply-add",)
    assert on_a76.dispatch[0] == "dot product"
    assert a710.dispatch[0] == "i8mm"
    assert a53.instructions.int8_dot == a53.instructions.int8_matrix == 0
    assert on_a76.instructions.int8_matrix == 0 < a710.instructions.int8_matrix
    assert a53.instructions.total > 1.3 * on_a76.instructions.total
    # The features alone do not choose this one: the core's identity does.
    assert any("cortex_a53" in kernel.name for kernel in a53.kernels)


def test_onnx_runtime_is_counted_too(artifacts):
    (found,) = emulated([artifacts.onnxruntime], "arm64-a76", runs=3, launches=1)
    assert found.versions["onnxruntime"] == "1.31.0"
    assert found.dispatch[0] == "dot product"
    # In so small a network one wait of a thread on a busy machine is more than a thousandth.
    assert found.spread < 0.004
    # Its library has no names; functions are told apart all the same.
    assert any("+0x" in kernel.name and kernel.share > 0.1 for kernel in found.kernels)


def test_a_graph_without_its_delegate_is_unmistakable(artifacts, on_a76, tmp_path, monkeypatch):
    text = RUNNER.read_text(encoding="utf-8")
    call = 'Interpreter(artifact["path"], '
    assert call in text
    runner = tmp_path / "runner.py"
    runner.write_text(
        text.replace(
            call, f"{call}experimental_op_resolver_type=OpResolverType.BUILTIN_REF, "
        ).replace("import Interpreter", "import Interpreter, OpResolverType"),
        encoding="utf-8",
    )
    monkeypatch.setattr(emulation, "RUNNER", runner)
    (found,) = emulated([artifacts.tflite], "arm64-a76", runs=1, launches=1)
    assert {caution.code for caution in found.cautions} == {
        "NO_DOT_PRODUCT",
        "MANY_INSTRUCTIONS",
        "OUTSIDE_XNNPACK",
    }
    assert found.instructions.total > 10 * on_a76.instructions.total
    assert found.kernels[0].name.startswith("tflite::reference_")


def loops(place, between):
    setting = {"QEMU_PLUGIN": f"{counter.library()},out=counts.jsonl"}
    job = Job(argv=("{python}", "-c", LOOPS, str(between)), pull=("counts.jsonl",))
    outcome = place.run(job, lambda _: None, setting)
    assert outcome.returncode == 0, outcome.stderr
    return [one.counts.total for one in counter.parsed(outcome.files["counts.jsonl"])]


def test_what_stands_between_marks_is_not_counted():
    place = Emulated("arm64-a53")
    few, many = loops(place, 10), loops(place, 300_000)
    assert len(few) == len(many) == 3
    # 300,000 rounds take tens of millions.
    assert many[2] < 2 * many[1]
    assert many[1] == pytest.approx(few[1], rel=0.05)


def test_the_runner_measures_on_the_emulator_from_end_to_end(artifacts):
    place = Emulated("arm64-a76")
    plan = MeasurePlan(
        threads=1, launches=1, blocks=2, min_runs=2, min_time_s=0, warmup_runs=1, warmup_time_s=0
    )
    heard = []
    subjects = subjects_of([artifacts.tflite])
    outcome = place.run(measuring_job(subjects, plan, RUNNER.read_bytes()), heard.append)
    (artifact,) = parsed(outcome, plan, 1, "arm64-a76").artifacts
    assert artifact.failure is None
    (launch,) = launches_of(artifact, "arm64-a76")
    assert launch.versions["ai-edge-litert"] == "2.3.0"
    assert json.loads(heard[0])["stage"].startswith("launch 1 of 1")


def test_an_artifact_that_cannot_be_loaded_is_a_device_error(artifacts, tmp_path):
    broken = tmp_path / "broken.tflite"
    broken.write_bytes(b"no model at all")
    other = {"artifact": broken.name, "sha256": store.sha256_of(broken), "size_bytes": 15}
    manifest = msgspec.structs.replace(store.read_manifest(artifacts.tflite), **other)
    store.write_record(sealed(manifest), store.manifest_path(broken))
    with pytest.raises(DeviceError, match="arm64-a76 ended with code 1: ValueError"):
        emulated([broken], "arm64-a76")


def test_what_python_starts_is_emulated_too_and_sees_the_processor(sysroot):
    place = Emulated("arm64-a710")
    script = (
        "import subprocess, sys\n"
        "line = 'import platform; print(platform.machine(), open(\"/proc/cpuinfo\").read())'\n"
        "subprocess.run([sys.executable, '-c', line], check=True)"
    )
    said = place.run(Job(argv=("{python}", "-c", script)), lambda _: None).stdout
    assert said.startswith("aarch64 ")
    assert said.count("CPU part\t: 0xd47") == 4
    assert "i8mm" in said
    assert place.info().architecture == "aarch64"
    assert not list(sysroot.root.rglob("__pycache__"))


def test_core_ml_is_refused_and_executorch_names_its_set_up(monkeypatch):
    place = Emulated("arm64-a76")
    for target in ("tflite", "onnxruntime"):
        place.check(target)
    with pytest.raises(DeviceError, match="no runtime of coreml"):
        place.check("coreml")
    monkeypatch.setattr(place, "versions", {"numpy": "2.4.6"})
    with pytest.raises(MissingDependency) as caught:
        place.check("executorch")
    assert caught.value.hint == "edgese emulator setup --executorch"


def test_every_target_but_apples_has_a_runtime_for_arm():
    assert set(RUNTIMES) == set(target_names()) - {"coreml"}


def command(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "edgese", "emulator", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_doctor_finds_a_flipped_byte_and_set_up_mends_it(sysroot, tmp_path, monkeypatch):
    # A copy, so that nobody else meets the damage; without ExecuTorch, which is large.
    leave_out = shutil.ignore_patterns("executorch*")
    shutil.copytree(bundle.folder(), tmp_path / "sysroot-arm64", symlinks=True, ignore=leave_out)
    monkeypatch.setenv("EDGESE_CACHE_DIR", str(tmp_path))
    assert bundle.faults() == []
    library = tmp_path / "sysroot-arm64/root" / sysroot.libraries[0] / "libz.so.1"
    content = bytearray(library.read_bytes())
    content[1000] ^= 1
    library.write_bytes(content)
    sick = command("doctor", "--json")
    assert sick.returncode == 3
    (part,) = [p for p in json.loads(sick.stdout)["parts"] if p["name"] == "sysroot"]
    assert part["status"] == "broken"
    assert part["error"].startswith("lib/aarch64-linux-gnu/libz.so.1.2.13 was changed")
    assert part["remedy"] == "edgese emulator setup"
    mended = command("setup", "--json")
    assert mended.returncode == 0
    assert json.loads(mended.stdout)["digest"]
    assert bundle.faults() == []


def test_functions_are_found_with_and_without_names(tmp_path):
    source, whole = tmp_path / "two.c", tmp_path / "two.so"
    source.write_text(
        "static __attribute__((noinline)) int first(int x) { return x * 3 + 1; }\n"
        "int second(int x) { return first(x) - 7; }\n"
    )
    build = [
        shutil.which("cc"),
        "-shared",
        "-fPIC",
        "-O1",
        "-fasynchronous-unwind-tables",
        "-o",
        whole,
        source,
    ]
    subprocess.run(build, check=True)
    stripped = tmp_path / "stripped.so"
    subprocess.run([shutil.which("strip"), "-o", stripped, whole], check=True)
    named = subprocess.run(
        [shutil.which("nm"), whole], capture_output=True, text=True, check=True
    ).stdout
    address = {
        line.split()[-1]: int(line.split()[0], 16) for line in named.splitlines() if line[0] == "0"
    }
    # Code lies in such small files where it is in memory.
    found, nameless = Functions(whole.read_bytes()), Functions(stripped.read_bytes())
    assert [found.at(address[name]) for name in ("first", "second")] == ["first", "second"]
    assert nameless.at(address["first"]) == f"+{address['first']:#x}"
    assert nameless.at(address["second"] + 1) == "second"

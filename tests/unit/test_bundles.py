"""Bundles and what comes home from them: what is packed, and what is refused."""

import ast
import base64
import hashlib
import json
import sys
import zipfile
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgese import project
from edgese.devices import sysfs, sysroot
from edgese.errors import (
    ConfigError,
    DeviceError,
    InputError,
    MissingDependency,
    StoreError,
)
from edgese.measure.bundles import driver, import_results, importing, make_bundle, packing
from edgese.measure.bundles.importing import contents_of, read_results
from edgese.records.profile import BundleContents
from edgese.store import sha256_of

DATA = Path(__file__).parents[1] / "data" / "measure"
STDOUT = (DATA / "stdout.txt").read_text(encoding="utf-8")
RESULT = (DATA / "result.json").read_bytes()
# What the recorded result was measured with.
PLAN = {"threads": 2, "launches": 4, "blocks": 8, "min_runs": 16}
PI = "Raspberry Pi 5 Model B Rev 1.0"
STATE = f"""
{sysfs.HEADING}model
{PI}\0
{sysfs.HEADING}zones
48250 cpu-thermal
{sysfs.HEADING}cores
0 1 2400000 1500000 ondemand
1 1 2400000 1500000 ondemand
2 1 2400000 1500000 ondemand
3 1 2400000 1500000 ondemand
{sysfs.HEADING}machine
aarch64
{sysfs.HEADING}system
Linux 6.6.31
{sysfs.HEADING}memory
MemTotal:        8245600 kB
{sysfs.HEADING}load
0.15 0.10 0.05 1/200 1234
"""
HOT = STATE.replace("48250", "71250")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGESE_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def artifact(tmp_path, described):
    path = tmp_path / "tiny.onnx"
    path.write_bytes(b"a network " * 40)
    return described(path)


@pytest.fixture
def bundle(artifact, tmp_path):
    """A bundle of four artifacts, as many as the recorded result has."""
    return make_bundle([artifact] * 4, device="rpi5", out=tmp_path / "pi.pyz", **PLAN)


def results_of(bundle, **fields):
    """What the driver leaves, with the recorded result in it."""
    text = contents_of(bundle.path)
    return {
        "schema": driver.RESULTS_SCHEMA,
        "bundle": hashlib.sha256(text).hexdigest(),
        "ran": bundle.contents.files,
        "answers": {"/proc/device-tree/model": PI},
        "before": STATE,
        "after": STATE,
        "pinned": [0, 1, 2, 3],
        "pinning": "",
        "python": "3.11.2 (/usr/bin/python3)",
        "started": "2026-03-01T10:00:00+00:00",
        "ended": "2026-03-01T10:05:00+00:00",
        "outcome": {
            "returncode": 0,
            "stdout": STDOUT,
            "stderr": "",
            "files": {"result.json": base64.b64encode(RESULT).decode()},
        },
    } | fields


@pytest.fixture
def home(bundle, tmp_path):
    """Writes a results file and gives its path; what is in it can be made another."""

    def write(name="pi.pyz.results.jsonl", **fields):
        path = tmp_path / "home" / name
        path.parent.mkdir(exist_ok=True)
        driver.written(results_of(bundle, **fields), path)
        return path

    return write


def test_results_become_the_profiles_that_were_measured(home, bundle, artifact):
    result = import_results(home(), bundle.path)
    assert [one.latency.count for one in result.profiles] == [16, 16, 16]
    assert [one.label for one in result.profiles] == [
        str(artifact),
        f"{artifact} (2)",
        f"{artifact} (3)",
    ]
    one = result.profiles[0]
    assert (one.source, one.sha256, one.threads) == ("measured", sha256_of(artifact), 2)
    assert (one.device.name, one.device.cpu, one.device.cores) == ("rpi5", "Broadcom BCM2712", 4)
    assert (one.device.system, one.device.governor) == ("Linux 6.6.31", "ondemand")
    assert [ratio.baseline for ratio in result.ratios] == [str(artifact)] * 2
    assert len(result.failures) == 1
    assert result.device == "rpi5"
    assert result.created == "2026-03-01T10:05:00+00:00"
    assert result.before.temperatures_c == {"cpu-thermal": 48.25}
    assert result.before.model == PI
    assert result.before.taken == "2026-03-01T10:00:00+00:00"
    assert result.after.pinned == (0, 1, 2, 3)
    assert "Measured elsewhere" in result.notes[0]
    assert len(result.notes) == 1


def test_every_sample_comes_home(home, bundle):
    runs = json.loads(RESULT)["artifacts"]
    result = import_results(home(), bundle.path)
    for one, run in zip(result.profiles, runs, strict=False):
        told = [tuple(b["samples_ns"]) for launch in run["launches"] for b in launch["blocks"]]
        assert [b.samples_ns for launch in one.launches for b in launch.blocks] == told


def test_a_device_that_was_warm_is_told(home, bundle):
    result = import_results(home(before=HOT), bundle.path)
    assert "its cpu-thermal has 71.25 °C, not below 60 °C" in result.notes[1]


def test_a_bundle_that_was_made_here_need_not_be_at_hand(home, bundle):
    path = home()
    bundle.path.unlink()
    assert len(import_results(path).profiles) == 3


def test_a_bundle_beside_its_results_is_found(home, bundle, cache):
    path = home()
    bundle.path.rename(path.with_name("pi.pyz"))
    for kept in (cache / "bundles").iterdir():
        kept.unlink()
    assert len(import_results(path).profiles) == 3


def test_without_the_bundle_nothing_is_believed(home, bundle, cache):
    path = home()
    bundle.path.unlink()
    for kept in (cache / "bundles").iterdir():
        kept.unlink()
    with pytest.raises(InputError, match="was not made here"):
        import_results(path)


def test_results_of_another_bundle_are_refused(home, bundle, artifact, tmp_path):
    other = make_bundle([artifact], device="rpi5", out=tmp_path / "other.pyz", threads=1)
    assert bundle.contents.plan != other.contents.plan
    with pytest.raises(StoreError, match="but of another bundle"):
        import_results(home(), other.path)


@pytest.mark.parametrize("name", ["runner.py", "plan.json", "artifact0.onnx"])
def test_what_was_measured_with_another_file_is_refused(home, bundle, name):
    ran = bundle.contents.files | {name: "0" * 64}
    with pytest.raises(StoreError, match=f"{name} is another"):
        import_results(home(ran=ran), bundle.path)


def test_what_was_measured_with_more_or_fewer_files_is_refused(home, bundle):
    files = bundle.contents.files
    with pytest.raises(StoreError, match="more is another"):
        import_results(home(ran=files | {"more": "0" * 64}), bundle.path)
    fewer = {name: value for name, value in files.items() if name != "runner.py"}
    with pytest.raises(StoreError, match=r"runner\.py is another"):
        import_results(home(ran=fewer), bundle.path)


@pytest.mark.parametrize(
    "answers", [{"/proc/device-tree/model": "Raspberry Pi 4 Model B Rev 1.4"}, {}]
)
def test_results_of_another_device_are_a_device_error(home, bundle, answers):
    with pytest.raises(DeviceError, match="was not measured on Raspberry Pi 5"):
        import_results(home(answers=answers), bundle.path)


def test_a_measurement_that_is_not_whole_is_a_device_error(home, bundle):
    whole = results_of(bundle)["outcome"]
    for outcome, says in (
        (whole | {"returncode": 3}, "ended with code 3"),
        (whole | {"stdout": ""}, "without its end mark"),
        (whole | {"files": {}}, "did not come back"),
    ):
        with pytest.raises(DeviceError, match=says):
            import_results(home(outcome=outcome), bundle.path)


@pytest.mark.parametrize(("schema", "says"), [(0, "an older"), (99, "a newer")])
def test_another_schema_is_a_store_error(home, bundle, schema, says):
    with pytest.raises(StoreError, match=f"from {says} edgese"):
        import_results(home(schema=schema), bundle.path)


@pytest.mark.parametrize(
    "fields",
    [{"surprise": 1}, {"outcome": 3}, {"ran": None}, {"started": "soon"}],
    ids=["unknown key", "wrong type", "null", "no date"],
)
def test_a_whole_file_that_is_no_results_is_an_input_error(home, bundle, fields):
    with pytest.raises(InputError):
        import_results(home(**fields), bundle.path)


def test_states_that_make_no_sense_are_no_crash(home, bundle):
    text = STATE.replace("0.15 0.10", "- -").replace("MemTotal:", "MemTotal: none")
    result = import_results(home(before=text, after=""), bundle.path)
    assert result.profiles[0].device.load_average is None
    assert result.profiles[0].device.memory_mb is None


def test_no_file_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        import_results(tmp_path / "none")


def small():
    """A results file, small enough for many tries."""
    fields = {
        "schema": 1,
        "bundle": "b",
        "ran": {"runner.py": "0a"},
        "answers": {},
        "before": "",
        "after": "",
        "pinned": [],
        "pinning": "no",
        "python": "3.11",
        "started": "",
        "ended": "",
        "outcome": {"returncode": 0, "stdout": "x", "stderr": "", "files": {"r": "YQ=="}},
    }
    line = json.dumps(fields).encode() + b"\n"
    return line + json.dumps({"end": hashlib.sha256(line).hexdigest()}).encode() + b"\n"


SMALL = small()


def test_the_small_file_is_one():
    assert read_results(SMALL, Path("x")).outcome.files == {"r": b"a"}


@settings(max_examples=400, deadline=None)
@given(at=st.integers(0, len(SMALL) - 1), flip=st.integers(1, 255))
def test_a_file_with_any_byte_flipped_is_refused(at, flip):
    content = bytearray(SMALL)
    content[at] ^= flip
    with pytest.raises((InputError, StoreError)):
        read_results(bytes(content), Path("x"))


def test_a_file_cut_off_anywhere_is_refused():
    for size in range(len(SMALL)):
        with pytest.raises(InputError):
            read_results(SMALL[:size], Path("x"))


@settings(max_examples=200, deadline=None)
@given(at=st.integers(0, len(SMALL)), more=st.binary(min_size=1, max_size=20))
def test_a_file_with_anything_put_in_is_refused(at, more):
    with pytest.raises((InputError, StoreError)):
        read_results(SMALL[:at] + more + SMALL[at:], Path("x"))


@settings(max_examples=200, deadline=None)
@given(content=st.binary(max_size=200))
def test_no_other_file_is_taken_for_results(content):
    with pytest.raises((InputError, StoreError)):
        read_results(content, Path("x"))


def test_a_bundle_that_was_changed_is_no_witness(home, bundle, tmp_path):
    changed = tmp_path / "changed.pyz"
    with zipfile.ZipFile(bundle.path) as old, zipfile.ZipFile(changed, "w") as new:
        for name in old.namelist():
            new.writestr(name, b"x" if name.endswith("artifact0.onnx") else old.read(name))
    with pytest.raises(StoreError, match=r"artifact0\.onnx in .* is not what was packed"):
        import_results(home(), changed)


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/b", "..", ".", "", "a\0b", "a\\b"])
def test_a_driver_takes_names_of_files_in_its_own_folder_alone(bundle, tmp_path, name):
    with (
        zipfile.ZipFile(bundle.path) as archive,
        pytest.raises(driver.Refused, match="lies elsewhere"),
    ):
        driver.measured(archive, {"files": {name: "0"}}, tmp_path / "out", cool=False)
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("name", ["contents.json", "files/runner.py"])
def test_a_bundle_that_would_fill_the_memory_is_refused(home, bundle, tmp_path, name, monkeypatch):
    monkeypatch.setattr(importing, "JSON_BYTES", 2**22)
    bomb = tmp_path / "bomb.pyz"
    with (
        zipfile.ZipFile(bundle.path) as old,
        zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for info in old.infolist():
            content = bytes(2**26) if info.filename == name else old.read(info)
            new.writestr(info.filename, content)
    with pytest.raises(InputError, match=r"more than 4 MiB|made to exhaust"):
        import_results(home(), bomb)


def test_a_bundle_that_is_cut_off_is_an_input_error(bundle, tmp_path):
    content = bundle.path.read_bytes()
    path = tmp_path / "cut.pyz"
    for size in range(0, len(content), 211):
        path.write_bytes(content[:size])
        with pytest.raises(InputError, match="no whole bundle"):
            contents_of(path)


def test_a_bundle_with_a_flipped_byte_is_read_as_it_was_or_refused(bundle, tmp_path):
    content = bundle.path.read_bytes()
    path = tmp_path / "flipped.pyz"
    told = contents_of(bundle.path)
    refused = 0
    # Its list of files stands at the end, where every byte means something.
    places = [*range(0, len(content), 499), *range(len(content) - 1200, len(content), 7)]
    for number, at in enumerate(places):
        flipped = bytearray(content)
        flipped[at] ^= 1 << number % 8
        path.write_bytes(flipped)
        try:
            assert contents_of(path) == told
        except (InputError, StoreError):
            refused += 1
    assert refused > len(places) / 4


def test_what_is_packed_needs_nothing_but_python():
    packed = {name.removesuffix(".py").replace("/", ".") for name in packing.MODULES}
    for path in (Path(driver.__file__), *packing.MODULES.values()):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                module = node.module or ""
                names = [
                    f"{module}.{alias.name}" if f"{module}.{alias.name}" in packed else module
                    for alias in node.names
                ]
            for name in names:
                assert name in packed or name.split(".")[0] in sys.stdlib_module_names, name


def test_an_older_python_can_read_the_driver_and_is_told_that_it_is_too_old(monkeypatch):
    text = Path(driver.__file__).read_text(encoding="utf-8")
    ast.parse(text, feature_version=(3, 8))
    monkeypatch.setattr("sys.version_info", (3, 10, 0))
    with pytest.raises(driver.Refused, match="or later is needed"):
        driver.check_python()


def test_a_bundle_says_what_is_in_it_and_how_it_is_run(bundle, artifact):
    contents = BundleContents.from_json(contents_of(bundle.path), bundle.path)
    assert contents == bundle.contents
    assert contents.files["artifact0.onnx"] == sha256_of(artifact)
    assert contents.runtimes == {"onnxruntime": "ONNX Runtime"}
    assert bundle.commands == ("python3 pi.pyz",)
    assert bundle.results == "pi.pyz.results.jsonl"
    with zipfile.ZipFile(bundle.path) as packed:
        assert packed.testzip() is None
        assert packed.read("files/artifact3.onnx") == artifact.read_bytes()


def test_threads_are_those_of_the_fast_cores(artifact, tmp_path):
    packed = make_bundle([artifact], device="rpi5", out=tmp_path / "x.pyz")
    assert packed.contents.plan.threads == 4
    with pytest.raises(ConfigError, match="5 threads were asked for; rpi5 has 4 cores"):
        make_bundle([artifact], device="rpi5", out=tmp_path / "x.pyz", threads=5)


@pytest.mark.parametrize(
    ("device", "says"),
    [
        ("host", "takes no bundles"),
        ("arm64-a76", "takes no bundles"),
        ("iphone15", "takes no bundles"),
        ("ethos-u55-128", "takes no bundles"),
        ("pixel8", "has no Python"),
        ("pixle8", "There is no device"),
    ],
)
def test_a_device_that_takes_no_bundle_is_refused(artifact, tmp_path, device, says):
    with pytest.raises(ConfigError, match=says):
        make_bundle([artifact], device=device, out=tmp_path / "x.pyz")
    assert not (tmp_path / "x.pyz").exists()


def test_no_artifact_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="No artifact"):
        make_bundle([], device="rpi5", out=tmp_path / "x.pyz")


def test_an_artifact_that_does_not_run_there_is_refused(tmp_path, described):
    path = tmp_path / "tiny.mlpackage"
    path.write_bytes(b"x")
    with pytest.raises(DeviceError, match="Core ML does not run on Raspberry Pi 5"):
        make_bundle([described(path, target="coreml")], device="rpi5", out=tmp_path / "x.pyz")


def test_an_artifact_that_was_changed_is_refused(artifact, tmp_path):
    artifact.write_bytes(b"another")
    with pytest.raises(StoreError, match="not what its manifest describes"):
        make_bundle([artifact], device="rpi5", out=tmp_path / "x.pyz")


def test_a_device_of_ones_own_needs_something_to_be_recognised_by(artifact, tmp_path, monkeypatch):
    folder = tmp_path / "mine/targets/devices"
    folder.mkdir(parents=True)
    (tmp_path / "mine/edgese.toml").write_text("", encoding="utf-8")
    (folder / "box.toml").write_text(
        'name = "box"\ntitle = "My box"\nkind = "linux"\ntransport = "ssh"\n'
        '[delegates]\nonnxruntime = ["cpu"]\n',
        encoding="utf-8",
    )
    monkeypatch.chdir(tmp_path / "mine")
    project.root.cache_clear()
    try:
        with pytest.raises(ConfigError, match="nothing by which it is recognised"):
            make_bundle([artifact], device="box", out=tmp_path / "x.pyz")
    finally:
        monkeypatch.undo()
        project.root.cache_clear()


@pytest.fixture
def interpreter(tmp_path, monkeypatch):
    """A sysroot of three small files."""
    root = tmp_path / "root"
    for name in (
        "lib/ld-linux-aarch64.so.1",
        "usr/bin/python3.11",
        "opt/site/onnxruntime/__init__.py",
        "opt/executorch/executorch/__init__.py",
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"content of " + name.encode())
    made = sysroot.Sysroot(
        root=root,
        python="usr/bin/python3.11",
        loader="lib/ld-linux-aarch64.so.1",
        home="usr",
        libraries=("lib",),
        site=("opt/site", "opt/executorch"),
        versions={},
        digest="0" * 64,
    )
    monkeypatch.setattr(sysroot, "required", lambda: made)
    return made


def test_a_bundle_for_a_phone_brings_its_interpreter_and_says_how_adb_runs_it(
    artifact, tmp_path, interpreter
):
    packed = make_bundle([artifact], device="pixel8", out=tmp_path / "pixel 8.sh", with_python=True)
    content = packed.path.read_bytes()
    assert content.startswith(b"#!/bin/sh\n")
    assert b"opt/site/onnxruntime" in content
    # It would be 800 MB for nothing.
    assert b"opt/executorch" not in content
    header = content[: packing.HEADER_BYTES]
    assert str(len(content)).encode() in header
    assert hashlib.sha256(content[packing.HEADER_BYTES :]).hexdigest().encode() in header
    assert b"@" not in header.replace(b'"$@"', b"")
    assert msgspec.structs.asdict(
        BundleContents.from_json(contents_of(packed.path), packed.path)
    ) == msgspec.structs.asdict(packed.contents)
    assert packed.commands == (
        "adb push 'pixel 8.sh' /data/local/tmp/",
        "adb shell sh /data/local/tmp/'pixel 8.sh'",
        "adb pull /data/local/tmp/'pixel 8.sh'.results.jsonl",
        "adb shell rm /data/local/tmp/'pixel 8.sh' /data/local/tmp/'pixel 8.sh'.results.jsonl",
    )
    del interpreter


def test_an_interpreter_without_the_runtime_is_told(tmp_path, interpreter, described):
    path = tmp_path / "tiny.tflite"
    path.write_bytes(b"x")
    with pytest.raises(MissingDependency, match=f"{interpreter.root} lacks TFLite's"):
        make_bundle(
            [described(path, target="tflite")],
            device="pixel8",
            out=tmp_path / "x.sh",
            with_python=True,
        )


def outcome_of(bundle, artifacts):
    """The recorded outcome with other artifacts in its result."""
    content = json.dumps(json.loads(RESULT) | {"artifacts": artifacts}).encode()
    end = json.dumps({"end": hashlib.sha256(content).hexdigest()})
    files = {"result.json": base64.b64encode(content).decode()}
    return results_of(bundle)["outcome"] | {"stdout": end, "files": files}


def test_without_the_baseline_there_is_no_ratio(home, bundle):
    runs = json.loads(RESULT)["artifacts"][::-1]
    runs = [run | {"id": str(number)} for number, run in enumerate(runs)]
    result = import_results(home(outcome=outcome_of(bundle, runs)), bundle.path)
    assert len(result.profiles) == 3
    assert result.ratios == ()


def test_where_nothing_could_be_measured_it_is_a_device_error(home, bundle):
    failed = json.loads(RESULT)["artifacts"][3]
    runs = [failed | {"id": str(number)} for number in range(4)]
    with pytest.raises(DeviceError, match="On rpi5 its process ended with code 1 during load"):
        import_results(home(outcome=outcome_of(bundle, runs)), bundle.path)

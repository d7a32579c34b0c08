"""Software GPUs: found, kept apart from the system's, and checked."""

import json
import subprocess
from shutil import which

import pytest

from edgese.__main__ import run
from edgese.devices import vulkan
from edgese.devices.sysroot import debian
from edgese.errors import ConfigError, MissingDependency
from edgese.records.device import SysrootManifest
from edgese.store import sha256_of, write_record


@pytest.fixture
def cache(monkeypatch, tmp_path):
    """Drivers as they are set up, with files that are none."""
    monkeypatch.setenv("EDGESE_CACHE_DIR", str(tmp_path))
    files = {}
    for name, library in (("swiftshader", "libvk_swiftshader.so"), ("lavapipe", "libx.so.1")):
        folder = vulkan.folder() / name
        folder.mkdir(parents=True)
        (folder / library).write_bytes(b"\x7fELF" + name.encode())
        files[f"{name}/{library}"] = sha256_of(folder / library)
        (vulkan.folder() / f"{name}.json").write_text("{}")
    manifest = SysrootManifest(
        key=vulkan.key(),
        digest="",
        versions={},
        packages={"chromium-common": "1", "mesa-vulkan-drivers": "2"},
        downloads={},
        files=files,
        created="",
    )
    write_record(manifest, vulkan.folder() / "vulkan.json")
    return vulkan.folder()


def test_a_driver_is_the_only_one_that_a_process_sees(cache):
    driver = vulkan.required("lavapipe")
    seen = driver.environment({"HOME": "/h", "LD_LIBRARY_PATH": "/mine"})
    assert seen["VK_ICD_FILENAMES"] == seen["VK_DRIVER_FILES"] == str(cache / "lavapipe.json")
    assert seen["LD_LIBRARY_PATH"] == f"{cache / 'lavapipe'}:/mine"
    assert seen["HOME"] == "/h"
    assert vulkan.required("system").environment({"HOME": "/h"}) == {"HOME": "/h"}


def test_a_changed_or_missing_file_is_told(cache):
    assert vulkan.faults() == []
    library = cache / "swiftshader/libvk_swiftshader.so"
    content = bytearray(library.read_bytes())
    content[-1] ^= 1
    library.write_bytes(content)
    (cache / "lavapipe/libx.so.1").unlink()
    assert vulkan.faults() == [
        "swiftshader/libvk_swiftshader.so was changed",
        "lavapipe/libx.so.1 is missing",
    ]


def test_drivers_of_another_making_are_not_taken(cache):
    text = json.loads((cache / "vulkan.json").read_text()) | {"key": "older"}
    (cache / "vulkan.json").write_text(json.dumps(text))
    assert vulkan.versions() == {}
    with pytest.raises(MissingDependency, match="no software GPUs") as caught:
        vulkan.faults()
    assert caught.value.hint == "edgese emulator setup --gpu-only"


def test_an_unknown_driver_is_refused_with_the_known_ones():
    with pytest.raises(ConfigError) as caught:
        vulkan.find("opengl")
    assert "swiftshader, lavapipe, system" in caught.value.hint


def test_the_gpus_alone_exclude_what_else_can_be_set_up(monkeypatch, capsys):
    monkeypatch.setattr(vulkan, "setup", lambda _: pytest.fail("nothing was to be fetched"))
    assert run(["emulator", "setup", "--gpu-only", "--guest"]) == 2
    assert "--gpu-only" in capsys.readouterr().err


def test_a_private_apt_asks_for_the_architecture_that_is_wanted(tmp_path):
    assert 'APT::Architecture "amd64";' in debian.settings(tmp_path, "", "amd64")
    assert "[arch=amd64 " in debian.sources("http://mirror.example", "amd64")


def test_only_wanted_files_are_taken_out_of_a_package(tmp_path):
    if which("dpkg-deb") is None:
        pytest.skip("dpkg-deb is missing: apt-get install dpkg")
    source = tmp_path / "source"
    (source / "DEBIAN").mkdir(parents=True)
    (source / "DEBIAN/control").write_text(
        "Package: x\nVersion: 1\nArchitecture: all\nMaintainer: m <m@example.org>\nDescription: d\n"
    )
    lib = source / "usr/lib/chromium"
    lib.mkdir(parents=True)
    (lib / "libvk_swiftshader.so").write_bytes(b"driver")
    (lib / "libvulkan.so.1").symlink_to("libvulkan.so.1.3")
    (lib / "chromium").write_bytes(b"browser")
    package = tmp_path / "x.deb"
    subprocess.run(
        [which("dpkg-deb"), "--root-owner-group", "--build", source, package],
        check=True,
        capture_output=True,
    )
    out = tmp_path / "out"
    out.mkdir()
    taken = debian.extract(package, vulkan.FROM_CHROMIUM, out)
    assert sorted(taken) == ["libvk_swiftshader.so", "libvulkan.so.1"]
    assert (out / "libvk_swiftshader.so").read_bytes() == b"driver"
    assert sorted(path.name for path in out.iterdir()) == sorted(taken)

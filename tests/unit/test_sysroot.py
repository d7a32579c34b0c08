"""The sysroot without fetching one: settings, hashes, and what is wrong with one on disk."""

import hashlib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from edgese.devices import sysroot
from edgese.devices.sysroot import bundle, debian, making, wheels
from edgese.errors import ConfigError, InputError, MissingDependency, OutputError
from edgese.records.device import SysrootManifest
from edgese.store import write_record

# `apt-cache show libc6 zlib1g`, shortened.
INDEX = """\
Package: libc6
Source: glibc
Version: 2.36-9+deb12u14
Architecture: arm64
Description: GNU C Library: Shared libraries
 Contains the standard libraries that are used by nearly all programs.
SHA256: 01f4330719fd4f65580e16ea5a0527f372fca750e8f588d26deaf09f2d3b1cf4

Package: libc6
Version: 2.36-9+deb12u7
SHA256: 84f9a8f8fa182c17e998c6094293ff0f4d504bfdb9b856802cf28b5d272ed303

Package: zlib1g
Version: 1:1.2.13.dfsg-1
SHA256: 52b8b8a145bbe1956bba82034f77022cbef0c3d0885c9e32d9817a7932fe1913
"""
# `apt-config dump`, shortened.
DUMP = """\
Acquire::http::Proxy "http://proxy.example:3128";
Acquire::https::CaInfo "/etc/ssl/certs/ca-certificates.crt";
Acquire::IndexTargets::deb::Packages::MetaKey "main";
APT::Update::Post-Invoke:: "rm -f /var/cache/apt/archives/*.deb || true";
"""


@pytest.fixture
def made(tmp_path, monkeypatch):
    """A sysroot of three files, as if it had been set up."""
    monkeypatch.setenv("EDGESE_CACHE_DIR", str(tmp_path))
    root = bundle.root()
    for name in (bundle.PYTHON, bundle.LOADER, f"{bundle.SITE}/numpy.py"):
        (root / name).parent.mkdir(parents=True)
        (root / name).write_text(f"content of {name}")
    (root / "lib/link").symlink_to("ld-linux-aarch64.so.1")
    record(bundle.SITE)
    return root


def record(site, **fields):
    files = bundle.fingerprints(bundle.root(), site)
    manifest = {
        "key": bundle.key(site),
        "digest": bundle.digest_of(files),
        "versions": {"numpy": "2.4.6"},
        "packages": {},
        "downloads": {},
        "files": files,
        "created": "",
    }
    write_record(SysrootManifest(**(manifest | fields)), bundle.manifest_path(site))


def test_the_runtimes_are_the_versions_that_the_extras_pin():
    found = wheels.pins(bundle.BASE_WHEELS.read_text(encoding="utf-8"))
    wanted = {
        requirement.name: requirement.specifier
        for requirement in map(Requirement, metadata.requires("edgese"))
        if requirement.name in ("ai-edge-litert", "onnxruntime", "numpy")
    }
    assert len(wanted) == 3
    for name, specifier in wanted.items():
        assert specifier.contains(found[name]), f"{name} {found[name]}"


@pytest.mark.parametrize("lock", [bundle.BASE_WHEELS, bundle.EXECUTORCH_WHEELS])
def test_every_wheel_is_pinned_with_its_hash(lock):
    lines = [line for line in lock.read_text().splitlines() if line and not line.startswith("#")]
    assert len(wheels.pins(lock.read_text())) == len(lines) > 5


def test_wheels_that_are_all_there_need_no_pip(tmp_path, monkeypatch):
    (tmp_path / "a-1-py3-none-any.whl").write_bytes(b"a wheel")
    lock = tmp_path / "lock.txt"
    digest = hashlib.sha256(b"a wheel").hexdigest()
    lock.write_text(f"a==1 --hash=sha256:{digest}\n")
    called = []
    monkeypatch.setattr(wheels, "_pip", called.append)
    assert wheels.download(lock, tmp_path) == {"a-1-py3-none-any.whl": digest}
    assert called == []


def test_a_wheel_with_another_hash_is_fetched_again(tmp_path, monkeypatch):
    wheel = tmp_path / "a-1-py3-none-any.whl"
    wheel.write_bytes(b"half a whe")
    lock = tmp_path / "lock.txt"
    digest = hashlib.sha256(b"a wheel").hexdigest()
    lock.write_text(f"a==1 --hash=sha256:{digest}\n")

    def fetch(_):
        assert not wheel.exists()
        wheel.write_bytes(b"a wheel")

    monkeypatch.setattr(wheels, "_pip", fetch)
    assert wheels.download(lock, tmp_path) == {wheel.name: digest}


def test_a_python_without_pip_is_told_with_the_command(monkeypatch, tmp_path):
    fake = tmp_path / "python"
    fake.write_text("#!/bin/sh\necho python: No module named pip >&2; exit 1\n")
    fake.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(fake))
    with pytest.raises(MissingDependency) as caught:
        wheels.download(bundle.BASE_WHEELS, tmp_path)
    assert caught.value.hint == f"{fake} -m ensurepip"


def test_what_pip_refuses_is_told_in_its_words(monkeypatch, tmp_path):
    fake = tmp_path / "python"
    fake.write_text("#!/bin/sh\necho 'ERROR: No matching distribution found' >&2; exit 1\n")
    fake.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(fake))
    with pytest.raises(OutputError, match="No matching distribution found"):
        wheels.download(bundle.BASE_WHEELS, tmp_path)


def test_the_signed_index_tells_the_hashes_of_every_version():
    found = debian.hashes(INDEX)
    assert {name: len(values) for name, values in found.items()} == {"libc6": 2, "zlib1g": 1}
    assert debian.package_of(Path("zlib1g_1%3a1.2.13.dfsg-1_arm64.deb")) == "zlib1g"


def test_the_private_apt_keeps_proxies_and_drops_hooks():
    text = debian.settings(Path("/cache/debian/apt"), DUMP)
    assert 'Acquire::http::Proxy "http://proxy.example:3128";' in text
    assert "CaInfo" in text
    assert "Post-Invoke" not in text
    assert "IndexTargets" not in text
    assert 'Dir::State "/cache/debian/apt/state";' in text
    assert 'Dir::Cache::archives "/cache/debian";' in text


def test_every_source_is_signed_by_debian():
    lines = debian.sources("http://mirror.example/").splitlines()
    assert len(lines) == 4
    for line in lines:
        assert f"signed-by={debian.KEYRING}" in line
        assert "http://mirror.example/debian" in line


def test_absolute_links_stay_in_the_root(tmp_path):
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/site.py").write_text("mine")
    (tmp_path / "usr/lib").mkdir(parents=True)
    (tmp_path / "usr/lib/site.py").symlink_to("/etc/site.py")
    (tmp_path / "usr/lib/relative").symlink_to("site.py")
    debian.enclose(tmp_path)
    assert (tmp_path / "usr/lib/site.py").readlink() == Path("../../etc/site.py")
    assert (tmp_path / "usr/lib/relative").read_text() == "mine"


def test_a_system_without_apt_is_told_what_to_give_instead(monkeypatch):
    monkeypatch.setattr(debian, "which", lambda _: None)
    with pytest.raises(ConfigError, match="apt-get") as caught:
        debian.check()
    assert "--sysroot DIR" in caught.value.hint


def test_a_system_without_debians_keys_is_told_the_command(monkeypatch, tmp_path):
    monkeypatch.setattr(debian, "which", lambda _: "/usr/bin/it")
    monkeypatch.setattr(debian, "KEYRING", tmp_path / "no.gpg")
    with pytest.raises(MissingDependency) as caught:
        debian.check()
    assert caught.value.hint == "sudo apt-get install debian-archive-keyring"


def test_a_sysroot_is_found_with_what_starts_it(made):
    found = sysroot.find()
    assert found.root == made
    assert (found.python, found.site, found.versions) == (
        bundle.PYTHON,
        ("opt/site",),
        {"numpy": "2.4.6"},
    )
    assert sysroot.faults() == []


def test_another_content_is_another_digest(made):
    before = sysroot.find().digest
    (made / bundle.LOADER).write_text("newer")
    record(bundle.SITE)
    assert sysroot.find().digest != before


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (
            lambda root: (root / bundle.PYTHON).write_text("content of usr/bin/python3.1!"),
            "changed",
        ),
        (lambda root: (root / bundle.LOADER).unlink(), "ld-linux-aarch64.so.1 is missing"),
        (lambda root: (root / "lib/new.so").write_text(""), "lib/new.so does not belong"),
        (
            lambda root: [(root / "lib/link").unlink(), (root / "lib/link").symlink_to("/lib")],
            "lib/link was changed",
        ),
    ],
    ids=["changed", "missing", "new", "link"],
)
def test_damage_is_found(made, damage, says):
    damage(made)
    (fault,) = sysroot.faults()
    assert says in fault


def test_executorch_is_a_part_of_its_own(made):
    torch = made / bundle.EXECUTORCH_SITE / "torch.py"
    torch.parent.mkdir(parents=True)
    torch.write_text("torch")
    assert sysroot.faults() == []
    record(bundle.EXECUTORCH_SITE, versions={"torch": "2.10.0"})
    found = sysroot.find()
    assert found.site == ("opt/site", "opt/executorch")
    assert found.versions == {"numpy": "2.4.6", "torch": "2.10.0"}
    torch.write_text("other")
    assert sysroot.faults() == []
    assert sysroot.faults(bundle.EXECUTORCH_SITE) == ["opt/executorch/torch.py was changed"]


@pytest.mark.parametrize(
    "fields", [{"key": "of older pins"}, {"schema": 0}, {"schema": 99}], ids=str
)
def test_a_sysroot_of_another_making_is_not_taken(made, fields):
    assert made.is_dir()
    record(bundle.SITE, **fields)
    assert sysroot.find() is None
    with pytest.raises(MissingDependency) as caught:
        sysroot.required()
    assert caught.value.hint == "edgese emulator setup"


def test_a_truncated_manifest_is_no_sysroot(made):
    assert made.is_dir()
    bundle.manifest_path(bundle.SITE).write_text('{"key": "')
    assert sysroot.find() is None


def given_system(folder, machine=b"\xb7\x00"):
    for name in bundle.LIBRARIES:
        (folder / name).mkdir(parents=True)
    (folder / bundle.LOADER).write_bytes(b"loader")
    (folder / bundle.PYTHON).parent.mkdir(parents=True, exist_ok=True)
    (folder / bundle.PYTHON).write_bytes(b"\x7fELF\x02\x01" + bytes(12) + machine)
    (folder / "usr/share/doc").mkdir(parents=True)
    (folder / "home").mkdir()
    return folder


def test_a_given_system_is_copied_without_what_no_program_needs(tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    making.copy_system(given_system(tmp_path / "given"), root)
    assert (root / bundle.PYTHON).is_file()
    assert not (root / "usr/share").exists()
    assert not (root / "home").exists()


def test_a_given_system_of_another_machine_is_refused(tmp_path):
    with pytest.raises(InputError, match="not a program for 64-bit ARM"):
        making.copy_system(given_system(tmp_path / "x86", b"\x3e\x00"), tmp_path / "root")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"there is no /usr/bin/python3\.11"):
        making.copy_system(tmp_path / "empty", tmp_path / "root")

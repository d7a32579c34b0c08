"""The device files: each is read, has a source for each fact, and is taken for no other."""

import itertools
import re
from pathlib import Path

import pytest

from edgese import catalog, project
from edgese.devices import REACHABLE, TRANSPORTS, find_device, host, reachable
from edgese.devices.ssh import SshDevice
from edgese.errors import ConfigError, DeviceAbsent, DeviceError, InputError
from edgese.records.device import DeviceFacts
from edgese.records.recognition import recognised

README = Path(__file__).parents[2] / "targets/devices/README.md"
DEVICES = [catalog.device_facts(name) for name in catalog.device_names()]
EMULATED = {facts.name: facts for facts in DEVICES if facts.kind == "emulated"}
# Keys that say what a device is called and how edgese treats it are decisions, not facts.
DECIDED = {"name", "title", "kind", "transport", "emulated_as", "sources"}

each = pytest.mark.parametrize("facts", DEVICES, ids=lambda facts: facts.name)


def filled(facts):
    return {key for key, value in facts.to_dict().items() if value} - DECIDED


@each
def test_every_fact_has_a_source_and_every_source_a_fact(facts):
    assert set(facts.sources) - {"features"} == filled(facts)
    assert ("features" in facts.sources) == bool(facts.cores)


@each
def test_a_source_is_something_that_one_can_look_up(facts):
    for key, source in facts.sources.items():
        assert re.search(r"https?://\S+\.\S+/|targets/", source), f"{key}: {source}"


@each
def test_cores_stand_from_the_fastest_to_the_slowest(facts):
    clocks = [cluster.ghz for cluster in facts.cores if cluster.ghz is not None]
    assert clocks == sorted(clocks, reverse=True)


@each
def test_cores_with_matrix_products_have_dot_products_too(facts):
    assert all(cluster.dotprod for cluster in facts.cores if cluster.i8mm)


def test_one_kind_of_core_has_one_set_of_features():
    clusters = itertools.chain.from_iterable(facts.cores for facts in DEVICES)
    features = {}
    for cluster in clusters:
        features.setdefault(cluster.kind, set()).add((cluster.dotprod, cluster.i8mm))
    assert all(len(kinds) == 1 for kinds in features.values())
    # What Arm documents of four generations, so that a slip of the pen does not pass.
    assert features["cortex-a53"] == features["cortex-a72"] == {(False, False)}
    assert features["cortex-a55"] == features["cortex-a76"] == {(True, False)}
    assert features["cortex-a510"] == features["cortex-x2"] == {(True, True)}


@each
def test_phones_and_boards_name_the_emulated_class_with_the_same_products(facts):
    if facts.kind not in ("android", "linux"):
        assert facts.emulated_as == ""
        return
    fastest, stand_in = facts.cores[0], EMULATED[facts.emulated_as].cores[0]
    assert (fastest.dotprod, fastest.i8mm) == (stand_in.dotprod, stand_in.i8mm)


@each
def test_every_delegate_is_explained_by_its_target(facts):
    for target, delegates in facts.delegates.items():
        known = {delegate.name for delegate in catalog.target_facts(target).coverage}
        assert set(delegates) <= known, target


@each
def test_a_configuration_belongs_to_an_ethos_u_and_carries_its_name(facts):
    assert (facts.vela is not None) == (facts.transport == "vela")
    if facts.vela is not None:
        assert facts.vela.accelerator == facts.name


def test_titles_are_told_apart():
    assert len({facts.title for facts in DEVICES}) == len(DEVICES)


@each
def test_no_other_device_is_recognised_in_its_place(facts):
    if not facts.properties:
        return
    # The shortest answers that fit: what a "*" stands for is left empty.
    answers = {key: value.split("|")[0].replace("*", "") for key, value in facts.properties.items()}
    assert [other.name for other in DEVICES if recognised(other.properties, answers)] == [
        facts.name
    ]


@pytest.mark.parametrize(
    ("answers", "name"),
    [
        ({"ro.product.model": "Pixel 8"}, "pixel8"),
        ({"ro.product.model": "Pixel 8 Pro"}, "pixel8_pro"),
        ({"ro.product.model": "Pixel 8a"}, None),
        ({"ro.product.model": "SM-S901B"}, "galaxy_s22_exynos"),
        ({"ro.product.model": "SM-S901U1"}, "galaxy_s22"),
        ({"ro.product.model": "SM-S921N"}, "galaxy_s24_exynos"),
        ({"ro.product.model": "SM-S9210"}, "galaxy_s24"),
        ({"ro.product.model": "SM-S921X"}, None),
        ({"ro.product.model": "SM-S911B"}, "galaxy_s23"),
        ({"hw.machine": "iPhone17,3"}, "iphone16"),
        ({"/proc/device-tree/model": "Raspberry Pi 5 Model B Rev 1.0\0"}, "rpi5"),
        ({"/proc/device-tree/model": "Raspberry Pi 500 Rev 1.0\0"}, None),
        ({"/proc/device-tree/model": "Raspberry Pi 3 Model B Rev 1.2\0"}, "rpi3"),
        ({"/proc/device-tree/model": "Raspberry Pi 3 Model B Plus Rev 1.3\0"}, "rpi3_bplus"),
        ({"/proc/device-tree/model": "Xunlong Orange Pi 5\0"}, "orange_pi_5"),
        (
            {
                "/proc/device-tree/model": "NVIDIA Jetson Orin Nano Engineering Reference "
                "Developer Kit Super\0"
            },
            "jetson_orin_nano_super",
        ),
        ({"/proc/device-tree/compatible": "turing,rk1\0rockchip,rk3588\0"}, "rk3588"),
        ({}, None),
    ],
)
def test_a_machine_is_recognised_by_what_it_answers(answers, name):
    found = [facts.name for facts in DEVICES if recognised(facts.properties, answers)]
    assert found == ([] if name is None else [name])


def test_a_device_without_properties_is_never_recognised():
    assert not recognised({}, {"ro.product.model": "Pixel 8"})


def test_the_catalogue_has_what_people_ask_for():
    asked = "host pixel4 pixel6 pixel7 pixel8 pixel8_pro pixel9 pixel10 galaxy_s22 galaxy_s23 "
    asked += "galaxy_s24 galaxy_s25 iphone13 iphone14 iphone15 iphone16 iphone17 rpi3 rpi4 rpi5 "
    asked += "rk3588 jetson_orin_nano arm64-a53 arm64-a72 arm64-a76 arm64-a710 ethos-u55-128 "
    asked += "ethos-u65-256 ethos-u85-256"
    assert set(asked.split()) <= set(catalog.device_names())


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("Pixel 8", "pixel8"), ("pixel-8-pro", "pixel8_pro"), ("rpi-5", "rpi5"), ("hosst", "host")],
)
def test_an_unknown_device_is_told_with_the_nearest_and_the_known_ones(typed, meant):
    with pytest.raises(ConfigError, match=f"no device named '{typed}'") as told:
        find_device(typed)
    assert f"Did you mean '{meant}'?" in told.value.hint
    assert "pixel10, pixel10_pro" in told.value.hint


def test_this_machine_is_found_and_reachable():
    assert find_device("host") is host
    assert reachable("host") == REACHABLE


@pytest.mark.usefixtures("nothing_attached")
@pytest.mark.parametrize(
    ("name", "says", "state"),
    [
        ("pixel8", "Google Pixel 8 is not attached", "not attached"),
        ("rpi5", r"Raspberry Pi 5 \(rpi5\) has no address", "no address"),
        ("iphone15", "Xcode on a Mac alone", "needs a Mac"),
    ],
)
def test_a_known_device_that_is_not_there_says_what_is_missing(name, says, state):
    with pytest.raises(DeviceAbsent, match=says) as told:
        find_device(name)
    assert told.value.hint
    assert reachable(name) == state


def test_a_board_has_the_address_that_the_project_names(folder):
    (folder.parents[1] / "edgese.toml").write_text('[addresses]\nrpi5 = "pi@10.0.0.5"\n')
    project.file.cache_clear()
    assert reachable("rpi5") == "pi@10.0.0.5"
    assert isinstance(find_device("rpi5"), SshDevice)


@pytest.mark.parametrize("name", ["arm64-a76", "ethos-u55-128"])
def test_what_has_no_time_of_its_own_runs_no_jobs(name):
    with pytest.raises(DeviceError, match="No time can be measured"):
        find_device(name)


def test_every_transport_of_a_device_has_its_place_in_the_table():
    assert {facts.transport for facts in DEVICES} == set(TRANSPORTS)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "edgese.toml").write_text("")
    (tmp_path / "targets/devices").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    project.root.cache_clear()
    project.file.cache_clear()
    yield tmp_path / "targets/devices"
    project.root.cache_clear()
    project.file.cache_clear()


MINE = 'name = "mine"\ntitle = "My board"\nkind = "linux"\ntransport = "ssh"\n'


def test_a_project_has_devices_of_its_own(folder):
    (folder / "mine.toml").write_text(MINE)
    assert catalog.device_facts("mine") == DeviceFacts(
        name="mine", title="My board", kind="linux", transport="ssh"
    )
    assert {"mine", "host"} <= set(catalog.device_names())


def test_the_example_of_the_documentation_is_a_device(folder):
    text = README.read_text(encoding="utf-8").split("```toml\n")[1].split("```")[0]
    (folder / "rig7.toml").write_text(text)
    facts = catalog.device_facts("rig7")
    assert (facts.title, facts.cores[0].count) == ("Raspberry Pi 5 on the seventh rig", 4)
    assert facts.cores == catalog.device_facts("rpi5").cores


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('gqu = "Mali"', "gqu"),
        ("memory_gb = -1", "memory_gb"),
        ('cores = [{ kind = "cortex-a76", count = 0 }]', "count"),
    ],
)
def test_a_fact_that_cannot_be_is_an_error_that_names_it(folder, line, says):
    (folder / "mine.toml").write_text(MINE + line)
    with pytest.raises(InputError, match=says):
        catalog.device_facts("mine")

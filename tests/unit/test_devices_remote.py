"""What is decided about phones and boards without one: marks, cores, states, addresses."""

from pathlib import Path

import pytest

from edgese.devices import sysfs
from edgese.devices.adb_client import Attached, attached, server_address
from edgese.devices.affinity import big_cores, fast_cores, mask
from edgese.devices.android import properties, state, throttling
from edgese.devices.elf import architecture, refuse_foreign
from edgese.devices.heat import phone_too_warm
from edgese.devices.shell import Listener, answered, listed
from edgese.devices.ssh_client import Address, parsed
from edgese.errors import ConfigError, DeviceError
from edgese.records.device import CoreState
from edgese.records.recognition import recognised

DATA = Path(__file__).parents[1] / "data" / "phones"


def cores(*clusters):
    clocks = [mhz for count, mhz in clusters for _ in range(count)]
    return [CoreState(number=number, maximum_mhz=mhz) for number, mhz in enumerate(clocks)]


PIXEL8 = cores((4, 1704.0), (4, 2367.0), (1, 2914.0))


def phone(battery="", thermal=""):
    text = "".join(
        f"\n{sysfs.HEADING}{name}\n{content}"
        for name, content in {
            "properties": "[ro.product.model]: [Pixel 8]\n[ro.soc.model]: [Tensor G3]\n",
            "battery": battery,
            "thermal": thermal,
            "zones": "41250 BIG\n0 none\nx y\n",
            "cores": "1 1 2914000 1300000 sched_pixel\n0 0 - - -\n",
            "machine": "aarch64\n",
            "memory": "MemTotal:        7817464 kB\n",
            "load": "1.50 1.20 1.00 1/999 1234\n",
        }.items()
    )
    return state(text, "SERIAL")


def test_the_fastest_clusters_that_are_enough_are_taken():
    assert fast_cores(PIXEL8, 1) == (8,)
    assert fast_cores(PIXEL8, 4) == (4, 5, 6, 7, 8)
    assert fast_cores(PIXEL8, 9) == tuple(range(9))


def test_where_all_cores_are_alike_all_are_taken():
    assert fast_cores(cores((4, 2400.0)), 1) == (0, 1, 2, 3)
    assert big_cores(cores((4, 2400.0))) == 4


def test_cores_that_are_off_or_unknown_are_not_taken():
    off = [CoreState(number=0, maximum_mhz=1.0), CoreState(number=1, maximum_mhz=2.0, online=False)]
    assert fast_cores(off, 1) == (0,)
    assert fast_cores([CoreState(number=0)], 1) == ()


def test_cores_of_the_slowest_cluster_are_not_big():
    assert big_cores(PIXEL8) == 5


@pytest.mark.parametrize(("numbers", "text"), [((4, 5, 6, 7), "f0"), ((8,), "100"), ((0,), "1")])
def test_a_mask_has_one_bit_a_core(numbers, text):
    assert mask(numbers) == text


def test_a_phone_is_read_from_recorded_answers():
    now = phone(
        (DATA / "battery.txt").read_text(encoding="utf-8"),
        (DATA / "thermalservice.txt").read_text(encoding="utf-8"),
    )
    assert (now.model, now.soc, now.architecture) == ("Pixel 8", "Tensor G3", "aarch64")
    assert (now.battery_percent, now.battery_c, now.powered) == (84, 32.6, "usb")
    # Sensors that read 0 are not there.
    assert now.temperatures_c == {
        "BIG": 41.25,
        "AP": 25.6,
        "BAT": 23.8,
        "LRB": 24.7,
        "LRF": 24.7,
        "LRP": 24.7,
        "PA": 25.7,
    }
    assert now.skin_c == 24.7
    assert now.thermal_status == 0
    assert now.cores == (
        CoreState(number=0, online=False),
        CoreState(number=1, maximum_mhz=2914.0, current_mhz=1300.0, governor="sched_pixel"),
    )
    assert (now.memory_mb, now.load_average) == (7634, 1.5)


def test_a_phone_that_tells_nothing_of_its_heat_is_not_waited_for():
    now = phone()
    assert (now.battery_c, now.skin_c, now.thermal_status) == (None, None, None)
    assert phone_too_warm(now, 35) == ""


def test_the_battery_decides_where_the_case_is_not_told():
    text = (DATA / "battery.txt").read_text(encoding="utf-8")
    assert phone_too_warm(phone(text), 35) == ""
    assert "battery has 32.6 °C, not below 30 °C" in phone_too_warm(phone(text), 30)


def test_a_rising_thermal_status_is_throttling():
    calm, hot = phone(thermal="Thermal Status: 0\n"), phone(thermal="Thermal Status: 2\n")
    assert "from 0 to 2" in throttling(calm, hot)
    assert throttling(calm, calm) == ""


def test_properties_may_hold_brackets_and_nothing():
    text = "[a.b]: [x [y]]\n[empty]: []\nnoise\n"
    assert properties(text) == {"a.b": "x [y]", "empty": ""}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            "38071FDJH00123         device usb:1-1 product:shiba model:Pixel_8 transport_id:1",
            Attached(serial="38071FDJH00123", state="device", model="Pixel_8"),
        ),
        ("R5CT30\tunauthorized usb:1-2", Attached(serial="R5CT30", state="unauthorized")),
        ("192.168.1.5:5555 offline", Attached(serial="192.168.1.5:5555", state="offline")),
        (
            # Such as android.googlesource.com's change I9e1d5b6b explains.
            "082f59270073e1e3  no permissions (verify udev rules); see [developer.android.com/...]",
            Attached(serial="082f59270073e1e3", state="no permissions"),
        ),
    ],
)
def test_what_adb_lists_is_read(line, expected):
    banner = "* daemon not running; starting now at tcp:5037\n* daemon started successfully\n"
    assert attached(f"{banner}List of devices attached\n{line}\n\n") == (expected,)


def test_an_empty_list_is_none():
    assert attached("List of devices attached\n\n") == ()


@pytest.mark.parametrize("text", ["lab", "lab:", ":5037", "lab:0", "lab:99999", "lab:x"])
def test_an_address_of_an_adb_server_has_a_port(text):
    with pytest.raises(ConfigError, match="no address of an adb server"):
        server_address(text)
    assert server_address("lab:5037") == ("lab", 5037)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("pi@rpi5.local", Address(host="rpi5.local", user="pi")),
        ("board", Address(host="board")),
        ("u@10.0.0.2:2222", Address(host="10.0.0.2", user="u", port=2222)),
        ("u@[fe80::1]:22", Address(host="fe80::1", user="u", port=22)),
    ],
)
def test_an_address_of_a_board_is_read(text, expected):
    assert parsed(text) == expected


@pytest.mark.parametrize(
    "text", ["", "-oProxyCommand=x", "u@-h", "a b", "h:0", "h:port", "h;id", "u@h:1:2", "$(id)@h"]
)
def test_what_is_no_address_never_reaches_ssh(text):
    with pytest.raises(ConfigError, match="no address of a board"):
        parsed(text)


def test_an_answer_without_its_mark_is_no_answer():
    assert answered("", "edgese-m").code is None
    assert answered("some output\n", "edgese-m").code is None
    assert answered("some output\nedgese-m:", "edgese-m").code is None
    whole = answered("no newline at the endedgese-m:3\r\n", "edgese-m")
    assert (whole.code, whole.stdout) == (3, "no newline at the end")


def heard(*lines):
    listener = Listener("edgese-m")
    own = [one for line in lines for one in listener.lines(line)]
    return own, listener.ending()


def test_a_job_without_its_end_did_not_end():
    assert heard("one", "two")[1].returncode is None
    own, ending = heard("one", "edgese-m:0")
    assert (own, ending.returncode, ending.whole) == (["one"], 0, False)


def test_a_last_line_without_newline_is_kept_apart_from_the_mark():
    own, ending = heard("one", "twoedgese-m:137", "edgese-m 1 5 -", "edgese-m end")
    assert own == ["one", "two"]
    assert (ending.returncode, ending.whole) == (-9, True)
    assert ending.files[1].size_bytes == 5
    assert ending.files[1].sha256 == ""


def test_a_listing_of_others_is_not_read():
    assert listed("edgese-x 0 5 abc\nedgese-m x 5 abc\n", "edgese-m") == {}


def head(machine, magic=b"\x7fELF", order=1):
    return (
        magic
        + bytes([2, order, 1])
        + bytes(11)
        + machine.to_bytes(2, "little" if order == 1 else "big")
    )


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (head(183), "aarch64"),
        (head(62), "x86_64"),
        (head(40), "armv7l"),
        (head(183, order=2), "aarch64"),
        (b"#!/bin/sh\necho no program of this kind\n", ""),
        (b"", ""),
    ],
)
def test_a_program_tells_its_processor(content, expected):
    assert architecture(content) == expected


def test_a_program_for_another_processor_is_refused(tmp_path):
    program = tmp_path / "benchmark_model"
    program.write_bytes(head(183))
    refuse_foreign(program, "aarch64", "pixel8")
    refuse_foreign(program, "", "pixel8")
    with pytest.raises(DeviceError, match="built for aarch64, and pixel8 is x86_64"):
        refuse_foreign(program, "x86_64", "pixel8")


def test_a_device_is_recognised_by_all_its_properties():
    told = {"ro.product.model": "Pixel 8", "ro.soc.model": "Tensor G3"}
    assert recognised({"ro.product.model": "Pixel 8"}, told)
    assert recognised({"ro.product.model": "Pixel*", "ro.soc.model": "Tensor G3"}, told)
    assert not recognised({"ro.product.model": "Pixel 8", "ro.soc.model": "Tensor G4"}, told)
    assert not recognised({"ro.product.model": "Pixel 8 Pro"}, told)
    assert not recognised({}, told)

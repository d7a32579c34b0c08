"""``edgese devices``: the table, everything of one device, and the same as JSON."""

import itertools
import json

import pytest

from edgese import catalog
from edgese.__main__ import run


@pytest.fixture
def said(capsys, nothing_attached):  # noqa: ARG001  # what it prints depends on it
    """Runs a command that ends well and gives what it printed."""

    def printed(*arguments):
        assert run(["devices", *arguments]) == 0
        told = capsys.readouterr()
        assert told.err == ""
        return told.out

    return printed


def test_the_table_has_every_device_with_what_one_looks_for(said):
    lines = {line.split()[0]: line for line in said().splitlines() if line.strip()}
    assert set(catalog.device_names()) <= set(lines)
    row = " ".join(lines["pixel8"].split())
    assert "Google Tensor G3 1 x cortex-x3 2.91 GHz Arm Mali-G715" in row
    assert row.endswith("adb not attached")
    assert lines["host"].split()[-1] == "yes"


def test_numbers_in_names_count_as_numbers(said):
    names = [line.split()[0] for line in said().splitlines() if line.strip()]
    pixels = [name for name in names if name.startswith("pixel") and "_" not in name]
    assert pixels == ["pixel4", "pixel6", "pixel7", "pixel8", "pixel9", "pixel10"]
    assert names.index("host") < names.index("galaxy_s22") < names.index("ethos-u55-32")


def test_one_device_is_told_with_the_source_of_every_fact(said):
    text = said("pixel8")
    facts = catalog.device_facts("pixel8")
    assert text.startswith("pixel8: Google Pixel 8\nthrough adb, reachable now: not attached\n")
    lines = [line.rstrip() for line in text.splitlines()]
    for source in itertools.chain(*(told.split("; ") for told in facts.sources.values())):
        assert any(line.endswith(source) for line in lines)
    rows = [line.split("  ")[0] for line in text.splitlines()]
    assert rows.count("cores") == len(facts.cores)
    assert "matrix (i8mm) and dot product" in text
    assert "ro.product.model = Pixel 8" in text


@pytest.mark.parametrize(
    ("name", "products"),
    [("rpi3", "none"), ("pixel6", "dot product"), ("galaxy_s24", "matrix (i8mm) and dot product")],
)
def test_int8_products_are_those_that_all_cores_have(said, name, products):
    row = next(line for line in said(name).splitlines() if line.startswith("int8 products"))
    assert " ".join(row.split()).startswith(f"int8 products {products}")


def test_the_configuration_of_an_estimate_is_told(said):
    text = said("ethos-u55-128")
    assert "Ethos_U55_High_End_Embedded" in text
    assert "Shared_Sram" in text


def test_this_machine_tells_of_itself(said):
    answer = json.loads(said("host", "--json"))
    assert answer["reachable"] == "yes"
    assert answer["info"]["name"] == "host"
    assert answer["info"]["cores"] >= 1
    assert answer["info"]["cpu"] in said("host")


def test_json_has_the_files_facts_and_the_state_of_now(said):
    answers = {answer["facts"]["name"]: answer for answer in json.loads(said("--json"))}
    assert set(answers) == set(catalog.device_names())
    assert answers["rpi5"]["facts"] == json.loads(catalog.device_facts("rpi5").to_json())
    assert answers["rpi5"]["reachable"] == "no address"


def test_an_unknown_device_ends_in_its_exit_code_and_prints_no_result(capsys):
    assert run(["devices", "pixle8"]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert "Did you mean 'pixel8'?" in told.err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--clean"], "needs a device"),
        (["host", "--clean"], "leaves nothing on This machine"),
        (["arm64-a76", "--clean"], "leaves nothing on Emulated Cortex-A76"),
        (["pixel8", "--serial", "X"], "go with --clean"),
        (["--address", "pi@rpi5"], "go with --clean"),
    ],
)
def test_what_cannot_be_cleaned_is_refused(capsys, words, says):
    assert run(["devices", *words]) == 2
    assert says in capsys.readouterr().err


def test_a_board_without_an_address_cannot_be_cleaned(capsys):
    assert run(["devices", "rpi5", "--clean"]) == 5
    assert "has no address" in capsys.readouterr().err

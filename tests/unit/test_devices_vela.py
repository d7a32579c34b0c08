"""What Vela says, read: recorded from Vela 5.1.0 on an int8 network, then broken."""

from pathlib import Path

import pytest

from edgese.catalog import device_facts
from edgese.devices import vela
from edgese.errors import DeviceError

DATA = Path(__file__).parents[1] / "data" / "vela"


def recorded(name):
    return (DATA / name).read_text(encoding="utf-8")


SUMMARY = recorded("u55-summary.csv")
OPERATORS = recorded("u55-operators.csv")
SAID = recorded("u55-stdout.txt")


def test_a_summary_is_read_with_its_configuration_and_units():
    assert vela.parsed_summary(SUMMARY) == vela.Summary(
        accelerator="Ethos_U55_128",
        system="Ethos_U55_High_End_Embedded",
        memory_mode="Shared_Sram",
        clock_mhz=500.0,
        cycles=845_932,
        compute_cycles=766_503,
        latency_ms=1.691864,
        macs=40_905_984,
        sram_bytes=54_144,  # 52.875 KiB
        dram_bytes=0,
        flash_bytes=282_864,  # 276.234375 KiB
    )


@pytest.mark.parametrize("family", ["u55", "u65", "u85"])
def test_the_time_is_the_cycles_at_the_stated_clock(family):
    summary = vela.parsed_summary(recorded(f"{family}-summary.csv"))
    assert summary.latency_ms == pytest.approx(summary.cycles / summary.clock_mhz / 1e3, rel=1e-4)
    assert 0 < summary.compute_cycles <= summary.cycles
    assert summary.macs == 40_905_984


def test_operators_are_read_in_their_order_and_add_up():
    operators = vela.parsed_operators(OPERATORS)
    assert [operators[0].operator, operators[-1].operator] == ["Quantize", "Dequantize"]
    assert {op.processor for op in (operators[0], operators[-1])} == {"cpu"}
    assert {op.executed_as for op in operators if op.operator == "Sigmoid"} == {"LUT"}
    summary = vela.parsed_summary(SUMMARY)
    assert sum(op.macs for op in operators) == summary.macs
    assert sum(op.cycles for op in operators) == pytest.approx(summary.cycles, rel=0.01)


def test_what_falls_back_to_the_processor_is_told_with_its_reason():
    first, second = vela.parsed_fallbacks(SAID)
    assert (first.operator, first.output, first.reason) == (
        "DEQUANTIZE",
        "logits",
        "Unsupported opType",
    )
    assert (second.operator, second.output) == ("QUANTIZE", "tensor_1")
    assert second.reason == (
        "Operation has tensor with unsupported DataType Float32; Feature-map dataTypes must be "
        'one of {"INT16", "INT32", "INT64", "INT8", "UINT8"}'
    )


def test_it_is_counted_how_many_operators_land_where():
    counts = vela.operator_counts(SAID)
    # Vela counts a lookup table with the operator that it is fused into.
    own = [op for op in vela.parsed_operators(OPERATORS) if op.executed_as != "LUT"]
    on = [op.processor for op in own]
    assert counts == {"CPU": on.count("cpu"), "NPU": on.count("npu")} == {"CPU": 2, "NPU": 78}


def test_nothing_is_left_to_velas_own_choice():
    facts = device_facts("ethos-u65-256")
    words = vela.arguments(Path("/a/net.tflite"), facts.vela, Path("/out"))
    options = dict(zip(words[::2], words[1::2], strict=False))
    assert options["--accelerator-config"] == "ethos-u65-256"
    assert options["--system-config"] == "Ethos_U65_Client_Server"
    assert options["--memory-mode"] == "Dedicated_Sram_384KB"
    assert options["--config"] == "Arm/vela.ini"
    assert words[-1] == "/a/net.tflite"


@pytest.mark.parametrize(
    ("summary", "says"),
    [
        ("", "0 networks"),
        (SUMMARY + SUMMARY.splitlines()[1] + "\n", "2 networks"),
        (SUMMARY.replace("cycles_total", "cycles_sum"), "no column 'cycles_total'"),
        (SUMMARY.replace("500000000.0", "fast"), "'core_clock' is 'fast'"),
    ],
)
def test_a_summary_in_another_format_is_refused(summary, says):
    with pytest.raises(DeviceError, match=says) as told:
        vela.parsed_summary(summary)
    assert told.value.hint.endswith("pip install 'edgese[vela]'")


def test_operators_in_another_format_are_refused():
    with pytest.raises(DeviceError, match="no column 'Op Cycles'"):
        vela.parsed_operators(OPERATORS.replace("Op Cycles", "Cycles"))


def test_counts_that_are_not_told_are_not_taken_for_none():
    with pytest.raises(DeviceError, match="how many operators land where"):
        vela.operator_counts(SAID.replace("CPU operators", "Cpu operators"))

"""Asking Qualcomm's compiler: what its provider logs, and the report that is made of it. Pure."""

import re
from pathlib import Path

import numpy as np
import pytest

from edgese.catalog import device_facts, device_names, soc_facts, soc_names, target_facts
from edgese.errors import ConfigError, DeviceError, MissingDependency
from edgese.inspection import qnn
from edgese.inspection.qnn_log import parsed_log, parsed_trace

DATA = Path(__file__).parents[1] / "data/inspection"
FACTS = {each.name: each for each in target_facts("onnxruntime").coverage}["qnn"]
ERROR = (
    "[ONNXRuntimeError] : 1 : FAIL : Node 'conv' was inserted using the NHWC format as requested "
    "by QNNExecutionProvider, but was not selected by that EP. This means the graph is invalid."
)


def answer(log, trace=None, *, soc="sm8650", error="", size=4096):
    return qnn.Answer(
        soc=soc_facts(soc),
        error=error,
        passes=parsed_log((DATA / log).read_text()),
        trace=parsed_trace((DATA / trace).read_text()) if trace else None,
        size_bytes=size,
    )


def erf(**changed):
    return answer("qnn-refuses-erf.log", "qnn-refuses-erf.json", **changed)


def test_the_provider_is_asked_twice_and_tells_each_operator():
    before, after = parsed_log((DATA / "qnn-refuses-erf.log").read_text())
    assert [unit.operator for unit in before if unit.reason] == ["Erf"]
    assert [unit.operator for unit in after if unit.reason] == ["Erf"]
    # Channels last needs a transpose.
    kinds = {unit.operator for unit in after} - {unit.operator for unit in before}
    assert kinds == {"Transpose"}


def test_a_refused_operator_is_told_with_the_providers_reason_and_the_pieces_around_it():
    report = qnn.report(FACTS, [erf()], "it")
    assert (report.operators, report.taken, report.partitions) == (10, 9, 2)
    assert report.partition_sizes == (2, 7)
    (left,) = report.left_out
    assert (left.operator, left.count, left.code) == ("Erf", 1, "ORT-QNN-ERF")
    assert "Operators of type `Erf` are not supported by QNN EP" in left.reason
    (compiled,) = report.compiled
    assert (compiled.soc, compiled.architecture, compiled.size_bytes) == ("sm8650", "v75", 4096)


def test_codes_without_a_grid_are_told_with_the_types_that_the_compiler_saw():
    units = parsed_log((DATA / "qnn-refuses-bare-codes.log").read_text())[0]
    reasons = {unit.operator: unit.reason for unit in units if unit.reason}
    assert reasons["Pad"] == (
        "Unsupported input/output datatypes requested for the HTP Op 'Pad': "
        "in[0] UINT_8, out[0] UINT_8"
    )
    report = qnn.report(FACTS, [answer("qnn-refuses-bare-codes.log", error=ERROR, size=None)], "it")
    codes = {one.operator: one.code for one in report.left_out}
    assert codes["Pad"] == codes["Tile"] == "ORT-QNN-NO-GRID"
    assert codes["QuantizeLinear"] == "ORT-QNN-ENDS"


def test_types_that_the_log_gives_as_numbers_are_named():
    told = "QnnLogging] Tensor 0 and 0 have mismatching datatypes. 0x408 != 0x108.\n"
    text = (DATA / "qnn-refuses-bare-codes.log").read_text()
    swapped = re.sub(r"QnnLogging\]  <E> Unsupported input/output [^\n]*\n", told, text)
    units = parsed_log(swapped)[0]
    reason = next(unit.reason for unit in units if unit.operator == "Pad")
    assert reason.endswith("0x408 != 0x108 (UFIXED_POINT_8, UINT_8)")


def test_a_file_that_the_runtime_refuses_is_taken_in_no_part():
    report = qnn.report(FACTS, [answer("qnn-refuses-bare-codes.log", error=ERROR, size=None)], "it")
    assert (report.taken, report.partitions) == (0, 0)
    assert sum(one.count for one in report.left_out) == report.operators
    others = report.left_out[-1]
    assert (others.operator, others.code) == ("others", "ORT-QNN-NOT-LOADED")
    assert others.reason.endswith("but was not selected by that EP")
    assert report.compiled[0].size_bytes is None


def test_chips_whose_compiler_takes_something_else_are_named():
    other = answer("qnn-refuses-bare-codes.log", soc="sm8350", error=ERROR, size=None)
    same = erf(soc="sm8550")
    notes = qnn.report(FACTS, [erf(), same, other], "it").notes
    assert [note for note in notes if "other operators" in note] == [
        "For sm8350 (v68) the compiler takes other operators: ask about it with --soc sm8350."
    ]


@pytest.mark.parametrize("text", ["", "GetCapability pass 1\nnothing that is known\n"])
def test_a_log_in_other_words_is_refused(text):
    with pytest.raises(DeviceError, match="names no operator"):
        parsed_log(text)


@pytest.mark.parametrize("text", ["", "[]", '{"summary": {}}'])
def test_a_trace_in_another_format_is_refused(text):
    with pytest.raises(DeviceError, match="trace of operators"):
        parsed_trace(text)


def test_without_a_name_one_chip_of_each_architecture_is_asked_about_the_newest_first():
    found = [facts.htp for facts in qnn.chosen_socs("")]
    assert found == sorted({soc_facts(name).htp for name in soc_names()}, reverse=True)


def test_a_chip_is_named_by_itself_or_by_a_device_that_has_it():
    assert [facts.name for facts in qnn.chosen_socs("SM8650")] == ["sm8650"]
    assert [facts.name for facts in qnn.chosen_socs("galaxy_s24")] == ["sm8650"]
    with pytest.raises(ConfigError, match="Google Tensor G3"):
        qnn.chosen_socs("pixel8")
    with pytest.raises(ConfigError, match="no chip and no device"):
        qnn.chosen_socs("sm0")


def test_every_device_with_the_provider_has_a_chip_that_is_known():
    names = [
        name
        for name in device_names()
        if "qnn" in device_facts(name).delegates.get("onnxruntime", ())
    ]
    assert names
    for name in names:
        (facts,) = qnn.chosen_socs(name)
        assert facts.name.upper() in device_facts(name).soc


@pytest.mark.parametrize(
    ("system", "machine", "told"),
    [("Linux", "x86_64", "pip install 'edgese[qualcomm]'"), ("Darwin", "arm64", "Linux on x86_64")],
)
def test_what_is_missing_is_told(system, machine, told, monkeypatch):
    monkeypatch.setattr("platform.system", lambda: system)
    monkeypatch.setattr("platform.machine", lambda: machine)
    monkeypatch.setattr(qnn, "find_spec", lambda _: None)
    with pytest.raises(MissingDependency) as raised:
        qnn.asked(Path("a.onnx"), None, FACTS, socs=(), with_drift=False, progress=None)
    assert told in raised.value.hint


def test_floats_that_agree_but_for_the_order_of_sums_are_fp32():
    beside = np.random.default_rng(0).normal(size=(4, 10)).astype(np.float32)
    halves = beside.astype(np.float16).astype(np.float32)
    assert qnn.arithmetic_of("fp32", beside * np.float32(1 + 1e-6), beside) == "fp32"
    assert qnn.arithmetic_of("fp32", halves, beside) == "fp16"
    assert qnn.arithmetic_of("int8", halves, beside) == "int8"

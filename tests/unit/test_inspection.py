"""Inspecting: how graphs fall into pieces, what delegates log, and the codes of reasons. Pure."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgese.catalog import target_facts
from edgese.errors import DeviceError
from edgese.inspection import computeplan, drifts, ethosu, gpu, partitioners, reports, usability
from edgese.inspection.pieces import Node, counted_without, pieces
from edgese.inspection.rules import left_out
from edgese.records.artifact import OperatorReport, OutsideOperator
from edgese.records.emulation import CpuFallback, Estimate

DATA = Path(__file__).parents[1] / "data/inspection"


def facts(target, name):
    return {each.name: each for each in target_facts(target).coverage}[name]


def chain(*operators):
    return tuple(Node(name, (index,), (index + 1,)) for index, name in enumerate(operators))


# What LiteRT's GPU delegate was asked about when gpu-refuses-xor.log was recorded.
XOR = chain(
    *("TRANSPOSE", "CONV_2D", "MUL", "CAST", "TRANSPOSE", "BITWISE_XOR"),
    *("TRANSPOSE", "CAST", "CONV_2D", "MUL", "CAST", "TRANSPOSE", "BITWISE_XOR"),
    *("TRANSPOSE", "CAST", "CONV_2D", "LOGISTIC", "TRANSPOSE", "MEAN"),
)


def test_a_graph_that_is_taken_whole_is_one_piece():
    assert pieces(XOR, [True] * len(XOR)) == (tuple(range(len(XOR))),)


def test_a_refused_operator_in_a_chain_splits_it():
    taken = [node.operator != "BITWISE_XOR" for node in XOR]
    assert [len(piece) for piece in pieces(XOR, taken)] == [5, 6, 6]
    assert counted_without(XOR, {"BITWISE_XOR"}, "BITWISE_XOR") == 1


def test_a_refused_operator_beside_the_path_splits_nothing_before_it_is_needed():
    nodes = (
        Node("conv", ("x",), ("a",)),
        Node("odd", ("a",), ("b",)),
        Node("conv", ("a",), ("c",)),
        Node("conv", ("c",), ("d",)),
        Node("mul", ("b", "d"), ("y",)),
    )
    found = pieces(nodes, [node.operator != "odd" for node in nodes])
    assert found == ((0, 2, 3), (4,))


def test_nodes_that_cannot_be_executed_in_any_order_are_refused():
    circle = (Node("a", ("q",), ("p",)), Node("b", ("p",), ("q",)))
    with pytest.raises(ValueError, match="no order"):
        pieces(circle, [True, False])


@given(st.data())
def test_pieces_hold_what_is_taken_and_can_run_one_after_the_other(data):
    size = data.draw(st.integers(1, 12))
    nodes = [
        Node("op", tuple(data.draw(st.sets(st.integers(0, index), max_size=3))), (index + 1,))
        for index in range(size)
    ]
    taken = data.draw(st.lists(st.booleans(), min_size=size, max_size=size))
    found = pieces(nodes, taken)
    assert sorted(index for piece in found for index in piece) == [
        index for index in range(size) if taken[index]
    ]
    # One piece after the other, each at once, with the processor's operators in between.
    done = {0}

    def on_the_processor():
        for index in range(size):
            if not taken[index] and done.issuperset(nodes[index].inputs):
                done.add(index + 1)

    for piece in found:
        on_the_processor()
        inside = {index + 1 for index in piece}
        assert all(done.union(inside).issuperset(nodes[index].inputs) for index in piece)
        done |= inside
    on_the_processor()
    assert done == set(range(size + 1))


def test_codes_of_reasons_are_stable():
    def code(target, delegate, operator, cause):
        return left_out(target, delegate, operator, 1, cause, "told").code

    assert code("tflite", "gpu", "BITWISE_XOR", "OP-UNSUPPORTED") == "TFL-GPU-OP-UNSUPPORTED"
    assert code("tflite", "gpu", "CONV_2D", "SMALLER-PIECE") == "TFL-GPU-SMALLER-PIECE"
    assert code("tflite", "ethos-u", "QUANTIZE", "ARGUMENTS") == "TFL-ETHOSU-QUANTIZE"
    assert code("tflite", "xnnpack", "HARD_SWISH", "IN-FLOATS") == "TFL-XNNPACK-IN-FLOATS"
    assert code("onnxruntime", "nnapi", "HardSigmoid", "OP-UNSUPPORTED") == "ORT-NNAPI-HARDSIGMOID"
    assert code("executorch", "vulkan", "aten.mean.dim", "ARGUMENTS") == "ET-VULKAN-MEAN"
    copy = "dim_order_ops._to_dim_order_copy.default"
    assert code("executorch", "vulkan", copy, "OP-UNSUPPORTED") == "ET-VULKAN-TODIMORDERCOPY"
    assert code("mine", "npu", "X", "PRECISION") == "MINE-NPU-PRECISION"


def test_advice_names_what_splits_the_graph_and_only_that():
    splitting = left_out("onnxruntime", "nnapi", "HardSigmoid", 7, "OP-UNSUPPORTED", "no", (8, 1))
    assert splitting.advice.startswith("This HardSigmoid splits the graph in 8; were it taken, ")
    assert "there would be 1." in splitting.advice
    one_of_many = left_out("onnxruntime", "coreml", "Tile", 7, "OP-UNSUPPORTED", "no", (244, 240))
    assert "splits" not in one_of_many.advice


def test_the_gpu_delegates_log_tells_adapter_kinds_and_counts():
    log = gpu.parsed_log((DATA / "gpu-refuses-xor.log").read_text())
    assert log.adapter == "SwiftShader Device (Subzero)"
    assert log.refused == {"BITWISE_XOR": "Not supported op BITWISE_XOR"}
    assert (log.on_gpu, log.on_cpu) == (6, 13)
    nothing = gpu.parsed_log((DATA / "gpu-takes-nothing.log").read_text())
    assert (nothing.on_gpu, nothing.on_cpu) == (0, 1)
    missing = gpu.parsed_log((DATA / "gpu-finds-none.log").read_text())
    assert missing.adapter == ""
    assert missing.on_gpu is None


def test_a_stride_that_the_gpu_delegate_loses_is_a_fault_with_a_code():
    text = (DATA / "gpu-loses-a-stride.log").read_text()
    (fault,) = gpu.faults_of(gpu.parsed_log(text), 1)
    assert (fault.operator, fault.count, fault.code) == ("CONV_2D", 1, "TFL-GPU-STRIDE")
    assert "1, 6, 5, 1, 16 was asked, 1, 12, 10, 1, 16 made" in fault.reason
    # It warns each time that it compiles.
    assert gpu.faults_of(gpu.parsed_log(text * 2), 2) == (fault,)
    sound = gpu.parsed_log((DATA / "gpu-refuses-xor.log").read_text())
    assert gpu.faults_of(sound, 1) == ()


def test_the_gpu_delegate_executes_the_largest_piece_alone():
    log = gpu.parsed_log((DATA / "gpu-refuses-xor.log").read_text())
    report = reports.largest_piece(
        "tflite", facts("tflite", "gpu"), XOR, log.refused, log.on_gpu, by="it"
    )
    assert (report.taken, report.partitions, report.partition_sizes) == (6, 1, (6,))
    assert not report.whole
    # All others are told: two that it refuses, eleven in pieces that it leaves.
    counted = {}
    for one in report.left_out:
        counted[one.code] = counted.get(one.code, 0) + one.count
    assert counted == {"TFL-GPU-OP-UNSUPPORTED": 2, "TFL-GPU-SMALLER-PIECE": 11}
    assert report.notes == ()


def test_counts_are_left_open_where_the_delegate_refuses_some_of_a_kind():
    report = reports.largest_piece(
        "tflite",
        facts("tflite", "gpu"),
        XOR,
        {"CAST": "Not supported Cast case."},
        12,
        by="it",
        arguments={"CAST"},
    )
    (cast,) = report.left_out
    assert cast.count is None
    assert cast.code == "TFL-GPU-CAST"
    assert "does not tell which" in report.notes[0]


def test_drift_in_fp16_is_told_apart_from_fp32_by_its_bits():
    rng = np.random.default_rng(0)
    beside = rng.normal(size=(4, 10)).astype(np.float32)
    halves = beside.astype(np.float16).astype(np.float32)
    fp16, fp32 = gpu.drifts_of(halves, beside, beside)
    assert (fp16.arithmetic, fp32.arithmetic) == ("fp16", "fp32")
    assert fp16.max_abs_diff == pytest.approx(float(np.abs(halves - beside).max()))
    assert 0 < fp16.max_abs_diff < 2e-3
    assert fp32.max_abs_diff == 0
    assert fp16.top1_agreement == 1
    assert [each.arithmetic for each in gpu.drifts_of(beside, beside, halves)] == ["fp32"]
    with pytest.raises(DeviceError, match="not finite"):
        gpu.drifts_of(np.full_like(beside, np.inf), beside, beside)


def test_a_delegate_that_computes_something_else_is_told():
    rng = np.random.default_rng(0)
    beside = rng.normal(size=(4, 10)).astype(np.float32)
    other = rng.normal(size=(4, 10)).astype(np.float32)
    assert drifts.far_off(gpu.drifts_of(beside, beside, beside)) == ""
    assert "far from the processor's" in drifts.far_off(gpu.drifts_of(other, other, beside))


def test_partitioners_reasons_are_read_from_their_logs():
    reasons = partitioners.reasons_in((DATA / "partitioners.log").read_text().splitlines())
    assert reasons["aten.mean.dim"] == "op args not supported"
    assert "no conversion" in reasons["aten.asinh.default"]
    vulkan = facts("executorch", "vulkan")
    lines = ["Due to [op args not supported], skipping f32 = aten.mean.dim(f32, [2, 3],  ...)"]
    report = partitioners.report(
        vulkan, (("aten.mul.Tensor",) * 9, ("aten.mul.Tensor",)), {"aten.mean.dim": 1}, lines
    )
    assert (report.operators, report.taken, report.partition_sizes) == (11, 10, (9, 1))
    assert report.left_out[0].code == "ET-VULKAN-MEAN"
    assert "adaptive_avg_pool2d" in report.left_out[0].advice


def test_onnx_runtimes_check_becomes_a_report():
    nodes = chain("Conv", "HardSigmoid", "Conv")
    answer = SimpleNamespace(
        num_nodes=3,
        num_supported_nodes=2,
        num_partitions=2,
        supported_groups=[[nodes[0]], [nodes[2]]],
        unsupported_ops={"ai.onnx:HardSigmoid"},
        nodes_unsupported_due_to_dynamic_input=1,
        num_unsupported_nodes_due_to_rank=0,
        supported_ops_checker=SimpleNamespace(
            get_caveats=lambda: ["ai.onnx:Conv:Only 2D Conv is supported."]
        ),
    )
    report = usability.report("nnapi", "NNAPI provider", answer, nodes, "it")
    assert report.basis == "checked"
    assert (report.taken, report.partition_sizes) == (2, (1, 1))
    assert [one.code for one in report.left_out] == ["ORT-NNAPI-HARDSIGMOID", "ORT-NNAPI-SHAPE"]
    assert "splits the graph in 2" in report.left_out[0].advice
    assert "Conv: Only 2D Conv is supported." in report.notes[-1]


def test_a_published_list_is_held_against_the_graph():
    nodes = chain("Conv", "HardSigmoid", "Mul", "HardSigmoid", "Mul")
    operators = {"Conv": 1, "HardSigmoid": 2, "Mul": 2}
    nnapi = facts("onnxruntime", "nnapi")
    report = reports.published("onnxruntime", nnapi, nodes, operators, "fp32")
    assert report.basis == "documented"
    assert (report.taken, report.partitions, report.partition_sizes) == (3, 3, (1, 1, 1))
    assert report.left_out[0].count == 2
    unordered = reports.published("onnxruntime", nnapi, None, operators, "fp32")
    assert (unordered.taken, unordered.partitions) == (3, None)


def test_what_nobody_publishes_is_not_guessed():
    report = reports.published("tflite", facts("tflite", "qnn"), XOR, {"MUL": 2}, "int8")
    assert report.taken is None
    assert report.partitions is None
    assert "Nobody publishes" in report.notes[0]


def test_a_precision_that_a_delegate_lacks_leaves_everything_out():
    operators = {"CONV_2D": 3, "ADD": 1}
    report = reports.published("tflite", facts("tflite", "ethos-u"), XOR, operators, "fp32")
    assert report.taken == 0
    assert {one.code for one in report.left_out} == {"TFL-ETHOSU-PRECISION"}
    assert sum(one.count for one in report.left_out) == 4


def test_float_islands_of_the_own_delegate_have_a_code_of_their_own():
    found = OperatorReport(
        operators={"CONV_2D": 3, "HARD_SWISH": 2},
        delegate="xnnpack",
        partitions=2,
        outside=(
            OutsideOperator(
                operator="HARD_SWISH",
                count=1,
                reason="it computes in floats among operators on integers",
            ),
            OutsideOperator(operator="HARD_SWISH", count=1, reason="XNNPACK did not take it"),
        ),
        partition_sizes=(2, 2),
    )
    report = reports.own("tflite", facts("tflite", "xnnpack"), found, "LiteRT")
    assert (report.operators, report.taken, report.partition_sizes) == (5, 3, (2, 2))
    assert [one.code for one in report.left_out] == [
        "TFL-XNNPACK-IN-FLOATS",
        "TFL-XNNPACK-HARDSWISH",
    ]


def test_a_compute_plan_becomes_a_report():
    nodes = chain("conv", "silu", "reduce_mean", "conv")
    units = ["neural-engine", "neural-engine", "cpu", "neural-engine"]
    report = computeplan.report(nodes, units, "a Mac")
    assert (report.taken, report.partition_sizes) == (3, (2, 1))
    assert report.left_out[0].code == "CML-NEURALENGINE-REDUCEMEAN"
    assert report.left_out[0].reason == "Core ML prefers: cpu"


def test_velas_answer_becomes_a_report():
    estimate = Estimate(
        **dict.fromkeys(("label", "sha256", "model", "edgese", "created", "system"), ""),
        **dict.fromkeys(("sram_bytes", "dram_bytes", "flash_bytes", "macs", "cycles"), 0),
        target="tflite",
        recipe="int8",
        accelerator="Ethos_U55_256",
        memory_mode="",
        clock_mhz=500.0,
        resolution=(32, 32),
        trained=False,
        compute_cycles=0,
        latency_ms=0.0,
        operators=(),
        device="ethos-u55-256",
        npu_operators=40,
        cpu_operators=3,
        fallbacks=(CpuFallback(operator="QUANTIZE", output="x", reason="Float32"),),
        compiler="ethos-u-vela 5.1.0",
    )
    report = ethosu.report(facts("tflite", "ethos-u"), estimate)
    assert (report.operators, report.taken, report.partitions) == (43, 40, None)
    assert [(one.operator, one.count) for one in report.left_out] == [
        ("QUANTIZE", 1),
        ("others", 2),
    ]
    assert "--io int8" in report.left_out[0].advice


def test_what_is_documented_of_the_neural_engine_is_told_as_that():
    facts = next(
        one for one in target_facts("coreml").coverage if one.name == computeplan.NEURAL_ENGINE
    )
    report = reports.remarked("coreml", facts, {"conv": 5, "silu": 3, "lstm": 2})
    assert (report.basis, report.operators) == ("documented", 10)
    assert (report.taken, report.partitions) == (None, None)
    (left,) = report.left_out
    assert (left.operator, left.count, left.code) == ("lstm", 2, "CML-NEURALENGINE-OP-UNSUPPORTED")
    assert "https://github.com/hollance/neural-engine" in left.reason
    silu, last = report.notes
    assert silu.startswith("silu (3): computed there by a look-up table")
    assert "https://" in silu
    assert "nothing here was measured" in last


def test_every_remark_on_the_neural_engine_has_a_public_source_and_known_operators():
    facts = {one.name: one for one in target_facts("coreml").coverage}[computeplan.NEURAL_ENGINE]
    named = [operator for remark in facts.remarks for operator in remark.operators]
    assert len(named) == len(set(named))
    assert all(remark.source.startswith("https://") for remark in facts.remarks)
    assert "fp32" not in facts.precisions

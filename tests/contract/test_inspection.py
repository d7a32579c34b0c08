"""Inspecting real artifacts: what their runtimes and partitioners answer here."""

import gc
import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest

from edgese import convert, inspect
from edgese.__main__ import run
from edgese.catalog import target_facts
from edgese.errors import ConfigError, DeviceError, InputError, MissingDependency
from edgese.inspection import graphs, partitioners, usability
from edgese.inspection.pieces import pieces
from edgese.store import read_manifest
from edgese.targets import target_module
from edgese.targets.apart import load_apart

for package in ("torch", "onnx", "onnxruntime", "ai_edge_litert", "executorch"):
    pytest.importorskip(package)

GATES = 2


@pytest.fixture(scope="module")
def artifacts(tiny_spec, tmp_path_factory):
    """A tiny network with hard-sigmoid gates, for three targets."""
    folder = tmp_path_factory.mktemp("inspected")
    spec = folder / "tiny.toml"
    hard = tiny_spec.replace(
        "se = { reduction = 4 }", 'se = { reduction = 4, gate = "hard_sigmoid" }'
    )
    assert hard != tiny_spec
    spec.write_text(hard)
    rows = convert(spec, ["onnxruntime", "tflite", "executorch"], weights="none", out=folder)
    assert [row.error for row in rows] == ["", "", ""]
    return {row.target: Path(row.artifact) for row in rows}


def by_name(inspection):
    return {each.delegate: each for each in inspection.delegates}


def test_a_hard_sigmoid_splits_the_graph_for_nnapi(artifacts):
    inspection = inspect(artifacts["onnxruntime"])
    nnapi = by_name(inspection)["nnapi"]
    assert nnapi.basis == "checked"
    assert nnapi.partitions == GATES + 1 == len(nnapi.partition_sizes)
    assert sum(nnapi.partition_sizes) == nnapi.taken == nnapi.operators - GATES
    (gates,) = nnapi.left_out
    assert (gates.operator, gates.count) == ("HardSigmoid", GATES)
    assert gates.code == "ORT-NNAPI-HARDSIGMOID"
    assert f"splits the graph in {GATES + 1}; were it taken, there would be 1" in gates.advice
    assert by_name(inspection)["coreml"].whole


def test_onnx_runtimes_check_counts_pieces_as_the_advice_does(artifacts):
    facts = {each.name: each for each in target_facts("onnxruntime").coverage}
    import onnx

    path = artifacts["onnxruntime"]
    found = usability.checked(path, facts)["coreml-neuralnetwork"]
    refused = {one.operator for one in found.left_out}
    assert refused
    nodes = graphs.onnx_nodes(onnx.load(str(path)).graph)
    # The basic optimizations change nothing of this graph but names.
    assert len(nodes) == found.operators
    groups = pieces(nodes, [node.operator not in refused for node in nodes])
    assert tuple(map(len, groups)) == found.partition_sizes


def test_the_own_delegate_is_told_with_the_sizes_of_its_pieces(artifacts):
    for target, basis in (("tflite", "asked"), ("onnxruntime", "asked"), ("executorch", "read")):
        manifest = read_manifest(artifacts[target])
        inspection = inspect(artifacts[target], manifest.delegate)
        (own,) = inspection.delegates
        assert own.basis == basis
        assert own.operators == sum(inspection.operators.values())
        assert len(own.partition_sizes) == own.partitions
        assert sum(own.partition_sizes) >= own.taken > 0


def test_the_order_that_tflite_tells_can_be_executed(artifacts):
    nodes = graphs.tflite_nodes(artifacts["tflite"])
    assert len(nodes) == sum(inspect(artifacts["tflite"], "xnnpack").operators.values())
    assert pieces(nodes, [True] * len(nodes)) == (tuple(range(len(nodes))),)


def test_executorchs_partitioners_are_asked_about_the_network(artifacts):
    inspection = inspect(artifacts["executorch"], "coreml")
    (report,) = inspection.delegates
    assert report.basis == "asked"
    assert report.whole, report.left_out
    assert "lowered anew" in report.notes[0]


def test_vulkans_partitioner_gives_a_reason_for_what_it_leaves():
    import torch
    from torch import nn

    class Net(nn.Module):
        def forward(self, x):
            return torch.asinh(torch.relu(x)).mean((2, 3))

    program = torch.export.export(Net().eval(), (torch.rand(1, 3, 16, 16),))
    facts = {each.name: each for each in target_facts("executorch").coverage}["vulkan"]
    report = partitioners.asked_about(program, facts)
    reasons = {one.operator: (one.code, one.reason) for one in report.left_out}
    assert reasons["aten.asinh.default"] == (
        "ET-VULKAN-OP-UNSUPPORTED",
        "no operator implementation",
    )
    assert reasons["aten.mean.dim"] == ("ET-VULKAN-MEAN", "op args not supported")
    assert report.taken == report.operators - 2 > 0


def test_ethos_u_answers_for_int8_alone(artifacts):
    (report,) = inspect(artifacts["tflite"], "ethos-u").delegates
    assert report.basis == "documented"
    assert {one.code for one in report.left_out} == {"TFL-ETHOSU-PRECISION"}


def test_unknown_delegates_and_foreign_ones_are_refused(artifacts):
    with pytest.raises(ConfigError) as caught:
        inspect(artifacts["tflite"], "nnapi")
    assert "xnnpack, gpu, ethos-u" in caught.value.hint
    with pytest.raises(ConfigError, match="compiled for the delegate 'xnnpack'"):
        inspect(artifacts["executorch"], "portable")


def test_the_gpu_delegate_without_a_software_gpu_says_how_to_set_one_up(
    artifacts, monkeypatch, tmp_path
):
    monkeypatch.setenv("EDGESE_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr("edgese.devices.vulkan._installed", lambda _: None)
    with pytest.raises(MissingDependency) as caught:
        inspect(artifacts["tflite"], "gpu", vulkan="lavapipe")
    assert caught.value.hint == "edgese emulator setup --gpu-only"


def test_what_cannot_be_asked_is_listed_and_ends_nothing(artifacts, monkeypatch):
    def broken(*_, **__):
        raise DeviceError("It crashed.", hint="Try another.")

    monkeypatch.setattr("edgese.inspection.gpu.asked", broken)
    inspection = inspect(artifacts["tflite"])
    assert list(by_name(inspection)) == ["xnnpack"]
    assert [(one.delegate, one.reason) for one in inspection.not_asked] == [
        ("gpu", "It crashed."),
        ("ethos-u", "Ethos-U, by Vela executes int8."),
    ]


def test_the_command_prints_the_record_as_json_and_tables(artifacts, capsys):
    assert run(["inspect", str(artifacts["onnxruntime"]), "--delegate", "nnapi", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["delegates"][0]["left_out"][0]["code"] == "ORT-NNAPI-HARDSIGMOID"
    assert run(["inspect", str(artifacts["onnxruntime"]), "--delegate", "nnapi"]) == 0
    text = capsys.readouterr().out
    assert "checked" in text
    assert "ORT-NNAPI-HARDSIGMOID: This HardSigmoid splits the graph in 3" in text


def test_an_artifact_that_runs_apart_gives_the_same_numbers_in_another_folder(
    artifacts, tmp_path, monkeypatch
):
    path = artifacts["onnxruntime"]
    interface = read_manifest(path).interface
    images = np.random.default_rng(0).normal(size=(3, 3, 32, 32)).astype(np.float32)
    monkeypatch.chdir(path.parent)
    apart = load_apart("onnxruntime", Path(path.name), interface, threads=1)
    monkeypatch.chdir(tmp_path)
    here = target_module("onnxruntime").load(path, interface, threads=1)
    np.testing.assert_array_equal(apart(images), here(images))


def test_a_runtime_that_aborts_is_an_error_about_the_artifact(artifacts):
    path = artifacts["onnxruntime"]
    predictor = load_apart("onnxruntime", path, read_manifest(path).interface, threads=1)
    os.kill(predictor.worker.process.pid, signal.SIGABRT)
    with pytest.raises(InputError, match="SIGABRT") as caught:
        predictor(np.zeros((1, 3, 32, 32), np.float32))
    assert str(path) in caught.value.message
    assert "convert the model again" in caught.value.hint


def test_a_predictor_takes_its_process_with_it(artifacts):
    path = artifacts["onnxruntime"]
    predictor = load_apart("onnxruntime", path, read_manifest(path).interface, threads=1)
    process = predictor.worker.process
    assert process.poll() is None
    del predictor
    gc.collect()
    assert process.poll() is not None

"""The operators listed for delegates, against the packages that they were read from."""

import importlib.util
import re
from pathlib import Path

import pytest

from edgese.catalog import target_facts


def listed(target, delegate):
    return {each.name: each for each in target_facts(target).coverage}[delegate].operators


def spelled(operator):
    """An exported program's name of an operator: the overload is always told."""
    name = operator.name().removeprefix("aten::")
    return (name if "." in name else f"{name}.default").removeprefix("aten.")


def test_xnnpack_takes_the_listed_operators_in_executorch():
    config = pytest.importorskip("executorch.backends.xnnpack.partition.config")
    taken = {each.target_name for each in config.ALL_PARTITIONER_CONFIGS}
    assert set(listed("executorch", "xnnpack")) == taken


def test_vulkan_takes_the_listed_operators_in_executorch():
    registry = pytest.importorskip("executorch.backends.vulkan.op_registry")
    taken = {
        spelled(each)
        for each in registry.vulkan_supported_ops
        if hasattr(each, "name") and each.name().startswith("aten")
    }
    assert set(listed("executorch", "vulkan")) == taken


@pytest.mark.parametrize(
    ("delegate", "page"),
    [("nnapi", "nnapi_supported_ops.md"), ("coreml", "coreml_supported_mlprogram_ops.md")],
)
def test_providers_take_the_listed_operators_in_onnx_runtime(delegate, page):
    found = importlib.util.find_spec("onnxruntime")
    if found is None:
        pytest.skip("onnxruntime is not installed")
    text = (Path(found.origin).parent / "tools" / "mobile_helpers" / page).read_text("utf-8")
    taken = set(re.findall(r"^\|(?:ai\.onnx|com\.microsoft)[:.](\w+)\|", text, re.MULTILINE))
    assert set(listed("onnxruntime", delegate)) == taken

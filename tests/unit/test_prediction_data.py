"""The tables of measurements hold together, and networks count what is published of them."""

import pytest

from edgese.models.cost import cost
from edgese.models.registry import find_model
from edgese.prediction import networks, npu, tables
from edgese.prediction.ncnn import MODELS
from edgese.prediction.work import KINDS, work

# Millions of multiply-adds; the table of each network tells where they are published.
TABLES = {name: networks.network_table(name) for name in networks.table_names()}
PUBLISHED = [name for name, table in TABLES.items() if table.published_mmacs]


@pytest.mark.parametrize("name", PUBLISHED)
def test_multiply_adds_of_a_table_are_the_published_ones(name):
    _, layers = networks.layers(name, None)
    counted = sum(layer.macs for layer in layers) / 1e6
    assert counted == pytest.approx(TABLES[name].published_mmacs, rel=0.01)


def test_most_tables_have_a_published_count():
    assert len(PUBLISHED) > 0.6 * len(TABLES)


@pytest.mark.parametrize(
    "name", ["efficientnet_b0", "efficientnet_v2_s", "se_resnet50", "resnet18"]
)
def test_layers_of_a_model_are_its_cost(name):
    spec = find_model(name)
    resolution, layers = networks.of_spec(spec)
    counted = cost(spec)
    assert resolution == (counted.height, counted.width)
    assert sum(layer.macs for layer in layers) == counted.macs


def test_silu_counts_once_and_a_gates_product_stays():
    _, layers = networks.layers("efficientnet_b0", (224, 224))
    products = [layer for layer in layers if layer.kind == "mul"]
    assert len(products) == 16


def test_work_is_all_of_a_network():
    _, layers = networks.layers("mobilenet_v2", None)
    ones = dict(zip(KINDS, work(layers, (1.0,) * len(KINDS)), strict=True))
    macs = sum(ones[kind] for kind in ("pointwise", "winograd", "dense", "depthwise"))
    # A linear layer's multiply-adds are its weights, which are counted as such.
    assert macs + ones["linear"] == sum(layer.macs for layer in layers)
    assert ones["operators"] == len(layers)


def test_every_row_is_of_a_known_device_with_known_cores():
    devices = tables.measured_devices()
    kinds = tables.core_kinds()
    assert {row.device for row in tables.cpu_rows()} == set(devices)
    assert {each.kind for device in devices.values() for each in device.cores} <= set(kinds)
    assert {row.device for row in tables.runtime_rows()} == set(tables.litert_devices())


def test_every_kind_of_core_says_where_its_width_was_read():
    named = ("https://", "cpufp, ", "vfpbench, ", "LLVM, ", "Guide ")
    assert all(any(name in each.source for name in named) for each in tables.core_kinds().values())


def test_every_row_is_of_a_network_whose_layers_are_known():
    names = {MODELS.get(row.network, row.network) for row in tables.cpu_rows()}
    names |= {row.network for row in (*tables.runtime_rows(), *tables.npu_rows())}
    for name in names:
        assert networks.layers(name, None)[1]


def test_rows_are_positive_and_not_doubled():
    for rows, figure in (
        (tables.cpu_rows(), "mean_ms"),
        (tables.runtime_rows(), "latency_ms"),
        (tables.npu_rows(), "latency_ms"),
    ):
        assert min(getattr(row, figure) for row in rows) > 0
        assert len(set(rows)) == len(rows)


def test_npus_of_the_catalogue_of_generations_are_in_the_table():
    assert {each.name for each in tables.npus().devices} <= {
        row.device for row in tables.npu_rows()
    }
    assert npu.found("Qualcomm Snapdragon 8 Gen 3 for Galaxy (SM8650)").generation == 75
    assert npu.found("Google Tensor G3") is None

"""A Ray cluster of two nodes with a device each."""

import pytest

from edgese.records.budget import BudgetTable
from edgese.records.measurement import MeasurePlan
from edgese.selection.api import select
from edgese.selection.candidates import enumerated
from edgese.selection.deciding import Aim
from edgese.selection.executors import RESOURCE
from edgese.selection.work import Order

ray = pytest.importorskip("ray", reason="ray is not installed: pip install 'edgese[ray]'")


@pytest.fixture
def cluster(monkeypatch):
    """Two nodes on this machine, each of which says that it has one device."""
    from ray.cluster_utils import Cluster as Nodes

    monkeypatch.setenv("RAY_DISABLE_IMPORT_WARNING", "1")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    small = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "include_dashboard": False}
    nodes = Nodes(initialize_head=True, head_node_args=small | {"resources": {RESOURCE: 1}})
    nodes.add_node(num_cpus=1, object_store_memory=80 * 2**20, resources={RESOURCE: 1})
    yield nodes
    ray.shutdown()
    nodes.shutdown()


# What ray does itself with sockets and files that it leaves open.
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::FutureWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_each_node_measures_what_the_other_does_not(cluster, tmp_path):
    candidates = enumerated(
        ["resnet20_small"],
        targets=["onnxruntime"],
        recipes=["fp32"],
        resolutions=[(16, 16), (24, 24), (32, 32)],
    )
    order = Order(
        device="host",
        plan=MeasurePlan(threads=1, launches=4, blocks=4, min_runs=8, min_time_s=0.02),
        folder=str(tmp_path),
    )
    found = select(
        candidates,
        Aim(BudgetTable(latency_p50_ms=1e4).limits()),
        order,
        everything=True,
        ray=cluster.address,
    )
    assert [one.error for one in found.findings] == [""] * 3
    assert len({one.worker for one in found.findings}) == 2
    assert all(
        one.figure("latency_p50_ms").source == "measured" for one in found.decision.standings
    )
    # Everything was kept here, so that no cluster is needed to look at it again.
    again = select(
        candidates, Aim(BudgetTable(latency_p50_ms=1e4).limits()), order, everything=True
    )
    assert again.decision == found.decision

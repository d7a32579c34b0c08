from hypothesis import given
from hypothesis import strategies as st

from edgese import machine
from edgese.conversion.pool import Limits, Waiting, startable
from edgese.records.artifact import ModelCard, ParityBound, Recipe, TargetOptions
from edgese.records.conversion import ConversionJob
from edgese.records.model import Preprocessing


def waiting(memory_mb):
    bound = ParityBound(min_cosine=0.9, min_sqnr_db=30)
    job = ConversionJob(
        target="t",
        card=ModelCard(name="net", classes=1, preprocessing=Preprocessing()),
        recipe=Recipe(name="fp32", precision="fp32", summary="", parity=bound),
        options=TargetOptions(),
        delegate="cpu",
        program="",
        reference="",
        artifact="",
        threads=1,
    )
    return Waiting(job=job, folder="", memory_mb=memory_mb)


def started(waits, runs=(), *, workers=4, memory_mb=1000):
    limits = Limits(workers=workers, memory_mb=memory_mb, threads=1)
    chosen = startable([waiting(m) for m in waits], [waiting(m) for m in runs], limits)
    return [job.memory_mb for job in chosen]


def test_no_more_start_than_workers_are_allowed():
    assert started([1, 2, 3], workers=2) == [1, 2]


def test_running_workers_count():
    assert started([1, 2, 3], [9], workers=2) == [1]


def test_one_that_does_not_fit_lets_a_smaller_one_go_first():
    assert started([600, 600, 300]) == [600, 300]


def test_one_that_never_fits_runs_alone():
    assert started([5000, 10]) == [5000]


def test_one_that_never_fits_waits_until_it_is_alone():
    assert started([5000], [10]) == []


SIZES = st.lists(st.integers(0, 2000), max_size=6)


@given(SIZES, SIZES, st.integers(1, 4))
def test_memory_is_exceeded_by_a_lone_worker_only(waits, runs, workers):
    chosen = started(waits, runs, workers=workers)
    assert sum(chosen) + sum(runs) <= 1000 or len(chosen) == 1 - bool(runs) or not chosen
    assert len(chosen) <= max(0, workers - len(runs))


@given(SIZES.filter(bool), st.integers(1, 4))
def test_something_always_starts_where_nothing_runs(waits, workers):
    assert started(waits, workers=workers)


def test_memory_that_a_container_allows_counts_with_what_it_uses(tmp_path):
    (tmp_path / "memory.max").write_text(str(2**30))
    (tmp_path / "memory.current").write_text(str(2**29))
    (tmp_path / "memory.stat").write_text(f"anon 1\ninactive_file {2**28}\n")
    assert list(machine._room_mb(tmp_path)) == [768]  # noqa: SLF001 - the files stand elsewhere


def test_a_container_without_a_limit_sets_none(tmp_path):
    (tmp_path / "memory.max").write_text("max")
    (tmp_path / "memory.current").write_text("1")
    assert list(machine._room_mb(tmp_path)) == []  # noqa: SLF001 - the files stand elsewhere


def test_this_machine_has_cores_and_memory():
    assert machine.cores() >= 1
    assert machine.available_memory_mb() > 0
    assert machine.peak_memory_mb() > 1

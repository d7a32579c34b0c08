from hypothesis import given
from hypothesis import strategies as st

from edgese.conversion.pool import Limits, Waiting, startable
from edgese.records.artifact import ModelCard, ParityBound, Recipe, TargetOptions
from edgese.records.job import ConversionJob
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

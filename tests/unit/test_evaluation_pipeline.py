import threading
import time
from contextlib import closing

import pytest

from edgese.evaluation.pipeline import ahead


def test_results_come_in_order_whatever_finishes_first():
    def work(i: int) -> int:
        time.sleep(0.002 * (i % 3))
        return i * i

    assert list(ahead(work, range(20), workers=4, waiting=8)) == [i * i for i in range(20)]


def test_no_more_is_begun_than_may_wait():
    begun: list[int] = []
    with closing(ahead(begun.append, range(100), workers=2, waiting=5)) as results:
        next(results)
        time.sleep(0.05)
        assert len(begun) <= 6


def test_an_error_is_raised_at_its_turn():
    def work(i: int) -> float:
        return 1 / (i - 3)

    results = ahead(work, range(10), workers=2, waiting=4)
    assert [next(results) for _ in range(3)] == [-1 / 3, -1 / 2, -1.0]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_closing_ends_the_threads():
    with closing(ahead(abs, range(10), workers=2, waiting=4)) as results:
        next(results)
        assert any(thread.name.startswith("edgese-pictures") for thread in threading.enumerate())
    assert not any(t.name.startswith("edgese-pictures") for t in threading.enumerate())


def test_nothing_gives_nothing():
    assert list(ahead(abs, (), workers=1, waiting=1)) == []

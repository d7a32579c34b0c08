"""Work in order on several threads."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from edgese import machine
from edgese.parallel import Lanes, in_order


def test_results_come_in_the_order_of_the_items_whichever_is_done_first():
    def work(number):
        time.sleep(0.02 if number % 2 == 0 else 0)
        return number

    with ThreadPoolExecutor(4) as pool:
        assert list(in_order(pool, work, range(9), waiting=4)) == list(range(9))


def test_no_more_items_are_begun_than_may_wait():
    taken = []

    def items():
        for number in range(10):
            taken.append(number)
            yield number

    with ThreadPoolExecutor(2) as pool:
        results = in_order(pool, lambda number: number, items(), waiting=3)
        assert next(results) == 0
        assert len(taken) == 4
        results.close()
    assert len(taken) == 4


def test_an_error_comes_at_its_turn_and_ends_what_is_not_begun():
    begun, release = [], threading.Event()

    def work(number):
        begun.append(number)
        if number == 1:
            raise ValueError(number)
        if number > 1:
            release.wait(5)
        return number

    with ThreadPoolExecutor(1) as pool:
        results = in_order(pool, work, range(8), waiting=8)
        assert next(results) == 0
        with pytest.raises(ValueError, match="1"):
            next(results)
        release.set()
    assert max(begun) <= 2


def test_memory_bounds_the_lanes(monkeypatch):
    monkeypatch.setattr(machine, "cores", lambda: 16)
    monkeypatch.setattr(machine, "available_memory_mb", lambda: 1000)
    assert Lanes().count == 16
    assert Lanes(memory_mb=300).count == 3
    assert Lanes(memory_mb=5000).count == 1
    assert Lanes(memory_mb=1, count=2).count == 2

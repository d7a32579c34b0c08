"""Pictures read and prepared ahead of whoever computes with them."""

from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from edgese.parallel import in_order

Item = TypeVar("Item")
Result = TypeVar("Result")


def ahead(
    work: Callable[[Item], Result], items: Iterable[Item], *, workers: int, waiting: int
) -> Generator[Result]:
    """``work`` of each item, in order, done by threads while the caller is busy with earlier ones.

    Close it, or exhaust it: its threads end with it. Threads suffice, because Pillow and the
    runtimes release Python's lock while they compute.

    Args:
        workers: threads.
        waiting: results that are begun or done and not yet taken, at most; it bounds memory.

    Raises:
        Whatever ``work`` raises, at that item's turn. What is not begun by then is not begun.
    """
    with ThreadPoolExecutor(workers, thread_name_prefix="edgese-pictures") as pool:
        yield from in_order(pool, work, items, waiting=waiting)

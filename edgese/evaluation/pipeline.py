"""Pictures read and prepared ahead of whoever computes with them."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

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
    queue: deque[Future[Result]] = deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="edgese-pictures")
    try:
        for item in items:
            if len(queue) >= waiting:
                yield queue.popleft().result()
            queue.append(pool.submit(work, item))
        while queue:
            yield queue.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)

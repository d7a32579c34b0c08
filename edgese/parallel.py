"""Runs torch so that its numbers depend neither on the number of cores nor on a caller's script.

Torch divides each operator among its threads, and where a sum is divided, its rounding depends on
their number; so does the kernel that oneDNN chooses. Here one thread computes each piece of work,
several pieces run at once, and their results come in the order of the pieces. The number of lanes
then decides how long it takes, and nothing else. What a script has set for itself, such as a
default type or less precise matrix products, does not count meanwhile.
"""

import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from edgese import machine
from edgese.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

Item = TypeVar("Item")
Result = TypeVar("Result")

# Pieces that wait for a lane, besides those that run: a lane that is done finds the next at once.
_WAITING: Final = 2


def in_order(
    executor: Executor,
    work: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    waiting: int,
) -> Generator[Result]:
    """Yield ``work`` of each item, in order, while the executor computes later ones.

    Args:
        waiting: results that are begun or done and not yet taken, at most; it bounds memory.

    Raises:
        Whatever ``work`` raises, at that item's turn. What is not begun by then is not begun.
    """
    queue: deque[Future[Result]] = deque()
    try:
        for item in items:
            if len(queue) >= waiting:
                yield queue.popleft().result()
            queue.append(executor.submit(work, item))
        while queue:
            yield queue.popleft().result()
    finally:
        for future in queue:
            future.cancel()


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Let torch compute with so many threads meanwhile, in the thread that calls.

    Raises:
        ConfigError: OpenMP was told to give fewer.
    """
    import torch

    _check_openmp(count)
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _check_openmp(count: int) -> None:
    """Raise where OpenMP may give fewer threads than oneDNN asks for: it would wait for ever."""
    limit = os.environ.get("OMP_THREAD_LIMIT", "")
    dynamic = os.environ.get("OMP_DYNAMIC", "").strip().lower() in ("true", "1")
    fewer = limit.strip().isdecimal() and int(limit) < count
    if count > 1 and (fewer or dynamic):
        name = "OMP_THREAD_LIMIT" if fewer else "OMP_DYNAMIC"
        raise ConfigError(
            f"{name} is {os.environ[name]}, so OpenMP may give fewer than the {count} threads that "
            "torch computes with here, and torch would wait for them for ever.",
            hint=f"Run it without that variable: `env -u {name} edgese ...`.",
        )


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch compute with one thread meanwhile, in the thread that calls; also a decorator."""
    with torch_threads(1):
        yield


@contextmanager
def own_settings() -> Iterator[None]:
    """Let torch compute on the CPU as in a new process meanwhile; also a decorator.

    Ignored are the caller's default type and device, autocast, inference mode, switched-off
    gradients, and whether and how precisely oneDNN computes: each changes numbers, or what can be
    computed at all. What concerns GPUs alone stays. A torch that nobody has imported has no
    settings, and is not imported for that.
    """
    if "torch" not in sys.modules:
        yield
        return
    import torch

    with ExitStack() as stack:
        stack.enter_context(_SETTINGS)
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        for device in ("cpu", "cuda"):
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        if torch.is_inference_mode_enabled():
            stack.enter_context(torch.inference_mode(mode=False))
        stack.enter_context(torch.enable_grad())
        yield


class _Settings:
    """Settings of torch that all threads share; the last of several that need ours puts back."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._put_back = ExitStack()

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._set()
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._put_back.close()

    def _set(self) -> None:
        import torch

        if (dtype := torch.get_default_dtype()) != torch.float32:
            self._put_back.callback(torch.set_default_dtype, dtype)
            torch.set_default_dtype(torch.float32)
        # Module and parts are made when torch starts, where no type checker sees them.
        onednn: Any = torch.backends.mkldnn
        precise = [(part, "fp32_precision", "ieee") for part in (onednn.matmul, onednn.conv)]
        for holder, name, ours in (*precise, (onednn, "enabled", True)):
            self._put_back.callback(setattr, holder, name, getattr(holder, name))
            setattr(holder, name, ours)


_SETTINGS: Final = _Settings()


class Lanes:
    """Threads that each compute one piece of work at a time, with one thread of torch; a context.

    The thread that calls computes with one thread of torch meanwhile, too.

    Args:
        memory_mb: what one piece takes while it is computed, in MiB; it bounds the number of lanes.
        count: the most lanes; None for the cores that this process may use.
    """

    def __init__(self, memory_mb: float = 0.0, count: int | None = None) -> None:
        self.count = count or machine.cores()
        if memory_mb:
            self.count = max(1, min(self.count, int(machine.available_memory_mb() / memory_mb)))
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._stack.enter_context(one_thread())
        if self.count > 1:
            self._pool = ThreadPoolExecutor(
                self.count, thread_name_prefix="edgese-lane", initializer=_compute_alone
            )
            self._stack.callback(self._pool.shutdown, cancel_futures=True)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def map(self, work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Yield ``work`` of each item, in order.

        Modes of torch such as `torch.no_grad` hold for the thread that sets them: ``work`` sets its
        own.
        """
        if self.count == 1:
            return map(work, items)
        return in_order(self._pool, work, items, waiting=self.count * _WAITING)


def batches(images: "NDArray[np.float32]", batch: int) -> "Iterator[Tensor]":
    """Yield the images a batch at a time, (batch, 3, H, W); the first ones fill up the last batch.

    Args:
        images: (count, 3, H, W).
    """
    import numpy as np
    import torch

    for start in range(0, len(images), batch):
        part = images[start : start + batch]
        missing = np.resize(images, (batch - len(part), *images.shape[1:]))
        # A copy: numpy's memory begins anywhere, and some kernels sum in another order then.
        yield torch.from_numpy(np.concatenate([part, missing])).clone()


def outputs(
    run: "Callable[[Tensor], Tensor]",
    images: "NDArray[np.float32]",
    batch: int,
    *,
    memory_mb: float = 0.0,
    lanes: int | None = None,
) -> "NDArray[np.float32]":
    """Return what ``run`` gives for all images, (count, classes), computed a batch at a time.

    Args:
        run: (batch, 3, H, W) to (batch, classes); it is called by several threads at once, without
            gradients.
        images: (count, 3, H, W), for any count.
        memory_mb: as in `Lanes`.
        lanes: the most; 1 for a ``run`` that only one thread at a time may call.
    """
    import numpy as np
    import torch

    def computed(part: "Tensor") -> "NDArray[np.float32]":
        with torch.no_grad():
            given: NDArray[np.float32] = run(part).float().numpy()
        return given

    with Lanes(memory_mb, lanes) as open_lanes:
        rows = list(open_lanes.map(computed, batches(images, batch)))
    return np.concatenate(rows)[: len(images)]


def _compute_alone() -> None:
    import torch

    # A new thread takes torch's own number only with torch's first parallel loop: oneDNN, which
    # asks OpenMP, may come before.
    torch.set_num_threads(1)

"""Runs artifacts in a process of their own, so that a damaged one cannot end this process."""

import threading
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Final

from edgese.errors import DeviceError, InputError
from edgese.protocols import Predictor
from edgese.records.artifact import Interface
from edgese.workers import Worker

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_DAMAGED: Final = "It may be damaged or of another kind; convert the model again."


def load_apart(name: str, artifact: Path, interface: Interface, *, threads: int) -> Predictor:
    """Load an artifact as `Target.load` does, in a process that ends with the predictor.

    Runtimes check little of what they read: a damaged file can end the process that runs it, with
    no chance to say anything.

    Args:
        name: of the target.

    Raises:
        InputError: the artifact cannot be loaded or run, or its runtime ended.
        Others as `Target.load`.
    """
    return _Apart(name, artifact, interface, threads)


class _Loaded:
    """Runs in the other process: None loads the artifact, images are computed with it."""

    def __init__(self, name: str, artifact: Path, interface: Interface, threads: int) -> None:
        self.name, self.artifact, self.interface = name, artifact, interface
        self.threads = threads
        self.predictor: Predictor | None = None

    def __call__(self, images: "NDArray[np.float32] | None") -> "NDArray[np.float32] | None":
        from edgese.targets import target_module

        if images is None:
            target = target_module(self.name)
            self.predictor = target.load(self.artifact, self.interface, threads=self.threads)
            return None
        assert self.predictor is not None  # noqa: S101  # `_Apart` sends None first
        return self.predictor(images)


class _Apart:
    """A predictor whose work another process does."""

    def __init__(self, name: str, artifact: Path, interface: Interface, threads: int) -> None:
        self.artifact = artifact
        self.lock = threading.Lock()
        # The caller may change its current folder before the process reads the file.
        self.worker = Worker(
            _Loaded(name, artifact.absolute(), interface, threads),
            lambda result: result,
            f"run {artifact}",
            hint=_DAMAGED,
        )
        weakref.finalize(self, self.worker.end)
        self._ask(None)

    def __call__(self, pictures: "NDArray[np.float32]") -> "NDArray[np.float32]":
        """See `Predictor`."""
        found: NDArray[np.float32] = self._ask(pictures)
        return found

    def _ask(self, item: object) -> "NDArray[np.float32]":
        with self.lock:
            self.worker.give(item)
            try:
                found: NDArray[np.float32] = self.worker.take()
            except DeviceError as error:
                raise InputError(error.message, hint=error.hint) from error
        return found

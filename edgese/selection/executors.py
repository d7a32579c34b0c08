"""Who does the work: this process, or the workers of a Ray cluster with a device each."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from edgese.errors import ConfigError, EdgeseError, MissingDependency
from edgese.protocols import Progress
from edgese.records.selection import Finding
from edgese.scratch import outside
from edgese.selection.scheduler import Step
from edgese.selection.work import Order, made, perform
from edgese.workers import in_order

if TYPE_CHECKING:
    from edgese.records.selection import Candidate

# What a node of a cluster is started with for each device that it has:
# ray start --resources '{"edgese_device": 1}'
RESOURCE: Final = "edgese_device"

Wanted = Callable[[Step], bool]


class Executors(Protocol):
    """Does several pieces of work."""

    @property
    def size(self) -> int:
        """How many it should be given at once."""

    def perform(
        self,
        steps: Sequence[Step],
        order: Order,
        artifacts: "dict[Candidate, str]",
        wanted: Wanted,
    ) -> Iterator[Finding]:
        """The findings as they come; a step that is no longer wanted may be left out."""


class Alone:
    """This machine: conversions in several processes, and each measurement alone.

    Args:
        workers: processes that convert at once. Nothing is measured meanwhile.
    """

    def __init__(self, workers: int, progress: Progress) -> None:
        self.size = workers
        self._progress = progress

    def perform(
        self,
        steps: Sequence[Step],
        order: Order,
        artifacts: "dict[Candidate, str]",
        wanted: Wanted,
    ) -> Iterator[Finding]:
        """See `Executors.perform`."""
        converting = [
            step
            for step in steps
            if step.work in ("look", "artifact") and not artifacts.get(step.candidate)
        ]
        if len(converting) > 1:
            self._converted(converting, order)
        for step in steps:
            if wanted(step):
                yield perform(step, order, artifacts.get(step.candidate, ""), self._progress)

    def _converted(self, steps: Sequence[Step], order: Order) -> None:
        """Fills the folder of artifacts; what fails here fails again, and is told, alone."""
        tried = in_order(
            partial(_tried, order),
            [step.candidate for step in steps],
            workers=self.size,
            ahead=1,
            doing="convert candidates",
            receive=bool,
        )
        stage = f"convert {len(steps)} candidates"
        self._progress(stage, 0.0)
        # One that dies takes the rest of this with it, and no more: each is tried again alone.
        with closing(tried), suppress(EdgeseError):
            for number, _ in enumerate(tried, 1):
                self._progress(stage, number / len(steps))


def _tried(order: Order, candidate: "Candidate") -> bool:
    """Whether a candidate could be converted."""
    with suppress(EdgeseError):
        made(candidate, order)
        return True
    return False


class Cluster:
    """The workers of a Ray cluster; each does one piece of work at a time.

    Every node needs edgese with its runtimes, and ``ray start --resources '{"edgese_device": 1}'``
    for each device that it measures on. Weights and pictures are looked for under the same absolute
    paths on each; artifacts stay on the node that made them.

    Args:
        address: as ray.init takes it: "auto", "HOST:PORT" or "ray://HOST:PORT".

    Raises:
        MissingDependency: ray is not installed.
        ConfigError: no cluster answers, or none of its nodes has a device.
    """

    def __init__(self, address: str, progress: Progress) -> None:
        # Where the cluster says that it is.
        os.environ.setdefault("RAY_TMPDIR", outside().get("TMPDIR", "/tmp"))  # noqa: S108  # Ray's
        try:
            import ray
        except ModuleNotFoundError as error:
            raise MissingDependency(
                "A cluster needs ray, which is not installed.", hint="pip install 'edgese[ray]'"
            ) from error
        self._ray = ray
        self._progress = progress
        if not ray.is_initialized():
            try:
                ray.init(address=address, log_to_driver=False, logging_level="error")
            except (ConnectionError, ValueError) as error:
                raise ConfigError(
                    f"No Ray cluster answers at {address!r}: {error}",
                    hint="Start one: ray start --head --resources "
                    f"'{{\"{RESOURCE}\": 1}}' on the first node.",
                ) from error
        self.size = int(ray.cluster_resources().get(RESOURCE, 0))
        if not self.size:
            raise ConfigError(
                f"No node of the Ray cluster at {address!r} has a device.",
                hint=f"Start each with: ray start ... --resources '{{\"{RESOURCE}\": 1}}'.",
            )

    def perform(
        self,
        steps: Sequence[Step],
        order: Order,
        artifacts: "dict[Candidate, str]",
        wanted: Wanted,
    ) -> Iterator[Finding]:
        """See `Executors.perform`; what was begun is finished, wanted or not."""
        del wanted
        # Workers start elsewhere, so that a relative path would be another one.
        order = msgspec.structs.replace(order, folder=str(Path(order.folder).absolute()))
        # One task at a time on each device; a node that dies has its task done by another.
        task = self._ray.remote(_on_node).options(
            num_cpus=0, resources={RESOURCE: 1}, max_retries=2
        )
        left = [task.remote(step, order, artifacts.get(step.candidate, "")) for step in steps]
        every = len(left)
        while left:
            done, left = self._ray.wait(left)
            self._progress(f"{every} candidates on the cluster", 1 - len(left) / every)
            for one in done:
                try:
                    found: Finding = self._ray.get(one)
                except self._ray.exceptions.RayTaskError as error:
                    # What edgese raises on purpose keeps its kind, its hint and its exit code.
                    if isinstance(error.cause, EdgeseError):
                        raise error.cause from error
                    raise
                yield found


def _on_node(step: Step, order: Order, artifact: str) -> Finding:
    """The work, on a node of a cluster, which is told."""
    import ray

    node = str(ray.get_runtime_context().get_node_id())
    return msgspec.structs.replace(perform(step, order, artifact), worker=node)

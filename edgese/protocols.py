"""The seams: what a target, a device and a progress display must offer.

Implementers are modules (PEP 544), listed in literal tables: `edgese.targets.TARGETS` and
`edgese.devices.TRANSPORTS`.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from edgese.records.artifact import (
    Interface,
    ModelCard,
    OperatorReport,
    Recipe,
    TargetOptions,
)
from edgese.records.measurement import DeviceInfo, Job, Outcome

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch.export import ExportedProgram


class Progress(Protocol):
    """Takes news of a long work."""

    def __call__(self, stage: str, fraction: float) -> None:
        """Says what is being done now and how much of the whole is behind, in 0..1."""


class Predictor(Protocol):
    """An artifact loaded in its runtime on this host, or in what stands in for that."""

    def __call__(self, pictures: "NDArray[np.float32]") -> "NDArray[np.float32]":
        """Preprocessed pictures (N, 3, H, W) to logits (N, classes), for any N.

        Layout, batch and data type of the artifact's own interface are met inside.
        """


class Target(Protocol):
    """A runtime and its file format; a module in `edgese.targets`.

    What is a fact rather than behaviour (suffix, packages, delegates, precisions) stands in
    ``targets/<NAME>.toml`` and is read by `edgese.catalog.target_facts`.
    """

    NAME: str

    def prepare(self) -> None:
        """Imports what converting needs, so that it can happen while others still work."""

    def check(self, card: ModelCard, recipe: Recipe, options: TargetOptions) -> None:
        """Raises ConfigError where it cannot do what is asked; needs none of its packages."""

    def convert(
        self,
        program: "ExportedProgram",
        card: ModelCard,
        recipe: Recipe,
        options: TargetOptions,
        dest: Path,
        progress: Progress,
    ) -> Interface:
        """Writes ``program`` to ``dest`` in this target's format.

        Args:
            program: fp32, NCHW, BatchNorm folded into the convolutions.

        Raises:
            ConversionError: names the target and, where known, the operators that it refused.
        """

    def deviation(
        self,
        program: "ExportedProgram",
        card: ModelCard,
        artifact: Path,
        interface: Interface,
        pictures: "NDArray[np.float32]",
    ) -> float | None:
        """How far the saved file is from its program with this target's numbers.

        Both are computed without any rounding but that of the grids. None where the file has the
        program's own numbers, so that comparing answers tells all.

        Args:
            pictures: preprocessed, (N, 3, H, W).

        Returns:
            The largest difference of a logit.

        Raises:
            InputError: the file is not a readable artifact of this target.
            OperatorUnknown: it has an operator that only the runtime itself executes.
        """

    def inspect(self, artifact: Path, delegate: str) -> OperatorReport:
        """Reads the artifact back and counts what it consists of."""

    def unavailable(self) -> str:
        """Why this host cannot execute artifacts of this target; "" where it can."""

    def stand_in(self) -> str:
        """What executes artifacts on this host in the runtime's place; "" where that does itself.

        It computes the same, and its time says nothing of the runtime's.
        """

    def load(self, artifact: Path, interface: Interface, *, threads: int) -> Predictor:
        """The artifact in its runtime, or in what stands in for it.

        Raises:
            InputError: the file is not a readable artifact of this target.
            OperatorUnknown: what stands in for the runtime does not execute one of its operators.
        """


@runtime_checkable
class Device(Protocol):
    """Something that can run an artifact; a module in `edgese.devices`, or an object like one.

    Targets know formats and devices know transports: a device runs what it is given and brings back
    what came out, whatever that is.
    """

    def check(self, target: str) -> None:
        """Raises where artifacts of ``target`` cannot be executed there.

        Raises:
            DeviceError: this kind of machine cannot.
            MissingDependency: the runtime is not installed; the hint is the command.
        """

    def info(self) -> DeviceInfo:
        """What the machine is, and how it is now."""

    def run(self, job: Job, hear: Callable[[str], None]) -> Outcome:
        """Runs a job to its end and leaves nothing of it behind, however it ends.

        Args:
            hear: is given each line of the command's standard output when it comes.

        Raises:
            DeviceError: it could not be started, or did not end in its time.
            OutputError: what it needs could not be written.
        """

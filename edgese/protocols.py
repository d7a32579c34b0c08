"""The seams: what a target, a device and a progress display must offer.

Implementers are modules (PEP 544), listed in literal tables: `edgese.targets.TARGETS` and
`edgese.devices.DEVICES`.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from edgese.records.artifact import (
    Interface,
    ModelCard,
    OperatorReport,
    Recipe,
    TargetOptions,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch.export import ExportedProgram


class Progress(Protocol):
    """Takes news of a long work."""

    def __call__(self, stage: str, fraction: float) -> None:
        """Says what is being done now and how much of the whole is behind, in 0..1."""


class Predictor(Protocol):
    """An artifact loaded in its real runtime on this host."""

    def __call__(self, pictures: "NDArray[np.float32]") -> "NDArray[np.float32]":
        """Preprocessed pictures (N, 3, H, W) to logits (N, classes), for any N.

        Layout, batch and data type of the artifact's own interface are met inside.
        """


class Target(Protocol):
    """A runtime and its file format; a module in `edgese.targets`.

    What is a fact rather than behaviour (suffix, packages, delegates, recipes) stands in
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

    def inspect(self, artifact: Path, delegate: str) -> OperatorReport:
        """Reads the artifact back and counts what it consists of."""

    def unavailable(self) -> str:
        """Why this host cannot execute artifacts of this target; "" where it can."""

    def load(self, artifact: Path, interface: Interface, *, threads: int) -> Predictor:
        """The artifact in its runtime.

        Raises:
            InputError: the file is not a readable artifact of this target.
        """

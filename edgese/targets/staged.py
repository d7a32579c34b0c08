"""A target whose runtime cannot raise anything but an error of edgese."""

from pathlib import Path
from typing import TYPE_CHECKING

from edgese.errors import InputError, stage
from edgese.protocols import Predictor, Progress, Target
from edgese.records.artifact import Interface, ModelCard, OperatorReport, Recipe, TargetOptions

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch.export import ExportedProgram

_CONVERT_AGAIN = "It may be damaged or of another kind; convert the model again."


class Staged:
    """A target whose runtime ends well or in an EdgeseError; see `edgese.errors.stage`.

    Runtimes raise what their authors thought of, and on files that these never saw, what nobody
    did. Converting needs no such boundary: it has a process of its own (`edgese.conversion.pool`).
    """

    def __init__(self, name: str, target: Target) -> None:
        self.NAME = name
        self.target = target

    def prepare(self) -> None:
        """See `Target`."""
        self.target.prepare()

    def check(self, card: ModelCard, recipe: Recipe, options: TargetOptions) -> None:
        """See `Target`."""
        self.target.check(card, recipe, options)

    def convert(
        self,
        program: "ExportedProgram",
        card: ModelCard,
        recipe: Recipe,
        options: TargetOptions,
        dest: Path,
        progress: Progress,
    ) -> Interface:
        """See `Target`."""
        return self.target.convert(program, card, recipe, options, dest, progress)

    def deviation(
        self,
        program: "ExportedProgram",
        card: ModelCard,
        artifact: Path,
        interface: Interface,
        pictures: "NDArray[np.float32]",
    ) -> float | None:
        """See `Target`."""
        return self.target.deviation(program, card, artifact, interface, pictures)

    def inspect(self, artifact: Path, delegate: str) -> OperatorReport:
        """See `Target`."""
        with stage(f"inspect {artifact}", hint=_CONVERT_AGAIN):
            return self.target.inspect(artifact, delegate)

    def unavailable(self) -> str:
        """See `Target`."""
        return self.target.unavailable()

    def stand_in(self) -> str:
        """See `Target`."""
        return self.target.stand_in()

    def load(self, artifact: Path, interface: Interface, *, threads: int) -> Predictor:
        """See `Target`; what the predictor's runtime raises is an InputError as well."""
        with stage(f"load {artifact} for {self.NAME}", hint=_CONVERT_AGAIN):
            predictor = self.target.load(artifact, interface, threads=threads)

        def predict(pictures: "NDArray[np.float32]") -> "NDArray[np.float32]":
            with stage(f"run {artifact} with {self.NAME}", InputError, hint=_CONVERT_AGAIN):
                return predictor(pictures)

        return predict

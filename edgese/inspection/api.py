"""Inspects artifacts: the one entry point for the command and for Python."""

from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Final

from edgese.catalog import target_facts
from edgese.errors import ConfigError, EdgeseError
from edgese.inspection import computeplan, ethosu, gpu, partitioners, qnn, reports, usability
from edgese.inspection.graphs import onnx_nodes, tflite_nodes
from edgese.inspection.pieces import Node
from edgese.paths import as_path
from edgese.protocols import Progress
from edgese.records.artifact import Manifest, OperatorReport
from edgese.records.conversion import DelegateFacts, TargetFacts
from edgese.records.inspection import DelegateReport, Inspection, NotAsked
from edgese.seals import sealed
from edgese.store import read_manifest
from edgese.targets import target_module
from edgese.targets.requests import check_runtime
from edgese.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable

# What can be asked here beyond the delegate that an artifact was made for, in the order of the
# table.
ASKABLE: Final = {
    "tflite": ("gpu", "ethos-u"),
    "executorch": partitioners.NAMES,
    "onnxruntime": (*usability.NAMES, qnn.NAME),
    "coreml": (computeplan.NEURAL_ENGINE,),
}
# Whose arithmetic can be seen here.
SIMULATED: Final = ("gpu", qnn.NAME)
_RUNTIMES: Final = {"tflite": "ai-edge-litert", "onnxruntime": "onnxruntime"}


def inspect(
    artifact: Path | str,
    delegate: str = "",
    *,
    vulkan: str = "",
    soc: str = "",
    drift: bool | None = None,
    progress: Progress | None = None,
) -> Inspection:
    """What an artifact consists of, and what delegates make of it.

    Args:
        artifact: with its manifest beside it.
        delegate: one alone; "" for the artifact's own and all that can be asked here. One that
            cannot be asked is answered by what is published.
        vulkan: the driver that TFLite's GPU delegate is asked on: "swiftshader", "lavapipe" or
            "system"; "" chooses.
        soc: the chip that Qualcomm's compiler is asked about, or a device that has one; "" for
            one of each architecture.
        drift: whether delegates that can be simulated here (TFLite's GPU delegate, Qualcomm's) run
            pictures as well; None where one is asked for by name.
        progress: is told what is done now.

    Raises:
        ConfigError: no such delegate, driver or chip, or one that does not fit the artifact.
        InputError: the artifact or its manifest is missing or not readable.
        StoreError: the artifact is not the one that its manifest describes.
        MissingDependency: the runtime, or what the named delegate needs, is not installed.
        DeviceError: the named delegate failed.
    """
    path = as_path(artifact, "artifact")
    tell = progress or (lambda _stage, _fraction: None)
    tell("read the artifact", 0.0)
    manifest = read_manifest(path)
    facts = target_facts(manifest.target)
    names = _names(manifest, facts, delegate)
    check_runtime(manifest.target)
    found = target_module(manifest.target).inspect(path, manifest.delegate)
    source = _Source(path, manifest, facts, found)
    wants_drift = delegate in SIMULATED if drift is None else drift
    done: list[DelegateReport] = []
    skipped: list[NotAsked] = []
    for index, name in enumerate(names):
        tell(f"look at {name}", index / len(names))
        known = source.facts_of(name)
        if not delegate and name != manifest.delegate and _excluded(known, manifest):
            why = f"{known.title} executes {', '.join(known.precisions)}."
            skipped.append(NotAsked(delegate=name, reason=why))
            continue
        try:
            done.append(
                _reported(
                    source,
                    name,
                    vulkan=vulkan,
                    soc=soc,
                    drift=wants_drift,
                    progress=_within(tell, index, len(names)),
                )
            )
        except EdgeseError as error:
            if delegate:
                raise
            skipped.append(NotAsked(delegate=name, reason=error.message, remedy=error.hint))
    tell("done", 1.0)
    pixels = manifest.model.preprocessing
    made = Inspection(
        label=str(artifact),
        sha256=manifest.sha256,
        target=manifest.target,
        recipe=manifest.recipe.name,
        model=manifest.model.name,
        resolution=(pixels.height, pixels.width),
        trained=manifest.weights.trained,
        operators=found.operators,
        delegates=tuple(done),
        not_asked=tuple(skipped),
        edgese=__version__,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    return sealed(made)


class _Source:
    """An artifact that was read, and what is read of it when it is first wanted."""

    def __init__(
        self, path: Path, manifest: Manifest, facts: TargetFacts, found: OperatorReport
    ) -> None:
        self.path = path
        self.manifest = manifest
        self.facts = facts
        self.found = found
        self.delegates = {each.name: each for each in facts.coverage}
        self._checked: dict[str, DelegateReport] = {}

    def facts_of(self, name: str) -> DelegateFacts:
        """What the catalogue has of a delegate."""
        return self.delegates.get(name) or DelegateFacts(name=name, title=name, source="")

    def nodes(self) -> tuple[Node, ...] | None:
        """The file's graph; None where only the counts of its operators are read."""
        if self.manifest.target == "tflite":
            return tflite_nodes(self.path)
        if self.manifest.target == "onnxruntime":
            import onnx

            return onnx_nodes(onnx.load(str(self.path), load_external_data=False).graph)
        return None

    def checked(self, name: str) -> DelegateReport:
        """ONNX Runtime's check, which answers for all delegates at once."""
        if not self._checked:
            self._checked = usability.checked(self.path, self.delegates)
        return self._checked[name]


def _names(manifest: Manifest, facts: TargetFacts, delegate: str) -> tuple[str, ...]:
    askable = ASKABLE.get(manifest.target, ())
    if not delegate:
        return (manifest.delegate, *(name for name in askable if name != manifest.delegate))
    known = dict.fromkeys((*facts.delegates, *askable, *(each.name for each in facts.coverage)))
    if delegate not in known:
        raise ConfigError(
            f"{facts.title} has no delegate named {delegate!r}.",
            hint=f"Known: {', '.join(known)}.",
        )
    return (delegate,)


def _reported(
    source: _Source, name: str, *, vulkan: str, soc: str, drift: bool, progress: Progress
) -> DelegateReport:
    target, manifest, facts = source.manifest.target, source.manifest, source.facts_of(name)
    if name in source.facts.delegates:
        # Of another one than it was made for the target says so.
        found = (
            source.found
            if name == manifest.delegate
            else target_module(target).inspect(source.path, name)
        )
        return reports.own(target, facts, found, _answered_by(target, facts))
    if name not in ASKABLE.get(target, ()) or _excluded(facts, manifest):
        return reports.published(
            target, facts, source.nodes(), source.found.operators, manifest.recipe.precision
        )
    asked: dict[str, Callable[[], DelegateReport]] = {
        "gpu": lambda: gpu.asked(
            source.path,
            manifest,
            facts,
            driver=gpu.chosen_driver(vulkan, halves=drift),
            with_drift=drift,
            progress=progress,
        ),
        "ethos-u": lambda: ethosu.asked(source.path, facts),
        computeplan.NEURAL_ENGINE: lambda: (
            reports.remarked(target, facts, source.found.operators)
            if target_module(target).stand_in()
            else computeplan.asked(source.path)
        ),
        qnn.NAME: lambda: qnn.asked(
            source.path,
            manifest,
            facts,
            socs=qnn.chosen_socs(soc),
            with_drift=drift,
            progress=progress,
        ),
    }
    if target == "executorch":
        return partitioners.asked(manifest, facts, progress=progress)
    return asked[name]() if name in asked else source.checked(name)


def _excluded(facts: DelegateFacts, manifest: Manifest) -> bool:
    """Whether the artifact's precision alone excludes a delegate."""
    return bool(facts.precisions) and manifest.recipe.precision not in facts.precisions


def _answered_by(target: str, facts: DelegateFacts) -> str:
    package = _RUNTIMES.get(target)
    if package is not None:
        return f"{package} {metadata.version(package)}"
    return "the file" if target == "executorch" else facts.source


def _within(tell: Progress, index: int, count: int) -> Progress:
    return lambda stage, fraction: tell(stage, (index + fraction) / count)

"""Runtimes and their file formats: a folder each, whose `target` fits `edgese.protocols.Target`.

Importing this package loads none of the runtimes: each module imports its own in its functions.
"""

import difflib
from importlib.metadata import entry_points
from typing import Final

from edgese.errors import ConfigError
from edgese.protocols import Target
from edgese.targets.coreml import target as coreml_target
from edgese.targets.executorch import target as executorch_target
from edgese.targets.onnxruntime import target as onnxruntime_target
from edgese.targets.staged import Staged
from edgese.targets.tflite import target as tflite_target

ENTRY_POINTS: Final = "edgese.targets"

TARGETS: Final[dict[str, Target]] = {
    "executorch": executorch_target,
    "coreml": coreml_target,
    "tflite": tflite_target,
    "onnxruntime": onnxruntime_target,
}


def target_module(name: str) -> Target:
    """The target of a name; one that is not built in is looked for among installed packages.

    What its libraries raise becomes an error that names the artifact (see `Staged`).

    A package offers one as an entry point of the group "edgese.targets": a module that fits
    `edgese.protocols.Target`. Its facts are a file ``targets/<name>.toml``.

    Raises:
        ConfigError: there is none of that name; the nearest ones are told.
    """
    if name in TARGETS:
        return Staged(name, TARGETS[name])
    offered = entry_points(group=ENTRY_POINTS)
    if name in offered.names:
        found: Target = offered[name].load()
        return Staged(name, found)
    known = sorted({*TARGETS, *offered.names})
    near = difflib.get_close_matches(name, known, n=2)
    raise ConfigError(
        f"There is no target named {name!r}.",
        hint=(f"Near it: {', '.join(near)}. " if near else "") + f"Known: {', '.join(known)}.",
    )

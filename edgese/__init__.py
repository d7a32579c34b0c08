"""EfficientNet and SE-ResNet as verified artifacts for four mobile runtimes, measured.

::

    import edgese

    rows = edgese.convert("efficientnet_lite0", "all", weights="imagenet")
    result = edgese.profile(row.artifact for row in rows if row.target != "coreml")

Names are loaded when they are first used: importing edgese needs neither torch nor a runtime.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from edgese.version import __version__ as __version__

if TYPE_CHECKING:
    from edgese.budgets.api import compare, gate, update_baseline
    from edgese.conversion.api import convert
    from edgese.diagnosis import diagnose
    from edgese.errors import EdgeseError
    from edgese.evaluation.api import classify, evaluate
    from edgese.evaluation.comparison import agreement
    from edgese.evaluation.subjects import find_subject
    from edgese.inspection.api import inspect
    from edgese.measure.api import profile
    from edgese.models.builder import build
    from edgese.models.cost import cost
    from edgese.models.registry import customized, find_model
    from edgese.models.weights import load_network, resolve_weights, save_weights
    from edgese.prediction.api import predict
    from edgese.quantization.api import quantize
    from edgese.records.artifact import TargetOptions
    from edgese.records.model import ModelSpec, Preprocessing
    from edgese.selection.api import select
    from edgese.training.api import train

__all__ = [
    "EdgeseError",
    "ModelSpec",
    "Preprocessing",
    "TargetOptions",
    "agreement",
    "build",
    "classify",
    "compare",
    "convert",
    "cost",
    "customized",
    "diagnose",
    "evaluate",
    "find_model",
    "find_subject",
    "gate",
    "inspect",
    "load_network",
    "predict",
    "profile",
    "quantize",
    "resolve_weights",
    "save_weights",
    "select",
    "train",
    "update_baseline",
]

_HOMES = {
    "EdgeseError": "edgese.errors",
    "ModelSpec": "edgese.records.model",
    "Preprocessing": "edgese.records.model",
    "TargetOptions": "edgese.records.artifact",
    "agreement": "edgese.evaluation.comparison",
    "build": "edgese.models.builder",
    "classify": "edgese.evaluation.api",
    "compare": "edgese.budgets.api",
    "convert": "edgese.conversion.api",
    "cost": "edgese.models.cost",
    "customized": "edgese.models.registry",
    "diagnose": "edgese.diagnosis",
    "evaluate": "edgese.evaluation.api",
    "find_model": "edgese.models.registry",
    "find_subject": "edgese.evaluation.subjects",
    "gate": "edgese.budgets.api",
    "inspect": "edgese.inspection.api",
    "load_network": "edgese.models.weights",
    "predict": "edgese.prediction.api",
    "profile": "edgese.measure.api",
    "quantize": "edgese.quantization.api",
    "resolve_weights": "edgese.models.weights",
    "save_weights": "edgese.models.weights",
    "select": "edgese.selection.api",
    "train": "edgese.training.api",
    "update_baseline": "edgese.budgets.api",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - whatever the name stands for
    if name not in _HOMES:
        raise AttributeError(f"module 'edgese' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)

"""Post-training quantization: from an fp32 program and pictures to the quantized program."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from torch import fx

from edgese.evaluation.scoring import mean_kl
from edgese.parallel import one_thread, outputs
from edgese.quantization.calibration import observe
from edgese.quantization.canonical import canonical
from edgese.quantization.corrections import corrected
from edgese.quantization.equalization import equalized
from edgese.quantization.fingerprint import integers_sha256
from edgese.quantization.harmony import harmonized, roomy
from edgese.quantization.insertion import quantized_program, simulated_module, weights_only
from edgese.quantization.layout import layout
from edgese.quantization.memory import running_mb
from edgese.quantization.plan import Plan, planned
from edgese.records.artifact import Recipe
from edgese.records.quantization import Fidelity
from edgese.statistics import binomial_tails

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch.export import ExportedProgram

# Pictures that run at once: enough to keep the cores busy.
BATCH: Final = 8
# Below this share of pictures with the same first class, something is broken, not coarse; as far
# as the pictures are enough to tell, by a one-sided exact binomial test at this level.
_COLLAPSED: Final = 0.7
_LEVEL: Final = 0.05
_RESHAPES: Final = (torch.ops.aten.view.default, torch.ops.aten.reshape.default)

Stage = Callable[[str, float], None]


@dataclass(frozen=True, kw_only=True)
class Quantized:
    """A quantized network before it is lowered.

    Attributes:
        module: canonical, with corrected weights and biases; still in float.
        plan: the grids.
        program: module and plan as the program that every target takes.
        fidelity: of the program, on calibration pictures.
        collapse: what `collapse` says of it.
        diverged: why its training came to nothing; "" where it did not, or there was none.
    """

    module: fx.GraphModule
    plan: Plan
    program: "ExportedProgram"
    fidelity: Fidelity
    collapse: str
    diverged: str = ""

    @property
    def integers(self) -> str:
        """The hash of the program's integers, scales and zero points."""
        return integers_sha256(self.program)


@one_thread()
def quantized(
    program: "ExportedProgram",
    recipe: Recipe,
    pictures: "NDArray[np.float32]",
    on_stage: Stage = lambda *_: None,
) -> Quantized:
    """Finds the grids of a program and puts them into it.

    Args:
        program: fp32, BatchNorm folded, one input (N, 3, H, W) and one output.
        recipe: of an integer precision.
        pictures: calibration pictures, (count, 3, H, W).
        on_stage: told what is done now, and the share of it that is behind.

    Raises:
        ConversionError: an operator that has no integer form.
        ConfigError: a pattern of the recipe that fits no module.
        InputError: weights or values that are NaN or infinite.
    """
    how = recipe.quantization
    assert how is not None  # noqa: S101  # an integer recipe has it
    module = canonical(program)
    shape = _input_shape(module)
    batch = shape[0] if _fixes_batch(module) else BATCH
    reference = outputs(module, pictures, batch, memory_mb=running_mb(module.graph, batch))
    where = layout(module, how.keep_float)
    if how.equalization:
        on_stage("equalize", 0.0)
        equalized(module, where, pictures, batch)
    histograms = observe(
        module,
        where,
        pictures,
        "min_max" if recipe.precision == "int8_weights" else how.ranges,
        batch=batch,
        seed=how.seed,
        on_progress=lambda done: on_stage("look at the calibration pictures", done),
    )
    plan = planned(module, where, histograms, how)
    if recipe.precision == "int8_weights":
        made = weights_only(module, plan, shape)
        found = outputs(
            made.module(check_guards=False),
            pictures,
            shape[0],
            memory_mb=running_mb(module.graph, shape[0]),
        )
        return Quantized(
            module=module,
            plan=plan,
            program=made,
            fidelity=fidelity(found, reference),
            collapse=collapse(found, reference),
        )
    corrects = how.bias_correction or how.norm_reestimation or how.compensation
    if corrects and batch == BATCH:
        plan = corrected(
            module,
            plan,
            pictures,
            spread=how.norm_reestimation,
            compensation=how.compensation,
            seed=how.seed,
            on_progress=lambda done: on_stage("correct each layer", done),
        )
    return finished(module, plan, shape, pictures, reference, on_stage)


@one_thread()
def finished(
    module: fx.GraphModule,
    plan: Plan,
    shape: tuple[int, ...],
    pictures: "NDArray[np.float32]",
    reference: "NDArray[np.float32]",
    on_stage: Stage,
) -> Quantized:
    """The program of a plan, and how close it is to float.

    Args:
        module: canonical.
        shape: (N, 3, H, W) of the program's input.
        pictures: calibration pictures, (count, 3, H, W).
        reference: (count, classes): what the float network gives for them.
    """
    on_stage("compare with float", 0.0)
    plan = roomy(module, harmonized(module, plan))
    batch = shape[0] if _fixes_batch(module) else BATCH
    found = outputs(
        simulated_module(module, plan),
        pictures,
        batch,
        memory_mb=running_mb(module.graph, batch),
    )
    on_stage("export the quantized program", 0.0)
    return Quantized(
        module=module,
        plan=plan,
        program=quantized_program(module, plan, shape),
        fidelity=fidelity(found, reference),
        collapse=collapse(found, reference),
    )


def fidelity(found: "NDArray[np.float32]", reference: "NDArray[np.float32]") -> Fidelity:
    """How close quantized outputs are to float ones.

    Args:
        found, reference: (pictures, classes).
    """
    noise = float(np.square(found.astype(np.float64) - reference).sum())
    signal = float(np.square(reference.astype(np.float64)).sum())
    ratio = signal / noise if noise else np.inf
    sqnr_db = float(np.clip(10 * np.log10(ratio), -999, 999)) if ratio else -999.0
    return Fidelity(
        pictures=len(found),
        sqnr_db=sqnr_db,
        kl=mean_kl(found, reference),
        top1_agreement=float(np.mean(found.argmax(1) == reference.argmax(1))),
    )


def collapse(found: "NDArray[np.float32]", reference: "NDArray[np.float32]") -> str:
    """Why a quantized network must not be shipped; "" where these outputs show no collapse.

    Quantization that goes wrong does not lose a point or two: gates shut, a range is a hundred
    times too wide, and what is left answers one class for everything.

    Few pictures condemn nothing that a coarse network may do as well: an answer that changes on two
    pictures near a border says little.

    Args:
        found, reference: (pictures, classes).
    """
    given, expected = found.argmax(1), reference.argmax(1)
    answers, classes = len(np.unique(given)), len(np.unique(expected))
    # Pictures of classes that are never answered: each may be a border case, all of them are not.
    lost = int((~np.isin(expected, given)).sum())
    if classes > 1 and answers <= classes / 2 and 0.5**lost <= _LEVEL:
        return f"it answers {answers} classes where the float network answers {classes}"
    same = int((given == expected).sum())
    if binomial_tails(same, len(given), _COLLAPSED)[0] <= _LEVEL:
        return f"its first class is the float network's on {same} of {len(given)} pictures alone"
    return ""


def _input_shape(module: fx.GraphModule) -> tuple[int, ...]:
    (source,) = module.graph.find_nodes(op="placeholder")
    return tuple(int(size) for size in source.meta["val"].shape)


def _fixes_batch(module: fx.GraphModule) -> bool:
    """Whether a number in the graph may be the batch, so that no other one can be run."""
    return any(node.target in _RESHAPES for node in module.graph.nodes)

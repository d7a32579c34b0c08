"""Post-training quantization: from an fp32 program and pictures to the quantized program."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from torch import fx

from edgese.errors import ConversionError
from edgese.parallel import one_thread, outputs
from edgese.program.canonical import canonical, described
from edgese.program.fingerprint import integers_sha256
from edgese.program.memory import running_mb
from edgese.program.purity import same
from edgese.quantization.calibration import observe
from edgese.quantization.corrections import corrected
from edgese.quantization.equalization import equalized
from edgese.quantization.harmony import harmonized, roomy
from edgese.quantization.insertion import quantized_program, simulated_module, weights_only
from edgese.quantization.layout import layout
from edgese.quantization.plan import Plan, planned
from edgese.records.artifact import Recipe
from edgese.records.quantization import Fidelity
from edgese.statistics import binomial_tails, mean_kl

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch.export import ExportedProgram

# Pictures that run at once: enough to keep the cores busy.
BATCH: Final = 8
# Below this share of pictures with the same first class, something is broken, not coarse; as far
# as the pictures are enough to tell, by a one-sided exact binomial test at this level.
_COLLAPSED: Final = 0.7
_LEVEL: Final = 0.05

Stage = Callable[[str, float], None]


@dataclass(frozen=True, kw_only=True)
class Quantized:
    """A quantized network before it is lowered.

    Attributes:
        module: canonical, with corrected weights and biases; still in float.
        plan: the grids.
        program: module and plan as the program that every target takes.
        reference: (count, classes): what the network itself gives for the calibration images.
        fidelity: of the program compared with the reference.
        collapse: what `collapse` says of it.
        diverged: why its training came to nothing; "" where it did not, or there was none.
        notes: what of the recipe could be done in part of the network alone.
    """

    module: fx.GraphModule
    plan: Plan
    program: "ExportedProgram"
    reference: "NDArray[np.float32]"
    fidelity: Fidelity
    collapse: str
    diverged: str = ""
    notes: tuple[str, ...] = ()

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
    *,
    reference: "NDArray[np.float32] | None" = None,
) -> Quantized:
    """Find the grids of a program and put them into it.

    Args:
        program: fp32, BatchNorm folded, one input (N, 3, H, W) and one output.
        recipe: of an integer precision.
        pictures: calibration pictures, (count, 3, H, W).
        on_stage: told what is done now, and the share of it that is behind.
        reference: (count, classes): what the network gives for them that the program was exported
            from; None for what the program gives, at its own batch.

    Raises:
        ConversionError: an operator that has no integer form, or that mixes the images of a batch;
            a canonical network that computes something else than the reference.
        ConfigError: a pattern of the recipe that fits no module.
        InputError: weights or values that are NaN or infinite.
    """
    how = recipe.quantization
    assert how is not None  # noqa: S101  # an integer recipe has it
    module = canonical(program)
    shape = _input_shape(module)
    if reference is None:
        reference = outputs(
            program.module(check_guards=False),
            pictures,
            shape[0],
            memory_mb=running_mb(module.graph, shape[0]),
        )
    check_canonical(module, pictures[:BATCH], reference[:BATCH])
    where = layout(module, how.keep_float)
    notes: list[str] = []
    if how.equalization:
        on_stage("equalize", 0.0)
        pairs = equalized(module, where, pictures, BATCH)
        notes.append(f"equalization: {pairs} pairs of convolutions have nothing or a ReLU between")
    histograms = observe(
        module,
        where,
        pictures,
        "min_max" if recipe.precision == "int8_weights" else how.ranges,
        batch=BATCH,
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
            reference=reference,
            fidelity=fidelity(found, reference),
            collapse=collapse(found, reference),
            notes=tuple(notes),
        )
    if how.bias_correction or how.norm_reestimation or how.compensation:
        plan = corrected(
            module,
            plan,
            pictures,
            spread=how.norm_reestimation,
            compensation=how.compensation,
            seed=how.seed,
            on_progress=lambda done: on_stage("correct each layer", done),
            on_note=notes.append,
        )
    return finished(module, plan, shape, pictures, reference, on_stage, tuple(notes))


def check_canonical(
    module: fx.GraphModule, pictures: "NDArray[np.float32]", reference: "NDArray[np.float32]"
) -> None:
    """Refuse a canonical network that computes something else than the network that it is of.

    Args:
        module: canonical.
        pictures: (count, 3, H, W).
        reference: (count, classes): what the network gives for them, image by image.

    Raises:
        ConversionError: it does; names the operator that mixes the images of a batch, if one does.
    """
    filled = np.resize(pictures, (BATCH, *pictures.shape[1:]))
    together = _Batch(module)
    try:
        found = together.outputs(filled)[: len(pictures)]
    except RuntimeError as error:
        raise ConversionError(
            f"The program takes no other batch than its own: {described(together.at)} cannot have "
            f"{BATCH} images at once.",
            hint="Write the size of the batch as x.shape[0], and not as a number.",
        ) from error
    if same(found, reference):
        return
    beside = _Batch(module)
    beside.outputs(np.concatenate([filled[:1], 0.5 * filled[1:, :, ::-1, ::-1]]))
    mixing = next((node for node in module.graph.nodes if _mixes(node, together, beside)), None)
    if mixing is not None:
        raise ConversionError(
            f"{described(mixing)} gives an image values of the others in the batch.",
            hint="Each image must be computed by itself: keep the first dimension as it is.",
        )
    raise ConversionError(
        "Written in the operators that integer runtimes have, the network computes something else: "
        f"its outputs are up to {float(np.abs(found - reference).max()):.3g} away.",
        hint="Please report it with the module: it is a fault of the conversion.",
    )


class _Batch(fx.Interpreter):
    """Runs a module and keeps what each node gives; ``at`` is the last one."""

    at: fx.Node

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module, garbage_collect_values=False)

    def outputs(self, pictures: "NDArray[np.float32]") -> "NDArray[np.float32]":
        """Return what the module gives, (count, classes)."""
        with torch.no_grad():
            result: NDArray[np.float32] = self.run(torch.from_numpy(pictures)).numpy()
        return result

    def run_node(self, n: fx.Node) -> object:
        self.at = n
        return super().run_node(n)


def _mixes(node: fx.Node, one: _Batch, other: _Batch) -> bool:
    """Whether a node's values for the first image change with the images beside it."""
    values, others = one.env.get(node), other.env.get(node)
    if node.op != "call_function" or not isinstance(values, torch.Tensor):
        return False
    assert isinstance(others, torch.Tensor)  # noqa: S101  # the same node
    return values.shape[:1] != (BATCH,) or not same(values[:1].numpy(), others[:1].numpy())


@one_thread()
def finished(
    module: fx.GraphModule,
    plan: Plan,
    shape: tuple[int, ...],
    pictures: "NDArray[np.float32]",
    reference: "NDArray[np.float32]",
    on_stage: Stage,
    notes: tuple[str, ...] = (),
) -> Quantized:
    """Return the program of a plan, and how close it is to float.

    Args:
        module: canonical.
        shape: (N, 3, H, W) of the program's input.
        pictures: calibration pictures, (count, 3, H, W).
        reference: (count, classes): what the network itself gives for them.
        notes: as in `Quantized`.
    """
    on_stage("compare with float", 0.0)
    plan = roomy(module, harmonized(module, plan))
    found = outputs(
        simulated_module(module, plan),
        pictures,
        BATCH,
        memory_mb=running_mb(module.graph, BATCH),
    )
    on_stage("export the quantized program", 0.0)
    return Quantized(
        module=module,
        plan=plan,
        program=quantized_program(module, plan, shape),
        reference=reference,
        fidelity=fidelity(found, reference),
        collapse=collapse(found, reference),
        notes=notes,
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

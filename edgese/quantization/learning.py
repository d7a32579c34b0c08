"""Quantization-aware training of a quantized network, by what the float network says."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from edgese.parallel import torch_threads
from edgese.program.canonical import canonical
from edgese.quantization.features import Features
from edgese.quantization.ptq import Quantized, Stage, finished
from edgese.quantization.qat import LearntGrids, student
from edgese.records.training import Advance, TrainingRecipe
from edgese.training.loop import TrainingData, fit

# Threads of torch, on any number of cores: what a step computes depends on them. Its images are
# not dealt out to lanes, since the gradient of a scale depends on how many values it is of.
_THREADS: Final = 2

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch.export import ExportedProgram


def learnt(
    program: "ExportedProgram",
    made: Quantized,
    recipe: TrainingRecipe,
    data: TrainingData,
    pictures: "NDArray[np.float32]",
    *,
    folder: Path,
    seed: int,
    resume: bool,
    depends: Mapping[str, str],
    on_stage: Stage,
    on_advance: Callable[[Advance], None] | None = None,
) -> Quantized:
    """Trains weights, biases and grids, and gives the network that came of it.

    Args:
        program: fp32, which is the teacher.
        made: what post-training quantization made of it, which is the start.
        recipe: one that distils.
        data: what is learnt from; labels are needed where the recipe follows them too.
        pictures: calibration pictures, (count, 3, H, W), to compare with float on.
        folder: of the training: its checkpoint, log and curve.
        depends: what the result depends on, see `edgese.training.loop.fit`.

    Raises:
        As `edgese.training.loop.fit` does.
    """
    teacher = canonical(program)
    (source,) = teacher.graph.find_nodes(op="placeholder")
    shape = tuple(int(size) for size in source.meta["val"].shape)
    learning = student(made.module, made.plan)
    distillation = recipe.distillation
    followed = None
    if distillation is not None and distillation.features:
        followed = Features(learning, teacher)
    with torch_threads(_THREADS):
        log = fit(
            learning.network,
            data,
            recipe,
            folder=folder,
            seed=seed,
            teacher=teacher,
            resume=resume,
            depends=depends,
            extension=LearntGrids(followed.difference, distillation.features)
            if followed is not None and distillation is not None
            else LearntGrids(),
            progress=on_advance,
        )
    if followed is not None:
        followed.close()
    module, plan = learning.learnt()
    made = finished(module, plan, shape, pictures, made.reference, on_stage, made.notes)
    return dataclasses.replace(made, diverged=log.collapse)

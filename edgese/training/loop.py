"""The one loop: from scratch, fine-tuning, and quantization-aware."""

import math
import time
from bisect import bisect_left
from collections.abc import Callable, Mapping
from contextlib import closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
import torch
from torch import Tensor, nn

from edgese.data.classes import UNLABELLED
from edgese.data.sources import Pictures
from edgese.errors import Collapsed, ConfigError
from edgese.machine import cores
from edgese.records.model import Preprocessing
from edgese.records.training import Advance, Answers, EpochRow, TrainingLog, TrainingRecipe
from edgese.training import checkpoint
from edgese.training.average import WeightAverage
from edgese.training.batches import training_batches
from edgese.training.checkpoint import Learner
from edgese.training.extension import Extension
from edgese.training.interruption import postponed
from edgese.training.log import draw_curve, write_log
from edgese.training.meter import Meter, Sums
from edgese.training.optimizers import make_optimizer
from edgese.training.plan import Plan
from edgese.training.processes import Processes, alone
from edgese.training.regularization import set_stochastic_depth
from edgese.training.step import Stepper
from edgese.training.validation import Judge, Verdict
from edgese.training.verdict import Diverged, collapse

if TYPE_CHECKING:
    from edgese.records.evaluation import Proportion

# A checkpoint stands after each epoch, and else after so many seconds. Epochs of a few hundred
# pictures may end several times a second, and then most of the time would go into writing.
CHECKPOINT_EVERY_S: Final = 600.0
_CHECKPOINT_AT_MOST_EVERY_S: Final = 30.0
_DRAW_EVERY_S: Final = 60.0
# Steps between two looks at the losses: on a GPU each look waits for all that was begun.
_LOOK_EVERY: Final = 10
# A GPU is fed by as many cores as there are, up to this; a CPU that trains spares one in eight.
_MOST_WORKERS: Final = 16
_CORES_A_WORKER: Final = 8


@dataclass(frozen=True, kw_only=True)
class TrainingData:
    """What a student learns from and is judged on.

    Attributes:
        val: None where nothing is held back.
        preprocessing: of the student, with its own resolution.
    """

    train: Pictures
    val: Pictures | None
    preprocessing: Preprocessing


def fit(
    student: nn.Module,
    data: TrainingData,
    recipe: TrainingRecipe,
    *,
    folder: Path,
    seed: int = 0,
    teacher: nn.Module | None = None,
    resume: bool = False,
    depends: Mapping[str, str] | None = None,
    extension: Extension | None = None,
    processes: Processes | None = None,
    workers: int | None = None,
    progress: Callable[[Advance], None] | None = None,
) -> TrainingLog:
    """Trains a student in place; in the end it has the final weights, averaged ones if asked.

    The same student, data, recipe and seed give the same weights, bit for bit on a CPU with as many
    threads of torch, also where the run was interrupted and resumed, and whatever the number of
    workers. After each epoch the
    folder has log.json and log.csv, and a checkpoint where the last is not seconds old; curve.png
    follows once a minute. Ctrl-C ends the run after the current
    step, with a checkpoint; a second one ends it at once. The last checkpoint stays when the run is
    over: what becomes of the weights is the caller's business, and so is removing it afterwards.

    A training that comes to nothing is no error: the log's ``collapse`` says so, and the student
    has its weights. Where the loss becomes NaN or infinite the run ends at once, and these are the
    weights of the last epoch whose end was sound.

    Args:
        student: (N, 3, H, W) to logits (N, classes); it is moved to the device.
        folder: that this run has for itself.
        seed: of the order of pictures, their variation, dropout and the like; not of the weights
            that the student begins with.
        teacher: an fp32 network for the same input and classes, for recipes that distil.
        resume: goes on from the folder's checkpoint.
        depends: what the result depends on beside recipe, seed and data, such as the weights that
            it began with, by name; a resumed run must agree with it. "model" heads the curve.
        extension: what is added to the plain loop.
        processes: those that share each step; this one alone by default.
        workers: processes that prepare pictures; 0 does it in this one.
        progress: is told how far it is, in the first process.

    Raises:
        ConfigError: settings that do not fit together, or nothing to resume.
        StoreError: the checkpoint is another run's.
        InputError: a picture or a checkpoint that cannot be read.
        Collapsed: the checkpoint's weights are NaN or infinite.
        OutputError: the folder cannot be written, or is full; the last checkpoint is still there.
        KeyboardInterrupt: it was interrupted; the checkpoint is there.
    """
    processes = processes or alone()
    plan = Plan(
        recipe=recipe,
        pictures=len(data.train.labels),
        height=data.preprocessing.height,
        width=data.preprocessing.width,
    )
    _check(plan, data, teacher, processes)
    run = _Run(
        plan,
        data,
        student,
        teacher,
        folder=folder,
        seed=seed,
        depends={
            **(depends or {}),
            "pictures": data.train.info.sha256,
            "validation": data.val.info.sha256 if data.val else "none",
        },
        extension=extension or Extension(),
        processes=processes,
        workers=_workers(processes) if workers is None else workers,
        progress=progress if processes.first else None,
    )
    if resume:
        run.resume()
    devices = [processes.device] if processes.device.type == "cuda" else []
    with torch.random.fork_rng(devices), postponed() as interrupted:
        try:
            run.go(interrupted)
        except Diverged as error:
            run.fall_back(error.message)
    return run.finished()


class _Run:
    """A run and where it stands."""

    def __init__(
        self,
        plan: Plan,
        data: TrainingData,
        student: nn.Module,
        teacher: nn.Module | None,
        *,
        folder: Path,
        seed: int,
        depends: dict[str, str],
        extension: Extension,
        processes: Processes,
        workers: int,
        progress: Callable[[Advance], None] | None,
    ) -> None:
        recipe, device = plan.recipe, processes.device
        self.plan = plan
        self.data = data
        self.folder = folder
        self.seed = seed
        self.depends = depends
        self.processes = processes
        self.workers = workers
        self.progress = progress
        self.precision = _precision(recipe, device)
        if recipe.stochastic_depth is not None:
            set_stochastic_depth(student, recipe.stochastic_depth)
        # Convolutions compute faster on channels that lie side by side: 1.1 to 1.6 times on x86,
        # and more on tensor cores.
        for network in (student, teacher):
            if network is not None:
                network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        if teacher is not None:
            teacher.eval()
        self.learner = Learner(
            student=student,
            optimizer=make_optimizer(recipe.optimizer, student, extension.groups(student)),
            average=WeightAverage(student, recipe.average.decay) if recipe.average else None,
        )
        self.stepper = Stepper(
            plan,
            self.learner,
            data.preprocessing,
            seed=seed,
            bf16=self.precision == "bf16",
            teacher=teacher,
            extension=extension,
            processes=processes,
        )
        self.judge = None if data.val is None else self._judge(data.val, teacher)
        self.labelled = bool((data.train.labels != UNLABELLED).all())
        self.look_every = 1 if device.type == "cpu" else _LOOK_EVERY
        self.ends = plan.ends
        self.step = 0
        self.rows: tuple[EpochRow, ...] = ()
        self.top1: Proportion | None = None
        self.answers: Answers | None = None
        self.collapse = ""
        # The last weights without NaN and infinity, and after how many epochs.
        self.sound: dict[str, Tensor] = {}
        self.sound_after = 0
        self.meter = Meter(processes, Sums())
        self.clock = time.perf_counter()
        self.judging_s = 0.0
        self.saved_at = time.monotonic()
        self.drawn_at = -math.inf

    def _judge(self, pictures: Pictures, teacher: nn.Module | None) -> Judge:
        return Judge(
            pictures=pictures,
            preprocessing=self.data.preprocessing,
            batch=max(1, self.plan.recipe.batch // self.processes.size),
            workers=self.workers,
            processes=self.processes,
            bf16=self.precision == "bf16",
            teacher=teacher,
        )

    @property
    def log(self) -> TrainingLog:
        """What was done so far."""
        return TrainingLog(
            recipe=self.plan.recipe,
            seed=self.seed,
            depends=self.depends,
            device=str(self.processes.device),
            precision=self.precision,
            processes=self.processes.size,
            step=self.step,
            steps=self.plan.steps,
            epochs=self.rows,
            val=self.top1,
            answers=self.answers,
            collapse=self.collapse,
        )

    def resume(self) -> None:
        """Goes to where the folder's checkpoint was."""
        content = checkpoint.read(self.folder, self.log)
        checkpoint.restore(content, self.learner)
        log: TrainingLog = content["log"]
        self.step, self.rows = log.step, log.epochs
        self.top1, self.answers = log.val, log.answers
        self.meter = Meter(self.processes, content["sums"])
        if self.processes.first and self.rows:
            # It may have been killed between the checkpoint and these.
            write_log(self.folder, self.log)
            self._draw()

    def go(self, interrupted: Callable[[], bool]) -> None:
        """Takes all steps that are left.

        Raises:
            Diverged: the network computes NaN or infinity.
        """
        self._keep_sound()
        if self.step in self.ends and not (self.rows and self.rows[-1].step == self.step):
            # It was interrupted between an epoch's last step and the end of its validation.
            self._end_epoch(interrupted)
        batches = training_batches(
            self.data.train,
            self.plan,
            self.data.preprocessing,
            seed=self.seed,
            start=self.step,
            rank=self.processes.rank,
            size=self.processes.size,
            workers=self.workers,
            pin=self.processes.device.type == "cuda",
        )
        self.clock = time.perf_counter()
        with closing(batches):
            for pictures, labels in batches:
                taken = self.stepper.take(self.step, pictures, labels)
                self.meter.add(self.step, *taken, len(labels) if self.labelled else 0)
                self.step += 1
                ends = self.step in self.ends
                if not ends and self.step % self.look_every:
                    continue
                stops, overdue = self._look(interrupted=interrupted())
                # A validation may be long, and be interrupted.
                if stops or overdue or (ends and self.judge is not None):
                    self._save()
                if stops and self.step < self.plan.steps:
                    raise KeyboardInterrupt
                if ends:
                    self._end_epoch(interrupted)

    def finished(self) -> TrainingLog:
        """Gives the student its final weights, in torch's usual layout, and evaluation mode."""
        self.stepper.leave()
        if not self.collapse:
            if self.learner.average is not None:
                self.learner.average.keep()
            self.collapse = collapse(self.log, self._majority())
        if self.collapse and self.processes.first:
            write_log(self.folder, self.log)
        student = self.learner.student.eval()
        student.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        return self.log

    def fall_back(self, reason: str) -> None:
        """Gives the student the last weights that were sound, after it has diverged.

        Raises:
            Collapsed: there are none.
        """
        if not self.sound:
            raise Collapsed(
                f"The checkpoint in {self.folder} is of a training that diverged: {reason}.",
                hint="Remove the folder, and train again with a smaller --lr.",
            )
        since = f"after epoch {self.sound_after}" if self.sound_after else "before the first step"
        self.collapse = f"{reason}; the weights are those {since}"
        state = self.learner.student.state_dict()
        with torch.no_grad():
            for name, tensor in self.sound.items():
                state[name].copy_(tensor)
        if self.processes.first:
            draw_curve(self.folder, self.log)

    def _keep_sound(self) -> None:
        """Remembers the weights as they are now.

        Raises:
            Diverged: they are NaN or infinite.
        """
        average = self.learner.average
        tensors = self.learner.student.state_dict() | (average.tensors if average else {})
        finite = torch.stack([tensor.isfinite().all() for tensor in tensors.values()]).all()
        if self.processes.total((~finite).float()).item():
            raise Diverged(f"weights are NaN or infinite after step {self.step}")
        self.sound = {name: tensor.clone() for name, tensor in tensors.items()}
        self.sound_after = len(self.rows)

    def _majority(self) -> float | None:
        """The share of the training images that are of their most common class."""
        if not self.labelled:
            return None
        return float(np.bincount(self.data.train.labels).max() / len(self.data.train.labels))

    def _look(self, *, interrupted: bool) -> tuple[bool, bool]:
        """Whether to stop, and whether a checkpoint is overdue, as all processes see it."""
        overdue = self.processes.first and time.monotonic() - self.saved_at > CHECKPOINT_EVERY_S
        now = time.perf_counter()
        stops, saves = self.meter.look((interrupted, overdue), seconds=now - self.clock)
        self.clock = now
        if self.progress is not None:
            self.progress(self._advance())
        return stops, saves

    def _advance(self) -> Advance:
        sums = self.meter.sums
        pace = sums.seconds / sums.steps
        epoch = bisect_left(self.ends, self.step)
        left = (self.plan.steps - self.step) * pace + (len(self.ends) - epoch) * self.judging_s
        return Advance(
            epoch=epoch + 1,
            epochs=len(self.ends),
            step=self.step,
            steps=self.plan.steps,
            loss=sums.loss / sums.steps,
            images_per_s=self.plan.recipe.batch / pace,
            seconds_left=left,
        )

    def _end_epoch(self, interrupted: Callable[[], bool]) -> None:
        began = time.perf_counter()
        verdict = self._judged(interrupted)
        self.judging_s = time.perf_counter() - began
        sums, phase = self.meter.sums, self.plan.phase(self.step - 1)
        row = EpochRow(
            epoch=len(self.rows) + 1,
            step=self.step,
            height=phase.height,
            width=phase.width,
            lr=self.plan.lr(self.step - 1),
            train_loss=sums.loss / sums.steps,
            train_top1=sums.right / sums.labelled if sums.labelled else None,
            val_loss=verdict.loss if verdict else None,
            val_top1=verdict.top1.share if verdict and verdict.top1 else None,
            val_agreement=verdict.agreement if verdict else None,
            images_per_s=round(sums.steps * self.plan.recipe.batch / sums.seconds, 1),
            seconds=round(sums.seconds + self.judging_s, 3),
        )
        self.rows = (*self.rows, row)
        self.top1 = verdict.top1 if verdict else None
        self.answers = verdict.answers if verdict else None
        self._keep_sound()
        self.meter = Meter(self.processes, Sums())
        recent = time.monotonic() - self.saved_at < _CHECKPOINT_AT_MOST_EVERY_S
        if self.judge is not None or self.step == self.plan.steps or not recent:
            self._save()
        if self.processes.first:
            write_log(self.folder, self.log)
            self._draw()
        self.clock = time.perf_counter()

    def _judged(self, interrupted: Callable[[], bool]) -> Verdict | None:
        if self.judge is None:
            return None
        average = self.learner.average
        self.stepper.forget_mode()
        with nullcontext() if average is None else average.in_place():
            return self.judge.judge(self.learner.student, interrupted)

    def _save(self) -> None:
        if self.processes.first:
            checkpoint.save(self.folder, self.learner, self.log, self.meter.sums)
        self.saved_at = time.monotonic()

    def _draw(self) -> None:
        """Draws the curve, at most once a minute and at the end: it takes a second."""
        now = time.monotonic()
        if self.step == self.plan.steps or now - self.drawn_at > _DRAW_EVERY_S:
            draw_curve(self.folder, self.log)
            self.drawn_at = now


def _check(plan: Plan, data: TrainingData, teacher: nn.Module | None, processes: Processes) -> None:
    recipe = plan.recipe
    if recipe.batch % processes.size:
        raise ConfigError(
            f"A batch of {recipe.batch} pictures cannot be shared by {processes.size} processes.",
            hint=f"Give a --batch that {processes.size} divides.",
        )
    if (recipe.distillation is None) != (teacher is None):
        raise ConfigError(
            f"The recipe {recipe.name} has no teacher, and one was given."
            if teacher is not None
            else f"The recipe {recipe.name} distils, and no teacher was given.",
            hint="Give --teacher with a recipe that distils, and with no other.",
        )
    if recipe.distillation is not None and recipe.distillation.weight == 1:
        return
    for pictures in (data.train, data.val):
        if pictures is not None and (pictures.labels == UNLABELLED).any():
            raise ConfigError(
                f"The recipe {recipe.name} learns from labels; {pictures.info.source} has none.",
                hint="Give labelled pictures, or a recipe that follows a teacher alone.",
            )


def _precision(recipe: TrainingRecipe, device: torch.device) -> Literal["fp32", "bf16"]:
    if recipe.precision != "auto":
        return recipe.precision
    return "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "fp32"


def _workers(processes: Processes) -> int:
    own = cores() // processes.size
    if processes.device.type == "cpu":
        return 0 if own < 2 else max(1, own // _CORES_A_WORKER)
    return min(_MOST_WORKERS, own)

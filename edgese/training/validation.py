"""How good the student is on pictures that it does not learn from."""

import math
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgese.data.classes import UNLABELLED
from edgese.data.sources import Pictures
from edgese.records.base import Record
from edgese.records.evaluation import Proportion
from edgese.records.model import Preprocessing
from edgese.records.training import Answers
from edgese.statistics import wilson
from edgese.training.batches import Batch, validation_batches
from edgese.training.processes import Processes
from edgese.training.verdict import Diverged


class Verdict(Record, frozen=True):
    """What validation found; see `edgese.records.training.EpochRow`."""

    loss: float
    top1: Proportion | None
    agreement: float | None
    answers: Answers


@dataclass(frozen=True, kw_only=True)
class Judge:
    """Judges a student on the same pictures each time.

    Attributes:
        batch: pictures at once in each process.
        bf16: whether to compute in bf16 where that is faster.
        teacher: in evaluation mode; None where nobody is followed.
        taught: the teacher's logits, batch by batch, once they were computed.
    """

    pictures: Pictures
    preprocessing: Preprocessing
    batch: int
    workers: int
    processes: Processes
    bf16: bool
    teacher: nn.Module | None
    taught: list[Tensor] = field(default_factory=list)

    def judge(self, student: nn.Module, interrupted: Callable[[], bool]) -> Verdict:
        """Leaves the student in evaluation mode.

        Raises:
            KeyboardInterrupt: it was interrupted.
            Diverged: the student computes NaN or infinity.
            InputError: a picture that cannot be read.
        """
        student.eval()
        device = self.processes.device
        # Loss, right ones, labelled ones, like the teacher's, all.
        sums = torch.zeros(5, dtype=torch.float64)
        given, expected = [], []
        with torch.no_grad(), closing(self._batches()) as batches:
            for number, (pictures, labels) in enumerate(batches):
                if interrupted():
                    raise KeyboardInterrupt
                inputs = pictures.to(device, memory_format=torch.channels_last)
                logits = self._logits(student, inputs)
                taught = self._taught(number, inputs)
                sums += _sums(logits, labels, taught)
                classes = logits.shape[1]
                asked = labels if taught is None or _has_labels(labels) else taught.argmax(1)
                given.append(torch.bincount(logits.argmax(1), minlength=classes))
                expected.append(torch.bincount(asked, minlength=classes))
        loss, right, labelled, alike, count = self.processes.total(sums).tolist()
        if not math.isfinite(loss):
            raise Diverged("it computes NaN or infinity on the validation images")
        return Verdict(
            loss=loss / count,
            top1=_proportion(int(right), int(labelled)) if labelled else None,
            agreement=alike / count if self.teacher else None,
            answers=self._answers(given, expected, int(right if labelled else alike)),
        )

    def _answers(self, given: list[Tensor], expected: list[Tensor], right: int) -> Answers:
        """What all processes counted, some of which may have had no images."""
        own = len(given[0]) if given else 0
        outputs, judges = self.processes.total(torch.tensor([own, bool(own)])).tolist()
        nothing = torch.zeros(outputs // judges, dtype=torch.int64)
        answered, asked = (
            self.processes.total(sum(counts, start=nothing)).cpu() for counts in (given, expected)
        )
        return Answers(
            classes=len(nothing),
            images=int(asked.sum()),
            right=right,
            given=int((answered > 0).sum()),
            expected=int((asked > 0).sum()),
            majority=int(asked.max()),
        )

    def _batches(self) -> Generator[Batch]:
        return validation_batches(
            self.pictures,
            self.preprocessing,
            batch=self.batch,
            rank=self.processes.rank,
            size=self.processes.size,
            workers=self.workers,
            pin=self.processes.device.type == "cuda",
        )

    def _logits(self, network: nn.Module, inputs: Tensor) -> Tensor:
        with torch.autocast(inputs.device.type, torch.bfloat16, enabled=self.bf16):
            logits: Tensor = network(inputs)
        return logits.float().cpu()

    def _taught(self, number: int, inputs: Tensor) -> Tensor | None:
        if self.teacher is None:
            return None
        if number == len(self.taught):
            self.taught.append(self._logits(self.teacher, inputs))
        return self.taught[number]


def _sums(logits: Tensor, labels: Tensor, taught: Tensor | None) -> Tensor:
    labelled = _has_labels(labels)
    likeliest = logits.argmax(1)
    if labelled:
        loss = F.cross_entropy(logits, labels, reduction="sum")
    else:
        assert taught is not None  # noqa: S101  # the loop refuses to learn from nothing
        loss = F.kl_div(
            F.log_softmax(logits, 1), F.log_softmax(taught, 1), log_target=True, reduction="sum"
        )
    return torch.tensor(
        [
            loss.item(),
            (likeliest == labels).sum().item(),
            labelled,
            0 if taught is None else (likeliest == taught.argmax(1)).sum().item(),
            len(labels),
        ],
        dtype=torch.float64,
    )


def _has_labels(labels: Tensor) -> int:
    """How many images have a class."""
    return int((labels != UNLABELLED).sum())


def _proportion(count: int, of: int) -> Proportion:
    return Proportion(count=count, of=of, share=count / of, interval=wilson(count, of))

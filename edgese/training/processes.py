"""One process, or several that torchrun started, which share each step."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, distributed, nn

from edgese.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Processes:
    """This process among those that train together.

    Attributes:
        rank: from 0; only the first one writes and reports.
        size: how many there are.
        device: that this one computes on.
    """

    rank: int
    size: int
    device: torch.device

    @property
    def first(self) -> bool:
        """Whether this is the one that writes and reports."""
        return self.rank == 0

    def total(self, values: Tensor) -> Tensor:
        """The sum over all processes, in each of them."""
        if self.size == 1:
            return values
        values = values.to(self.device)
        distributed.all_reduce(values)
        return values

    def shared(self, student: nn.Module) -> nn.Module:
        """The student, with gradients that are averaged over all processes.

        BatchNorm normalises each process's part of a batch by itself, as the ResNet and SE papers
        do, and the first process's running statistics are everyone's.
        """
        if self.size == 1:
            return student
        return nn.parallel.DistributedDataParallel(
            student, device_ids=[self.device.index] if self.device.type == "cuda" else None
        )


def alone(device: str = "") -> Processes:
    """One process.

    Args:
        device: as torch calls it; "" takes a GPU where there is one.

    Raises:
        ConfigError: a device that torch does not know, or does not have here.
    """
    return Processes(rank=0, size=1, device=_device(device, 0))


@contextmanager
def together(device: str = "") -> Iterator[Processes]:
    """This process among those that torchrun started; one alone without torchrun.

    Raises:
        ConfigError: as `alone`, or another GPU than torchrun's was named.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield alone(device)
        return
    rank = int(os.environ["RANK"])
    found = _device(device, int(os.environ["LOCAL_RANK"]))
    if found.type == "cuda":
        torch.cuda.set_device(found)
    distributed.init_process_group("nccl" if found.type == "cuda" else "gloo")
    try:
        yield Processes(rank=rank, size=size, device=found)
    finally:
        distributed.destroy_process_group()


def is_first() -> bool:
    """Whether this process is the one that reports."""
    return os.environ.get("RANK", "0") == "0"


def _device(name: str, index: int) -> torch.device:
    if not name:
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        if device == torch.device("cuda"):
            device = torch.device("cuda", index)
        # Asks for a little memory, to find out here and not after the data was read.
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(
            f"There is no device {name!r}: {str(error).splitlines()[0]}",
            hint="Give cpu, cuda or cuda:0, or leave it out.",
        ) from error
    return device

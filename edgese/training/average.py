"""A moving average of a network's weights."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from edgese.training.plan import averaging


class WeightAverage:
    """The average of all that is a float in a network's state, BatchNorm's statistics included.

    Attributes:
        decay: see `edgese.records.training.Average`.
        updates: how many steps are in it.
        tensors: the averages, by name.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        state = network.state_dict()
        # These share their memory with the network; what is copied into it shows here.
        self._current = {name: t for name, t in state.items() if t.is_floating_point()}
        self.tensors = {name: tensor.clone() for name, tensor in self._current.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Takes in the weights as they are now."""
        share = 1 - averaging(self.decay, self.updates)
        self.updates += 1
        # One pass over all of them; torch has it under no public name.
        torch._foreach_lerp_(list(self.tensors.values()), list(self._current.values()), share)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Gives the network the averages for the length of a block."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def keep(self) -> None:
        """Gives the network the averages for good."""
        self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for average, current in zip(self.tensors.values(), self._current.values(), strict=True):
            held = current.clone()
            current.copy_(average)
            average.copy_(held)

    def load(self, tensors: dict[str, Tensor], updates: int) -> None:
        """Goes on from what `tensors` and `updates` once were."""
        self.updates = updates
        for name, tensor in self.tensors.items():
            tensor.copy_(tensors[name])

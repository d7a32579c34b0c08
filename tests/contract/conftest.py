"""Fixtures of the tests that run real torch."""

import pytest
import torch
from torch.fx import Interpreter
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

TINY = """
name = "tiny"
family = "mine"
classes = 4
activation = "silu"

[stem]
channels = [8]

[[stages]]
block = "mbconv"
channels = 8
depth = 2
expansion = 2
se = { reduction = 4 }

[preprocessing]
height = 32
width = 32
"""


@pytest.fixture(scope="session")
def tiny_spec():
    """The spec file of a network with gates and SiLU that is made in no time; 32 x 32 pixels."""
    return TINY


@pytest.fixture
def peak_allocation():
    """Measures the bytes that are alive at once while an exported program runs step by step."""

    def measured(program, picture):
        with torch.no_grad(), _Storages() as storages:
            trace = _Trace(program.module(check_guards=False), storages)
            trace.run(picture)
        return trace.peak

    return measured


class _Storages(TorchDispatchMode):
    """Knows every storage that an operator has made and that is still alive."""

    def __init__(self):
        super().__init__()
        self.sizes = {}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        # A view of a parameter is no new memory.
        read = {StorageWeakRef(leaf.untyped_storage()) for leaf in _tensors(args)}
        for leaf in _tensors(made):
            reference = StorageWeakRef(leaf.untyped_storage())
            if reference not in read:
                self.sizes[reference] = leaf.untyped_storage().nbytes()
        return made

    def live_bytes(self):
        self.sizes = {ref: size for ref, size in self.sizes.items() if not ref.expired()}
        return sum(self.sizes.values())


class _Trace(Interpreter):
    """Looks after every operator, before what it read for the last time is let go."""

    def __init__(self, module, storages):
        super().__init__(module)
        self.storages = storages
        self.peak = 0

    def placeholder(self, target, args, kwargs):
        # The caller holds on to the picture; a copy is let go after its last use.
        return super().placeholder(target, args, kwargs).clone()

    def run_node(self, node):
        result = super().run_node(node)
        self.peak = max(self.peak, self.storages.live_bytes())
        return result


def _tensors(values):
    return (leaf for leaf in tree_leaves(values) if isinstance(leaf, torch.Tensor))

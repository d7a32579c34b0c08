"""One hash for all numbers of a quantized program."""

import hashlib
from typing import TYPE_CHECKING

import torch
from torch import Tensor, fx

from edgese.program.forms import held_tensors, pair_grid
from edgese.program.nodes import DEQUANTIZE, DEQUANTIZE_CHANNELS, WEIGHTED, Constants, arguments

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch.export import ExportedProgram

_QUANTIZE_CHANNELS = "quantized_decomposed.quantize_per_channel.default"


def integers_sha256(program: "ExportedProgram") -> str:
    """Return a hash of the integers of weights and biases, and of all scales and zero points.

    Two programs have the same hash where they hold the same operators with the same numbers, in the
    same order; names do not count. What stays in float (the constants of operators that the recipe
    keeps there) counts with its bytes.

    Args:
        program: quantized, unfolded, as `edgese.quantization.insertion` makes it.
    """
    digest = hashlib.sha256()
    for part in _parts(program):
        digest.update(part)
    return digest.hexdigest()


def _parts(program: "ExportedProgram") -> "Iterator[bytes]":
    held = held_tensors(program)
    constants = Constants(held)
    counted: set[fx.Node] = set()
    for node in program.graph.nodes:
        if node.op != "call_function":
            continue
        yield f"{node.target}\n".encode()
        grid = pair_grid(node)
        if grid is not None:
            yield f"{grid.scale.hex()} {grid.zero_point}\n".encode()
        elif str(node.target) == _QUANTIZE_CHANNELS:
            counted.update(node.all_input_nodes)
            yield from _bytes(constants[node])
            yield from _bytes(constants[node.args[1]])
            yield from _bytes(constants[node.args[2]])
        elif (steps := _bias_steps(node, constants)) is not None:
            bias = arguments(node)[2]
            counted.add(bias)
            yield from _bytes((constants[bias].double() / steps).round().to(torch.int32))
        for source in node.all_input_nodes:
            if source.name in held and source not in counted:
                yield from _bytes(held[source.name])


def _bias_steps(node: fx.Node, constants: Constants) -> Tensor | None:
    """The steps of the bias of an integer convolution or linear layer: (out,)."""
    if str(node.target) not in WEIGHTED:
        return None
    source, weight, bias, *_ = arguments(node)
    if bias is None or (str(source.target), str(weight.target)) != (
        DEQUANTIZE,
        DEQUANTIZE_CHANNELS,
    ):
        return None
    grid = pair_grid(source)
    assert grid is not None  # noqa: S101  # it dequantizes a whole tensor
    return constants[weight.args[1]].double() * grid.scale


def _bytes(tensor: Tensor) -> "Iterator[bytes]":
    plain = tensor.detach().contiguous()
    yield f"{plain.dtype} {tuple(plain.shape)}\n".encode()
    yield plain.numpy().tobytes()

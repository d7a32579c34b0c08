"""Which functions an inference spent its instructions in, and what they multiply with; pure."""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Final

from edgese.records.emulation import InstructionCounts, Kernel

# Pairs of numbers that a full vector's instruction multiplies.
LANES: Final = {
    "int8_matrix": 32,
    "int8_dot": 16,
    "integer_multiply_add": 8,
    "f16_multiply_add": 8,
    "f32_multiply_add": 4,
}
WORDS: Final = {
    "int8_matrix": "i8mm",
    "int8_dot": "dot product",
    "integer_multiply_add": "integer multiply-add",
    "f16_multiply_add": "fp16 multiply-add",
    "f32_multiply_add": "fp32 multiply-add",
}
_CLASSES: Final = InstructionCounts.__struct_fields__[1:]
# Of a function's instructions; the kernels that multiply least, for depthwise convolutions of fp32,
# have twice as many.
_MULTIPLIES: Final = 0.05
# Of all products of an inference.
_TAKES_PART: Final = 0.02


def kernels_of(
    blocks: Iterable[tuple[int, ...]], locate: Callable[[int], tuple[str, str]], most: int
) -> tuple[Kernel, ...]:
    """The functions with the most instructions, the most first.

    Args:
        blocks: of the counter: address, executions, instructions, and how many of each class.
        locate: library and function of an address; a function without a name begins with "+".
    """
    found: dict[tuple[str, str], Counter[str]] = {}
    for address, executions, size, *classes in blocks:
        counts = found.setdefault(locate(address), Counter())
        counts["total"] += executions * size
        for name, number in zip(_CLASSES, classes, strict=True):
            counts[name] += executions * number
    total = sum(counts["total"] for counts in found.values())
    ranked = sorted(found.items(), key=lambda item: (-item[1]["total"], item[0]))
    return tuple(
        Kernel(
            name=f"{library}{name}" if not name or name.startswith("+") else name,
            library=library,
            instructions=counts["total"],
            share=counts["total"] / total,
            by=_multiplier(counts),
        )
        for (library, name), counts in ranked[:most]
    )


def dispatch_of(counts: InstructionCounts) -> tuple[str, ...]:
    """What an inference multiplies with, by the products that each kind makes, the most first."""
    products = products_of(counts)
    total = sum(products.values())
    return tuple(
        WORDS[name]
        for name, made in sorted(products.items(), key=lambda item: -item[1])
        if total and made / total >= _TAKES_PART
    )


def products_of(counts: InstructionCounts) -> dict[str, int]:
    """Products that the instructions of each multiplying class make, if all vectors are full."""
    return {name: getattr(counts, name) * lanes for name, lanes in LANES.items()}


def _multiplier(counts: Counter[str]) -> str:
    name = max(LANES, key=lambda name: counts[name] * LANES[name])
    return WORDS[name] if counts[name] >= _MULTIPLIES * counts["total"] else ""

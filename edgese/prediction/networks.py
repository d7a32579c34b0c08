"""Networks as lists of layers: from a model's rows, or from a table of a published network."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Final

import msgspec

from edgese import catalog
from edgese.errors import ConfigError, InputError
from edgese.records.base import Record

if TYPE_CHECKING:
    from edgese.models.operators import Operator
    from edgese.records.model import ModelSpec

FOLDER: Final = "calibration/latency/networks"
# Every runtime carries these out inside the convolution before them, at no cost worth counting.
_FREE: Final = frozenset({"pad", "relu", "relu6"})
# Names in the tables of measurements that are models here.
ALIASES: Final = {"efficientnetv2_b0": "efficientnet_v2_b0"}

Row = tuple[str, int, int, int, int, int, int, int]


class Layer(Record, frozen=True):
    """One operator on one picture; heights and widths are of its first input and its output.

    Attributes:
        kind: "conv", "linear", or any other, which is then counted by the numbers it touches.
    """

    kind: str
    channels_in: int
    channels_out: int
    kernel: int = 1
    stride: int = 1
    groups: int = 1
    size_in: tuple[int, int] = (1, 1)
    size_out: tuple[int, int] = (1, 1)

    @property
    def weights(self) -> int:
        """Elements of its weight."""
        if self.kind not in ("conv", "linear"):
            return 0
        return self.channels_in // self.groups * self.channels_out * self.kernel**2

    @property
    def macs(self) -> int:
        """Multiply-adds."""
        return self.weights * self.size_out[0] * self.size_out[1]

    @property
    def read(self) -> int:
        """Numbers of its first input."""
        return self.channels_in * self.size_in[0] * self.size_in[1]

    @property
    def written(self) -> int:
        """Numbers of its output."""
        return self.channels_out * self.size_out[0] * self.size_out[1]


class NetworkTable(Record, frozen=True):
    """A file in calibration/latency/networks: a published network that is no model of edgese.

    Attributes:
        source: where its shapes come from.
        published_mmacs: millions of multiply-adds that its source tells.
        operators: kind, channels in, channels out, kernel, stride, groups, side in, side out.
    """

    name: str
    source: str
    resolution: tuple[int, int]
    operators: Annotated[tuple[Row, ...], msgspec.Meta(min_length=1)]
    published_mmacs: float | None = None


def layers(model: str, resolution: tuple[int, int] | None) -> tuple[tuple[int, int], list[Layer]]:
    """The resolution that is meant, and the layers at it.

    Args:
        model: a model's name, a spec file, or a network in calibration/latency/networks.

    Raises:
        ConfigError: no such network, or a resolution that it has no table of.
    """
    from edgese.models.registry import find_model, models

    name = ALIASES.get(model, model)
    if name in table_names() and name not in models():
        return _tabled(network_table(name), resolution)
    return of_spec(find_model(name), resolution)


def of_spec(
    spec: "ModelSpec", resolution: tuple[int, int] | None = None
) -> tuple[tuple[int, int], list[Layer]]:
    """The layers of a spec.

    Raises:
        ConfigError: a resolution that the network cannot run at.
    """
    from edgese.models.operators import operators

    height, width = resolution or (spec.preprocessing.height, spec.preprocessing.width)
    return (height, width), list(_fused(operators(spec, height, width)))


def table_names() -> tuple[str, ...]:
    """Every network that has a table, in alphabetical order."""
    return catalog.names(FOLDER)


def network_table(name: str) -> NetworkTable:
    """The table of a network.

    Raises:
        ConfigError: there is none.
    """
    path = catalog.source(FOLDER, name)
    if path is None:
        raise ConfigError(
            f"There is no table of layers for {name!r}.", hint=f"Known: {', '.join(table_names())}."
        )
    table = NetworkTable.from_toml(path.read_bytes(), path)
    if table.name != name:
        raise InputError(
            f"{path} calls itself {table.name!r}.", hint=f"Rename it to {table.name}.toml."
        )
    return table


def _tabled(
    table: NetworkTable, resolution: tuple[int, int] | None
) -> tuple[tuple[int, int], list[Layer]]:
    if resolution not in (None, table.resolution):
        raise ConfigError(
            f"{table.name} is known at {table.resolution[0]}x{table.resolution[1]} px alone, and "
            f"{resolution[0]}x{resolution[1]} was asked for.",
            hint="Leave --resolution out, or give a model that edgese builds (`edgese models`).",
        )
    return table.resolution, [
        Layer(
            kind=kind,
            channels_in=channels_in,
            channels_out=channels_out,
            kernel=kernel,
            stride=stride,
            groups=groups,
            size_in=(before, before),
            size_out=(after, after),
        )
        for kind, channels_in, channels_out, kernel, stride, groups, before, after in (
            _without_silu_products(table.operators)
        )
    ]


def _without_silu_products(rows: tuple[Row, ...]) -> Iterator[Row]:
    """Runtimes carry out x * sigmoid(x) as one operator; the product behind a gate is another."""
    before = None
    for row in rows:
        if not (
            row[0] == "mul"
            and before is not None
            and before[0] == "sigmoid"
            and row[6] == before[6]
            and row[6] > 1
        ):
            yield row
        before = row


def _fused(steps: "tuple[Operator, ...]") -> Iterator[Layer]:
    for step in steps:
        silu = step.kind == "mul" and not step.scales
        if step.kind in _FREE or silu:
            continue
        first, output = step.inputs[0], step.output
        yield Layer(
            kind=step.kind,
            channels_in=first.channels,
            channels_out=output.channels,
            kernel=step.kernel,
            stride=step.stride,
            groups=step.groups,
            size_in=(first.height, first.width),
            size_out=(output.height, output.width),
        )

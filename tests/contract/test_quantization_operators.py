"""Each operator of the exact-integer reference, argument by argument, against PyTorch in floats."""

from functools import cache

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.ao.quantization.fx import _decomposed  # noqa: E402, F401  # registers its operators
from torch.nn import functional as F  # noqa: E402

from edgese.errors import ConversionError  # noqa: E402
from edgese.program.integers import OPERATORS, integer_outputs  # noqa: E402
from edgese.program.nodes import DEQUANTIZE, QUANTIZE, argument_of  # noqa: E402
from edgese.quantization.layout import ROLES, Role  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")

CHANNELS, HEIGHT, WIDTH = 4, 9, 7
ops = torch.ops.quantized_decomposed
aten = torch.ops.aten


def on_grid(x, grid):
    """A pair of quantize and dequantize."""
    what = (*grid, -128, 127, torch.int8)
    return ops.dequantize_per_tensor(ops.quantize_per_tensor(x, *what), *what)


def grid_for(low, high, draw):
    """Quantization parameters for about a range, a little too small or too large."""
    low, high = min(float(low), -1e-3), max(float(high), 1e-3)
    scale = (high - low) / 255 * draw.uniform(0.8, 1.3)
    return scale, int(np.clip(round(-128 - low / scale) + draw.integers(-9, 9), -128, 127))


class One(nn.Module):
    """One operator between pairs, on two tensors with quantization parameters of their own.

    Args:
        function: of the operator's tensors, and of this module for what it holds.
        shares: the output has the parameters of the first input.
    """

    def __init__(self, function, shapes, *, draw, shares):
        super().__init__()
        self.function = function
        self.shapes = shapes
        self.register_buffer("weight", torch.zeros(()))
        self.draws(draw)
        inputs = self.inputs(images(3))
        self.ranges = [grid_for(x.min(), x.max(), draw) for x in inputs]
        result = function(self, *self.read(images(3)))
        self.behind = self.ranges[0] if shares else grid_for(result.min(), result.max(), draw)

    def draws(self, draw):
        """Weights that int8 holds exactly, each channel with a scale of its own."""
        for name, shape in (
            ("conv", (8, 4, 3, 3)),
            ("grouped", (8, 2, 3, 2)),
            ("deep", (4, 1, 3, 3)),
        ):
            self.hold(name, draw.integers(-127, 128, shape), draw)
        self.hold("linear", draw.integers(-127, 128, (5, CHANNELS)), draw)
        self.register_buffer("bias", torch.from_numpy(draw.normal(0, 1, 8)).float())
        self.register_buffer(
            "row", torch.from_numpy(draw.normal(0, 1, (1, CHANNELS, 1, 1))).float()
        )

    def hold(self, name, codes, draw):
        """Keep a weight."""
        scales = torch.from_numpy(draw.uniform(0.001, 0.02, len(codes))).float()
        held = torch.from_numpy(codes).float() * scales.view(-1, *[1] * (codes.ndim - 1))
        self.register_buffer(f"{name}_held", held)
        self.register_buffer(f"{name}_scales", scales)
        self.register_buffer(f"{name}_zeros", torch.zeros(len(codes), dtype=torch.int64))

    def w(self, name):
        """A weight as a quantized program has it."""
        held, scales, zeros = (getattr(self, f"{name}_{p}") for p in ("held", "scales", "zeros"))
        what = (scales, zeros, 0, -127, 127, torch.int8)
        return ops.dequantize_per_channel(ops.quantize_per_channel(held, *what), *what)

    def inputs(self, x):
        """(N, 3, 9, 7) to tensors of the wanted shapes, with values of both signs."""
        both = torch.cat([x, x.flip(1)[:, :1] * 0.7], 1)
        made = []
        for index, shape in enumerate(self.shapes):
            value = torch.tanh(both * (1 + index)) * (1.5 - index / 2) + 0.1 * index
            if shape == "gate":
                value = value.amax((2, 3), keepdim=True)
            elif shape == "row":
                value = self.row
            elif shape == "features":
                value = value[:, :, 0, 0]
            elif shape == "pixel":
                value = value[:, :, :1, :1]
            elif shape == "column":
                value = value[:, :1, :, :1]
            made.append(value)
        return made

    def read(self, x):
        """What the operator reads."""
        return [on_grid(t, grid) for t, grid in zip(self.inputs(x), self.ranges, strict=True)]

    def forward(self, x):
        """(N, 3, 9, 7) to whatever the operator makes of it."""
        return on_grid(self.function(self, *self.read(x)), self.behind)


def images(count, seed=0):
    return torch.from_numpy(
        np.random.default_rng(seed).normal(0, 0.7, (count, 3, HEIGHT, WIDTH)).astype(np.float32)
    )


def conv(name, *, bias=True, **how):
    size = 4 if name == "deep" else 8
    return lambda m, x: F.conv2d(x, m.w(name), m.bias[:size] if bias else None, **how)


FULL = ("full",)
# Of each operator: the variants, each a function and the shapes of what it reads.
VARIANTS = {
    "aten.conv2d.default": [
        (conv("conv", bias=bias, **how), FULL)
        for bias in (True, False)
        for how in (
            {},
            {"stride": 2, "padding": 1},
            {"stride": (1, 2), "padding": (0, 2)},
            {"dilation": (2, 1), "padding": 2},
        )
    ]
    + [
        (conv("grouped", groups=2, padding=1), FULL),
        (conv("deep", bias=False, groups=4, stride=2), FULL),
    ],
    "aten.linear.default": [
        (lambda m, x: F.linear(x, m.w("linear"), m.bias[:5]), ("features",)),
        (lambda m, x: F.linear(x, m.w("linear")), ("features",)),
    ],
    **{
        f"aten.{name}.Tensor": [
            (lambda _, x, y, f=function: f(x, y), shapes)
            for shapes in (
                ("full", "full"),
                ("full", "gate"),
                ("gate", "full"),
                ("full", "row"),
                ("row", "full"),
                ("full", "column"),
                ("gate", "column"),
                ("full", "pixel"),
                ("features", "features"),
            )
        ]
        + [(lambda _, x, f=function: f(x, x), FULL)]
        for name, function in (("add", torch.add), ("mul", torch.mul))
    },
    "aten.mean.dim": [
        (lambda _, x, d=dims, k=keep: x.mean(d, keepdim=k), FULL)
        for dims in ((2, 3), (-1, -2), 2, -1, 1, (1, 2, 3), (1, -1))
        for keep in (False, True)
    ],
    "aten.adaptive_avg_pool2d.default": [
        (lambda _, x, s=size: F.adaptive_avg_pool2d(x, s), FULL)
        for size in (1, 2, 3, (1, 2), (9, 7), (5, 4), (4, 1))
    ],
    "aten.avg_pool2d.default": [
        (
            lambda _, x, k=kernel, s=stride, p=padding, c=ceil, i=counts, d=divisor: F.avg_pool2d(
                x, k, s, p, c, i, d
            ),
            FULL,
        )
        for kernel, stride, padding in (
            (2, None, 0),
            (3, 2, 1),
            (3, 1, 1),
            ((2, 3), (2, 1), (1, 0)),
            (2, 3, 1),
            ((9, 7), None, 0),
        )
        for ceil in (False, True)
        for counts in (False, True)
        for divisor in (None, 1, 7)
    ],
    "aten.max_pool2d.default": [
        (
            lambda _, x, k=kernel, s=stride, p=padding, d=dilation, c=ceil: F.max_pool2d(
                x, k, s, p, d, c
            ),
            FULL,
        )
        for kernel, stride, padding, dilation in (
            (2, None, 0, 1),
            (3, 2, 1, 1),
            ((3, 2), (1, 2), (1, 0), 1),
            (3, 2, 1, 2),
            (1, 2, 0, 1),
        )
        for ceil in (False, True)
    ],
    "aten.constant_pad_nd.default": [
        (lambda _, x, a=amounts, v=value: aten.constant_pad_nd(x, a, v), FULL)
        for amounts in ((1, 2, 0, 1), (1, 1), (-1, 0, 2, -2), (0, 0, 0, 0, 1, 2))
        for value in (0, 0.25, -1.0)
    ],
    "aten.cat.default": [
        (lambda _, *parts, d=dim: torch.cat(parts, d), ("full",) * count)
        for dim, count in ((1, 2), (-3, 3), (2, 2), (-1, 2))
    ],
    "aten.permute.default": [
        (lambda _, x, d=dims: x.permute(d), FULL) for dims in ((0, 2, 3, 1), (0, -1, 1, -2))
    ],
    "aten.flatten.using_ints": [
        (lambda _, x, a=start, b=end: torch.flatten(x, a, b), FULL)
        for start, end in ((1, -1), (2, 3), (1, 2), (-2, -1))
    ],
    "aten.view.default": [
        (lambda _, x, s=shape: x.view(x.shape[0], *s), FULL)
        for shape in ((-1,), (CHANNELS, -1), (2, 2, HEIGHT, WIDTH))
    ],
    "aten.reshape.default": [
        (lambda _, x, s=shape: x.reshape(-1, *s), FULL)
        for shape in ((CHANNELS * HEIGHT * WIDTH,), (WIDTH, HEIGHT, CHANNELS))
    ],
    "aten.squeeze.dim": [(lambda _, x, d=d: x.squeeze(d), ("gate",)) for d in (2, -1, 1)],
    "aten.squeeze.dims": [(lambda _, x, d=d: x.squeeze(d), ("gate",)) for d in ((2, 3), (-1,))],
    "aten.unsqueeze.default": [
        (lambda _, x, d=d: x.unsqueeze(d), ("features",)) for d in (1, 2, -1, -2)
    ],
    "aten.sigmoid.default": [(lambda _, x: torch.sigmoid(x), FULL)],
}
MOVES = {str(target) for target, role in ROLES.items() if role is Role.SHARED}
IMAGES, SEEDS = 2, 2


class All(nn.Module):
    """Every variant of an operator, one after the other: exporting takes longer than computing."""

    def __init__(self, name):
        super().__init__()
        # TFLite demands equal parameters of what only moves values; other runtimes change them.
        self.parts = nn.ModuleList(
            One(
                *variant,
                draw=np.random.default_rng(seed + SEEDS * index),
                shares=name in MOVES and seed == 0,
            )
            for index, variant in enumerate(VARIANTS[name])
            for seed in range(SEEDS)
        )

    def forward(self, x):
        """(N, 3, 9, 7) to (N, all that the variants make of it)."""
        return torch.cat([part(x).reshape(IMAGES, -1) for part in self.parts], 1)


@cache
def exported(name):
    torch.set_num_threads(1)
    net = All(name).eval()
    return net, torch.export.export(net, (images(IMAGES),))


def integer_nodes(name):
    """The operators in question, and not what stands around them."""
    _, program = exported(name)
    return [
        node
        for node in program.graph.nodes
        if str(node.target) == name
        and {str(source.target) for source in node.all_input_nodes[:1]} == {DEQUANTIZE}
        and [str(user.target) for user in node.users] == [QUANTIZE]
    ]


def test_every_operator_of_the_reference_is_tried():
    assert set(VARIANTS) == set(OPERATORS)


def test_every_operator_that_is_quantized_has_a_reference():
    """A clamp alone has none, which the quantization parameters behind it compute."""
    has_none = {str(target) for target, role in ROLES.items() if role is Role.CLAMP}
    assert {str(target) for target in ROLES} - has_none == set(OPERATORS)


@pytest.mark.parametrize("name", VARIANTS)
def test_integers_are_what_the_operator_gives_in_floats(name):
    net, program = exported(name)
    assert len(integer_nodes(name)) == len(VARIANTS[name]) * SEEDS
    given = images(IMAGES, seed=5)
    found, away = integer_outputs(program, given.numpy(), IMAGES), []
    for part in net.parts:
        scale, zero = part.behind
        with torch.no_grad():
            exact = part.function(part, *part.read(given)).double().reshape(IMAGES, -1).numpy()
        wanted = np.clip(exact, (-128 - zero) * scale, (127 - zero) * scale)
        own, found = np.split(found, [wanted.shape[1]], axis=1)
        away.append(np.abs(own - wanted).max() / scale / bound(name, part))
    assert found.size == 0
    assert max(away) <= 1, away


def bound(name, net):
    """Return how many steps an integer may be away: half a step, and what kernels round besides.

    XNNPACK changes quantization parameters by a factor of 8 bits, before half a step is lost; its
    sums have 21 bits. A sigmoid is rounded to 1/256 before that. Biases are whole steps of the
    accumulator.
    """
    scale = net.behind[0]
    changes = [abs(round(256 * s / scale) / 256 - s / scale) * 255 for s, _ in net.ranges]
    if name in MOVES and name != "aten.avg_pool2d.default":
        return 0.5 + max(changes) + 1e-3
    if name == "aten.sigmoid.default":
        share = 1 / 256 / scale
        return 0.5 + share / 2 + abs(round(256 * share) / 256 - share) * 255 + 1e-3
    rounded = 0.5 * 0.02 * net.ranges[0][0] / scale if "conv" in name or "linear" in name else 0
    return 0.5 + rounded + 1e-2


def test_a_factor_of_a_sum_is_refused_by_the_reference():
    net = One(
        lambda _, x, y: torch.add(x, y, alpha=2),
        ("full", "full"),
        draw=np.random.default_rng(0),
        shares=False,
    )
    program = torch.export.export(net.eval(), (images(2),))
    with pytest.raises(ConversionError, match="multiplies what it adds by 2"):
        integer_outputs(program, images(2).numpy(), 2)


def test_another_type_of_a_mean_is_refused_by_the_reference():
    net = One(
        lambda _, x: x.mean((2, 3), dtype=torch.float32),
        FULL,
        draw=np.random.default_rng(0),
        shares=False,
    )
    program = torch.export.export(net.eval(), (images(2),))
    with pytest.raises(ConversionError, match="changes the type"):
        integer_outputs(program, images(2).numpy(), 2)


# What an operator is given that is no tensor; a variant changes each of these.
TRIED = {
    "aten.conv2d.default": {"stride", "padding", "dilation", "groups"},
    "aten.avg_pool2d.default": {
        "kernel_size",
        "stride",
        "padding",
        "ceil_mode",
        "count_include_pad",
        "divisor_override",
    },
    "aten.max_pool2d.default": {"kernel_size", "stride", "padding", "dilation", "ceil_mode"},
    "aten.adaptive_avg_pool2d.default": {"output_size"},
    "aten.mean.dim": {"dim", "keepdim"},
    "aten.constant_pad_nd.default": {"pad", "value"},
    "aten.cat.default": {"dim"},
    "aten.permute.default": {"dims"},
    "aten.flatten.using_ints": {"start_dim", "end_dim"},
    "aten.view.default": {"size"},
    "aten.reshape.default": {"shape"},
    "aten.squeeze.dim": {"dim"},
    "aten.squeeze.dims": {"dim"},
    "aten.unsqueeze.default": {"dim"},
}
REFUSED = {"aten.add.Tensor": {"alpha"}, "aten.mean.dim": {"dtype"}}


@pytest.mark.parametrize("name", VARIANTS)
def test_every_argument_of_an_operator_is_tried_or_refused(name):
    package, operator, overload = name.split(".")
    schema = getattr(getattr(getattr(torch.ops, package), operator), overload)._schema  # noqa: SLF001  # no other way
    known = {a.name for a in schema.arguments if "Tensor" not in str(a.type)}
    assert known == TRIED.get(name, set()) | REFUSED.get(name, set())


@pytest.mark.parametrize("name", TRIED)
def test_each_argument_has_several_values_among_the_variants(name):
    seen = {
        argument: {str(argument_of(node, argument)) for node in integer_nodes(name)}
        for argument in TRIED[name]
    }
    assert {argument for argument, values in seen.items() if len(values) < 2} == set()

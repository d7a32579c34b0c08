"""Fake quantization computes what the program's operators compute, and has LSQ's gradients."""

import copy

import numpy as np
import pytest
import torch
import torch.ao.quantization.fx._decomposed
from torch import fx, nn
from torch.nn import functional as F

from edgese.errors import ConfigError, InputError
from edgese.program.qparams import grid_of, weight_scales
from edgese.quantization.fake import (
    ActivationQuantizer,
    BiasQuantizer,
    QuantizedSiLU,
    WeightQuantizer,
    fake_quantize,
    fake_quantize_bias,
    fake_quantize_weight,
    largest_scales,
    quantized_silu,
)
from edgese.records.artifact import Grid

pytestmark = pytest.mark.usefixtures("one_thread")

ops = torch.ops.quantized_decomposed
# Scales that are a power of two, that round when inverted, and that are the finest there is.
GRIDS = [(1 / 256, -128), (0.037, 5), (0.1, -128), (2.0**-12, 127), (3.3, 0)]
SILU_GRIDS = [
    # Nothing is outside, the top of the product is, the bottom of it, the input.
    ((0.05, 3), (0.025, -117)),
    ((0.05, 3), (0.01, -100)),
    ((0.11, -20), (0.05, -127)),
    ((0.004, 10), (0.002, -64)),
]


def simulated(x, scale, zero_point, low=-128, high=127):
    """The operators of a quantized program; they know a scale as what float32 holds of it."""
    scale = float(np.float32(scale))
    codes = ops.quantize_per_tensor(x, scale, zero_point, low, high, torch.int8)
    return ops.dequantize_per_tensor(codes, scale, zero_point, low, high, torch.int8)


def simulated_silu(x, source, output):
    x = simulated(x, *source)
    return simulated(x * simulated(torch.sigmoid(x), 1 / 256, -128), *output)


def straight_through(x, y):
    return x + (y - x).detach()


def reference(x, scale, zero_point, low=-128, high=127):
    """LSQ as its paper writes it, for autograd to differentiate."""
    steps = torch.clamp(x / scale, low - zero_point, high - zero_point)
    return straight_through(steps, steps.round()) * scale


def reference_silu(x, source, output):
    x = reference(x, *source)
    rounded = (torch.sigmoid(x) * 256).round().clamp(max=255) / 256
    return reference(straight_through(x * torch.sigmoid(x), x * rounded), *output)


def spread(scale, zero_point, shape=(4, 6, 5, 5), seed=0):
    """Values that fill a grid, a fifth of them outside."""
    low, high = (-128 - zero_point) * scale, (127 - zero_point) * scale
    generator = torch.manual_seed(seed)
    return torch.empty(shape).uniform_(
        low - 0.1 * (high - low), high + 0.1 * (high - low), generator=generator
    )


def factor(x):
    return (x.numel() * 127) ** -0.5


def given(y):
    """A random gradient of ``y``."""
    return torch.randn(y.shape, generator=torch.manual_seed(1)).to(y.dtype)


def gradients(function, *tensors):
    """What a function gives, and the gradients of its tensors where `given` is that of its own."""
    tensors = [tensor.clone().requires_grad_() for tensor in tensors]
    y = function(*tensors)
    return y.detach(), torch.autograd.grad(y, tensors, given(y))


@pytest.mark.parametrize(("scale", "zero_point"), GRIDS)
def test_values_are_those_of_the_operators(scale, zero_point):
    steps = torch.arange(-300, 300) * 0.5 * scale  # every other one is half way between two codes
    near = torch.nextafter(steps, torch.tensor(torch.inf))
    extremes = torch.tensor([0.0, -0.0, 1e-40, 1e30, -1e30, torch.inf, -torch.inf])
    for x in (steps, near, spread(scale, zero_point), extremes):
        assert torch.equal(fake_quantize(x, scale, zero_point), simulated(x, scale, zero_point))


def test_other_codes_than_eight_bits():
    x = torch.linspace(-3, 3, 200)

    actual = fake_quantize(x, 0.2, -3, -8, 7)

    assert torch.equal(actual, simulated(x, 0.2, -3, -8, 7))
    assert len(actual.unique()) == 16


def test_nan_stays_so_that_the_loss_shows_it():
    x = torch.tensor([1.0, torch.nan])

    assert fake_quantize(x, 0.1, 0).isnan().tolist() == [False, True]
    assert quantized_silu(x, 0.1, 0, 0.1, 0).isnan().tolist() == [False, True]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_short_floats_are_computed_in_float32_and_keep_their_type(dtype):
    x = spread(0.037, 5).to(dtype)
    scale = torch.tensor(0.037)

    y, (of_x, of_scale) = gradients(lambda x, s: fake_quantize(x, s, 5), x, scale)

    assert y.dtype == of_x.dtype == dtype
    assert torch.equal(y, simulated(x, 0.037, 5).to(dtype))
    expected = gradients(lambda x, s: reference(x, s, 5).to(dtype).float(), x.float(), scale)[1]
    torch.testing.assert_close(of_scale, expected[1] * factor(x), rtol=0.02, atol=0.02)


@pytest.mark.parametrize(("scale", "zero_point"), GRIDS)
def test_gradients_are_those_of_lsq(scale, zero_point):
    x, scale = spread(scale, zero_point).double(), torch.tensor(scale, dtype=torch.float64)

    actual = gradients(lambda x, s: fake_quantize(x, s, zero_point), x, scale)
    expected = gradients(lambda x, s: reference(x, s, zero_point), x, scale)

    torch.testing.assert_close(actual[0], expected[0])
    torch.testing.assert_close(actual[1][0], expected[1][0])
    assert 0.05 < (actual[1][0] == 0).double().mean() < 0.4
    torch.testing.assert_close(actual[1][1], expected[1][1] * factor(x))


def test_the_gradient_of_the_scale_holds_in_float32():
    """It is a small difference of two large sums; here of 300,000 values, none outside."""
    x, scale = 0.8 * spread(0.037, 0, (16, 32, 24, 24)), torch.tensor(0.037)

    actual = gradients(lambda x, s: fake_quantize(x, s, 0), x, scale)[1][1]
    exact = gradients(lambda x, s: reference(x, s, 0), x.double(), scale.double())[1][1]

    torch.testing.assert_close(actual.double(), exact * factor(x), rtol=0, atol=1e-5)
    # What it is for tensors of this kind: 0.29 is the deviation of a rounding, in steps.
    assert 1e-3 < exact.abs() * factor(x) < 3 * 0.29 / 127**0.5


def test_what_lies_outside_follows_the_end_of_the_grid():
    """There the function is smooth in the scale, and a difference quotient tells its gradient."""
    x = torch.tensor([-50.0, 50.0, 60.0], dtype=torch.float64)
    weights = torch.tensor([0.3, -2.0, 0.7], dtype=torch.float64)

    def loss(scale):
        return (fake_quantize(x, scale, 20) * weights).sum()

    scale = torch.tensor(0.1, dtype=torch.float64, requires_grad=True)
    loss(scale).backward()

    quotient = (loss(0.1 + 1e-3) - loss(0.1 - 1e-3)) / 2e-3
    torch.testing.assert_close(scale.grad, quotient.double() * factor(x), rtol=1e-6, atol=0)


def test_the_zero_point_moves_what_lies_outside():
    x = spread(0.037, 5).double()
    zero_point = torch.tensor(5.3, dtype=torch.float64)

    y, (of_x, of_zero) = gradients(lambda x, z: fake_quantize(x, 0.037, z), x, zero_point)

    torch.testing.assert_close(y, reference(x, 0.037, 5))
    outside = given(x)[of_x == 0].sum()
    torch.testing.assert_close(of_zero, -0.037 * outside * factor(x))


def test_the_scale_can_be_learned_from_a_part_of_the_pictures():
    x, scale = spread(0.037, 5, (8, 16, 20, 20)), torch.tensor(0.037)

    actual = gradients(lambda x, s: fake_quantize(x, s, 5, share=0.25), x, scale)[1]
    s = scale.clone().requires_grad_()
    part = torch.autograd.grad(reference(x[:2], s, 5), s, given(x)[:2])[0]

    whole = gradients(lambda x, s: fake_quantize(x, s, 5), x, scale)[1]
    assert torch.equal(actual[0], whole[0])
    torch.testing.assert_close(actual[1], 4 * part * factor(x), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("source", "output"), SILU_GRIDS)
def test_silu_is_that_of_the_operators(source, output):
    codes = torch.arange(-140, 140) * source[0]
    for x in (codes, 3 * torch.randn(7, 33, generator=torch.manual_seed(0)), spread(*source)):
        assert torch.equal(quantized_silu(x, *source, *output), simulated_silu(x, source, output))


@pytest.mark.parametrize(("source", "output"), SILU_GRIDS)
def test_silu_has_the_gradients_of_its_parts(source, output):
    x = spread(*source).double()
    scales = [torch.tensor(grid[0], dtype=torch.float64) for grid in (source, output)]

    actual = gradients(lambda x, s, t: quantized_silu(x, s, source[1], t, output[1]), x, *scales)
    expected = gradients(
        lambda x, s, t: reference_silu(x, (s, source[1]), (t, output[1])), x, *scales
    )

    torch.testing.assert_close(actual[0], expected[0])
    torch.testing.assert_close(actual[1][0], expected[1][0])
    for i in (1, 2):
        torch.testing.assert_close(actual[1][i], expected[1][i] * factor(x))


def test_silu_on_fine_grids_has_the_slope_of_silu():
    """A difference quotient over many steps sees through the rounding."""
    x = torch.linspace(-5, 5, 101, dtype=torch.float64, requires_grad=True)
    source, output = (ActivationQuantizer(2.0**-12, 0, low=-(2**15), high=2**15) for _ in range(2))
    silu = QuantizedSiLU(source, output)

    (slope,) = torch.autograd.grad(silu(x).sum(), x)

    quotient = (silu(x + 0.5) - silu(x - 0.5)).detach()
    # The gate's steps of 1/256 show: at x = 5, half of one is 0.01, on either side.
    smooth = (F.silu(x + 0.5) - F.silu(x - 0.5)).detach()
    torch.testing.assert_close(quotient, smooth, rtol=0, atol=0.025)
    (exact,) = torch.autograd.grad(F.silu(x).sum(), x)
    torch.testing.assert_close(slope, exact, rtol=0, atol=1e-3)
    torch.testing.assert_close(slope, quotient, rtol=0, atol=0.05)


@pytest.mark.parametrize("shape", [(8, 3, 3, 3), (8, 1, 5, 5), (8, 20)])
def test_weights_are_those_of_the_operators(shape):
    weight = torch.randn(shape, generator=torch.manual_seed(0))
    scales = largest_scales(weight) * torch.linspace(0.5, 1.5, 8)  # some cut their largest off
    zeros = torch.zeros(8, dtype=torch.int64)

    codes = ops.quantize_per_channel(weight, scales, zeros, 0, -127, 127, torch.int8)
    expected = ops.dequantize_per_channel(codes, scales, zeros, 0, -127, 127, torch.int8)

    assert torch.equal(fake_quantize_weight(weight, scales), expected)
    for scaling in ("learned", "fixed"):
        assert torch.equal(WeightQuantizer(scales, scaling=scaling)(weight), expected)


def test_the_gradients_of_weights_are_those_of_lsq_in_each_channel():
    weight = torch.randn(8, 3, 3, 3, generator=torch.manual_seed(0)).double()
    scales = largest_scales(weight) * torch.linspace(0.4, 1.5, 8, dtype=torch.float64)

    def expected_weight(weight, scales):
        steps = weight / scales.view(-1, 1, 1, 1)
        inside = torch.where(steps.abs() <= 127.5, steps, 127 * steps.sign())
        rounded = straight_through(inside, inside.round().clamp(-127, 127))
        return rounded * scales.view(-1, 1, 1, 1)

    actual = gradients(fake_quantize_weight, weight, scales)
    expected = gradients(expected_weight, weight, scales)

    torch.testing.assert_close(actual[0], expected[0])
    torch.testing.assert_close(actual[1][0], expected[1][0])
    assert (actual[1][0] == 0).any()
    torch.testing.assert_close(actual[1][1], expected[1][1] * (27 * 127) ** -0.5)


def test_the_largest_weight_of_a_channel_can_move():
    weight = torch.randn(16, 40, generator=torch.manual_seed(0))

    for scaling in ("largest", "fixed", "learned"):
        quantizer = WeightQuantizer(largest_scales(weight), scaling=scaling)
        assert (gradients(quantizer, weight)[1][0] != 0).all()


def test_the_largest_scales_follow_the_weight_and_are_those_of_post_training_quantization():
    weight = torch.randn(6, 4, 3, 3, generator=torch.manual_seed(0))
    weight[2] = 0
    quantizer = WeightQuantizer(torch.ones(6))

    y, (gradient,) = gradients(quantizer, weight)

    assert quantizer.scales().numpy().tolist() == weight_scales(weight.numpy()).tolist()
    assert torch.equal(y, fake_quantize_weight(weight, quantizer.scales()))
    assert torch.equal(gradient, given(y))
    quantizer(2 * weight)
    assert quantizer.scales()[0] == 2 * weight_scales(weight.numpy())[0]


def test_weights_may_be_used_twice_before_the_backward():
    weight = torch.randn(4, 4, requires_grad=True)
    for scaling in ("largest", "fixed", "learned"):
        quantizer = WeightQuantizer(torch.ones(4), scaling=scaling)
        (once,) = torch.autograd.grad(quantizer(weight).sum(), weight)
        (twice,) = torch.autograd.grad((quantizer(weight) + quantizer(weight)).sum(), weight)
        assert once.abs().sum() > 0
        assert torch.equal(twice, 2 * once)


def test_a_bias_is_a_whole_number_of_the_steps_of_its_accumulators():
    bias = torch.randn(5, generator=torch.manual_seed(0))
    scale, scales = torch.tensor(0.037), torch.rand(5, generator=torch.manual_seed(1)) / 100

    y, (gradient,) = gradients(lambda b: fake_quantize_bias(b, scale, scales), bias)

    step = scale.double() * scales.double()
    codes = (y.double() / step).round()
    assert torch.equal((codes * step).float(), y)
    assert ((y - bias).abs() <= step / 2 + 1e-7).all()
    assert torch.equal(gradient, given(y))


def test_a_bias_beyond_int32_is_cut_off():
    y = fake_quantize_bias(torch.tensor([1e9]), torch.tensor(2.0**-12), torch.tensor([2.0**-12]))

    assert y == torch.tensor(float(2**31 - 1) * 2.0**-24)


def test_a_bias_passes_in_training_and_is_rounded_in_evaluation():
    source, weight = ActivationQuantizer(0.5, 0), WeightQuantizer(torch.ones(2), scaling="fixed")
    quantizer = BiasQuantizer(source, weight)
    bias = torch.tensor([0.3, 0.8])

    assert torch.equal(quantizer(bias), bias)
    assert quantizer.eval()(bias).tolist() == [0.5, 1.0]
    assert not list(quantizer.parameters())


@pytest.mark.parametrize("share", [1.0, 0.25])
def test_the_memory_format_is_kept(share):
    x = torch.randn(4, 16, 32, 32).to(memory_format=torch.channels_last).requires_grad_()
    quantizer, silu = (
        ActivationQuantizer(0.05, 3, share=share),
        QuantizedSiLU(ActivationQuantizer(0.05, 3, share=share), ActivationQuantizer(0.03, -100)),
    )
    for module in (quantizer, silu):
        y = module(x)
        gradient = torch.randn_like(y)
        (of_x,) = torch.autograd.grad(y, x, gradient)
        for tensor in (y, of_x):
            assert tensor.is_contiguous(memory_format=torch.channels_last)
        plain = torch.autograd.grad(module(x.contiguous()), x, gradient.contiguous())[0]
        torch.testing.assert_close(of_x, plain, rtol=0, atol=0)


def test_no_value_is_read_from_the_device():
    """Reading one waits for a GPU; on this device nothing can be read at all."""
    x = torch.randn(2, 3, 4, 4, device="meta", requires_grad=True)
    source, output = ActivationQuantizer(0.05, 3), ActivationQuantizer(0.03, -100)
    weight = torch.randn(5, 3, device="meta", requires_grad=True)

    for module, tensor in (
        (source, x),
        (QuantizedSiLU(source, output), x),
        (WeightQuantizer(torch.ones(5)), weight),
        (WeightQuantizer(torch.ones(5), scaling="learned"), weight),
    ):
        module.to("meta")(tensor).sum().backward()

    assert x.grad.shape == x.shape


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
@pytest.mark.parametrize(("source", "output"), SILU_GRIDS)
def test_a_gpu_computes_the_same(source, output):
    x = spread(*source)
    silu = QuantizedSiLU(ActivationQuantizer(*source), ActivationQuantizer(*output))
    expected = gradients(silu, x)
    there = x.cuda().requires_grad_()
    y = silu.cuda()(there)
    y.backward(given(x).cuda())

    torch.testing.assert_close(y.cpu(), expected[0], rtol=0, atol=2 * output[0])
    torch.testing.assert_close(there.grad.cpu(), expected[1][0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("scale", "zero_point"), GRIDS)
def test_a_grid_starts_exactly_where_it_was_found(scale, zero_point):
    quantizer = ActivationQuantizer(scale, zero_point)
    x = spread(scale, zero_point)

    assert quantizer.grid() == Grid(scale=float(np.float32(scale)), zero_point=zero_point)
    assert torch.equal(quantizer(x), simulated(x, scale, zero_point))


def test_a_tensor_that_was_always_zero_has_a_grid():
    grid = grid_of(0.0, 0.0)
    quantizer = ActivationQuantizer(grid.scale, grid.zero_point)

    y, (gradient,) = gradients(quantizer, torch.zeros(2, 3))

    assert torch.equal(y, torch.zeros(2, 3))
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("start", [0.004, 0.4])
def test_a_scale_is_learned_to_where_the_error_is_small(start):
    x = torch.randn(4, 1000, generator=torch.manual_seed(0))
    quantizer = ActivationQuantizer(start, 0)
    before = F.mse_loss(quantizer(x), x).item()
    optimizer = torch.optim.Adam(quantizer.parameters(), lr=0.03, betas=(0.9, 0.9))
    for _ in range(300):
        optimizer.zero_grad()
        F.mse_loss(quantizer(x), x).backward()
        optimizer.step()

    best = min(F.mse_loss(fake_quantize(x, s, 0), x) for s in np.linspace(0.01, 0.05, 100))
    assert F.mse_loss(quantizer(x), x) < 1.3 * best < 0.01 * before


def test_no_step_makes_a_scale_negative():
    quantizer = ActivationQuantizer(0.01, 0)
    with torch.no_grad():
        quantizer.log_ratio -= 20

    assert quantizer.grid().scale > 0


@pytest.mark.parametrize("ratio", [torch.nan, 1000.0, -1000.0])
def test_a_scale_that_is_no_number_any_more_is_told(ratio):
    quantizer = ActivationQuantizer(0.01, 0)
    with torch.no_grad():
        quantizer.log_ratio.fill_(ratio)

    with pytest.raises(InputError, match="learned scale is") as failure:
        quantizer.grid()
    assert "learning rate" in failure.value.hint


def test_a_zero_point_is_learned_as_a_whole_number_among_the_codes():
    quantizer = ActivationQuantizer(0.1, 100, learn_zero_point=True)
    x = torch.linspace(-30, 30, 50)
    with torch.no_grad():
        quantizer.offset.fill_(3.6)

    assert quantizer.grid() == Grid(scale=float(np.float32(0.1)), zero_point=104)
    assert torch.equal(quantizer(x), simulated(x, 0.1, 104))
    quantizer(x).sum().backward()
    assert quantizer.offset.grad != 0
    with torch.no_grad():
        quantizer.offset.fill_(1000)
    assert quantizer.grid().zero_point == 127


def test_silu_learns_zero_points_too():
    x = spread(0.05, 3).double()
    source, output = (
        ActivationQuantizer(*grid, learn_zero_point=True) for grid in ((0.05, 3), (0.01, -100))
    )

    gradients(QuantizedSiLU(source, output), x)
    QuantizedSiLU(source, output)(x).sum().backward()

    # The product is cut off at the top alone: lowering the zero point moves the top up.
    assert output.offset.grad < 0
    assert source.offset.grad != 0


def test_what_is_not_learned_costs_no_gradient():
    quantizer = ActivationQuantizer(1 / 256, -128, learn=False)

    quantizer(torch.rand(3, requires_grad=True)).sum().backward()

    assert quantizer.log_ratio.grad is None


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf")])
def test_a_scale_must_be_a_number_above_zero(scale):
    with pytest.raises(ConfigError, match="scale of a grid"):
        ActivationQuantizer(scale, 0)
    with pytest.raises(ConfigError, match="scales of a weight"):
        WeightQuantizer(torch.tensor([1.0, scale]))


def test_a_zero_point_must_be_a_code():
    with pytest.raises(ConfigError, match="zero point of a grid is 128"):
        ActivationQuantizer(0.1, 128)


class _Network(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.expand = nn.Conv2d(8, 8, 1)
        self.source = ActivationQuantizer(0.04, 0)
        self.silu = QuantizedSiLU(ActivationQuantizer(0.02, 0), ActivationQuantizer(0.01, -100))
        self.output = ActivationQuantizer(0.02, -10)
        self.weights = nn.ModuleList(
            WeightQuantizer(largest_scales(conv.weight)) for conv in (self.conv, self.expand)
        )
        self.biases = nn.ModuleList(
            BiasQuantizer(source, weight)
            for source, weight in zip((self.source, self.silu.output), self.weights, strict=True)
        )

    def convolved(self, i, conv, x):
        weight = self.weights[i](conv.weight)
        return F.conv2d(x, weight, self.biases[i](conv.bias), padding=conv.padding)

    def forward(self, x):
        y = self.silu(self.convolved(0, self.conv, self.source(x)))
        return self.output(self.convolved(1, self.expand, y))


class _Leaves(fx.Tracer):
    def is_leaf_module(self, m, module_qualified_name):  # noqa: ARG002
        return type(m).__module__ == "edgese.quantization.fake"


def traced(network):
    return fx.GraphModule(network, _Leaves().trace(network))


def test_modules_work_in_a_graph_and_survive_copying_and_saving():
    network = traced(_Network())
    x = torch.randn(2, 3, 8, 8, generator=torch.manual_seed(0))
    network(x).square().sum().backward()
    assert all(p.grad is not None for p in network.parameters())
    copied = copy.deepcopy(network)
    # The copy's biases follow the copy's grids, as equal outputs below show.
    with torch.no_grad():
        for module in (copied.source, copied.silu.output):
            module.log_ratio.fill_(3.0)
    again = traced(_Network())
    again.load_state_dict(copied.state_dict())

    expected, actual = (part.eval()(x) for part in (copied, again))

    assert torch.equal(expected, actual)
    assert not torch.equal(expected, network.eval()(x))


def test_a_network_in_evaluation_is_the_quantized_program():
    network = _Network().eval()
    x = torch.randn(2, 3, 8, 8, generator=torch.manual_seed(0))

    def convolved(conv, x, scale):
        scales = torch.from_numpy(weight_scales(conv.weight.detach().numpy()))
        zeros = torch.zeros(len(scales), dtype=torch.int64)
        what = (scales, zeros, 0, -127, 127, torch.int8)
        weight = ops.dequantize_per_channel(ops.quantize_per_channel(conv.weight, *what), *what)
        step = np.float64(np.float32(scale)) * scales.double()
        bias = ((conv.bias.double() / step).round() * step).float()
        return F.conv2d(x, weight, bias, padding=conv.padding)

    with torch.no_grad():
        y = convolved(network.conv, simulated(x, 0.04, 0), 0.04)
        y = convolved(network.expand, simulated_silu(y, (0.02, 0), (0.01, -100)), 0.01)
        assert torch.equal(network(x), simulated(y, 0.02, -10))

"""Fake quantization for training: forward what the integer program computes, backward in floats.

Rounding has no gradient to speak of, so it passes what comes straight through; the saturation of
a grid passes nothing, as a clamp does. Scales are learned with the gradient of LSQ
(arXiv:1902.08153), zero points with that of LSQ+ (arXiv:2004.09576).

What makes it fast on a CPU, without a compiler: a large tensor costs what it moves through memory,
so each grid makes one new tensor and works on it in place, and the backward of a saturation is one
operator on what came in. A small tensor costs the calls, 1 to 3 us each, so there are few of them,
and they take tensors without dimensions, which PyTorch need not convert, as it does numbers.
SiLU is one function, in which the sigmoid's grid costs three passes in place, and nothing in the
backward. (A table of its 256 values is slower: PyTorch's fast lookup, ``index_select``, has one
thread and takes 0.6 ns a value for the lookup alone, against 0.8 for all of SiLU on two.)
"""

import math
from typing import Any, Final, Literal, NamedTuple, Protocol, cast

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from edgese.errors import ConfigError, InputError
from edgese.program.qparams import HIGH, LOW, SIGMOID, WEIGHT_HIGH
from edgese.records.artifact import Grid

# The pictures of a batch from which a scale's gradient is estimated. It is one number from millions
# of values, and the full sums would cost as much as all else here together.
SHARE: Final = 0.25

Scaling = Literal["learned", "fixed", "largest"]

_GATE_STEPS: Final = round(1 / SIGMOID.scale)
_BIAS_HIGH: Final = 2**31 - 1
# Up to this many values a sum costs its calls, and taking a part would add to them.
_SMALL: Final = 2**15
_HALVES: Final = (torch.float16, torch.bfloat16)

_hardtanh_backward = torch.ops.aten.hardtanh_backward
_silu_backward = torch.ops.aten.silu_backward


class Span(NamedTuple):
    """The lowest and the highest code of a grid, counted from its zero point."""

    low: int
    high: int


def fake_quantize(
    x: Tensor,
    scale: Tensor | float,
    zero_point: Tensor | int,
    low: int = LOW,
    high: int = HIGH,
    *,
    share: float = 1.0,
) -> Tensor:
    """The values of ``x`` on a grid, as a program's quantize and dequantize give them.

    Equal to ``quantized_decomposed.quantize_per_tensor`` and ``dequantize_per_tensor`` for all that
    is not NaN (a zero may have the other sign). NaN stays NaN, so that the loss shows it; the
    operators would make a code of it. float16 and bfloat16 are computed in float32, as there, and
    rounded to their type at the end.

    Gradients: straight through for what lies inside the grid, 0 for the rest. For ``scale`` that of
    LSQ (arXiv:1902.08153, equation 3), for ``zero_point`` that of LSQ+ (arXiv:2004.09576, equation
    5), both times LSQ's factor 1 / sqrt(values * 127).

    Args:
        x: any shape; pictures lie along its first dimension.
        scale: one number above 0.
        zero_point: a whole number; a tensor is rounded to one, and kept within the codes.
        low, high: the codes.
        share: of the pictures, from which the gradients of scale and zero point are estimated.
    """
    offset = zero_point if isinstance(zero_point, Tensor) else None
    span = _span(low, high, 0 if isinstance(zero_point, Tensor) else zero_point, offset)
    return _applied(_FakeQuantize, x, _scalar(scale, x), None, offset, span, share)


def fake_quantize_weight(weight: Tensor, scales: Tensor) -> Tensor:
    """A weight on the symmetric grids of its output channels, -127 to 127.

    Equal to ``quantized_decomposed.quantize_per_channel`` and ``dequantize_per_channel``, as
    `fake_quantize` is to its operators, and with its gradients. But half a step more counts as
    inside: the largest weight of a channel usually is the end of its grid, and must stay movable.

    Args:
        weight: (out, ...).
        scales: (out,), above 0.
    """
    return _applied(_FakeQuantizeWeight, weight, scales, None)


def fake_quantize_bias(bias: Tensor, input_scale: Tensor, weight_scales: Tensor) -> Tensor:
    """A bias on the grid of the int32 accumulators that it is added to.

    The gradient goes straight through to the bias; the scales get none, for a step here is a small
    part of one behind the operator.

    Args:
        bias: (out,).
        input_scale: one number: of the operator's input.
        weight_scales: (out,).
    """
    # In float64, since float32 has fewer digits than int32.
    step = input_scale.detach().double() * weight_scales.detach().double()
    codes = (bias.detach().double() / step).round_().clamp_(-_BIAS_HIGH, _BIAS_HIGH)
    return _applied(_StraightThrough, bias, codes.mul_(step).to(bias.dtype))


def quantized_silu(
    x: Tensor,
    input_scale: Tensor | float,
    input_zero_point: int,
    output_scale: Tensor | float,
    output_zero_point: int,
    *,
    share: float = 1.0,
) -> Tensor:
    """SiLU of integer programs: a grid behind its input, its sigmoid and its product.

    Equal to ``q(q(x) * q(sigmoid(q(x))))`` with `fake_quantize` as ``q``. Its gradient is that of
    SiLU at ``q(x)``: the grid of the sigmoid passes everything straight through.

    Args:
        x: any shape.
        input_scale, input_zero_point: of the grid behind ``x``.
        output_scale, output_zero_point: of the grid behind the product.
        share: as in `fake_quantize`.
    """
    return _applied(
        _QuantizedSiLU,
        x,
        *(_scalar(input_scale, x), None, None, _span(LOW, HIGH, input_zero_point, None)),
        *(_scalar(output_scale, x), None, None, _span(LOW, HIGH, output_zero_point, None)),
        share,
    )


def largest_scales(weight: Tensor) -> Tensor:
    """The scale of each output channel with which its largest weight becomes 127.

    The numbers of `edgese.program.qparams.weight_scales`, on the weight's own device.

    Args:
        weight: (out, ...).

    Returns:
        (out,).
    """
    largest = weight.detach().flatten(1).abs().amax(1)
    return torch.where(largest > 0, largest / WEIGHT_HIGH, 1.0)


class ActivationQuantizer(nn.Module):
    """A grid behind an operator, which training may move.

    What is learned of the scale is the logarithm of its ratio to the one that it starts with. So it
    stays above 0 whatever a step does; a step changes it by a share of itself, so that one learning
    rate suits tensors of any unit (as with the logarithms of TQT, arXiv:1903.08066); it starts with
    exactly the grid that was found before the training; and weight decay draws it there, not to 0.

    Args:
        scale: above 0; rounded to float32.
        zero_point: the code of 0.
        learn: whether the scale is learned.
        learn_zero_point: whether the zero point is. Not where the saturation stands for a ReLU.
        low, high: the codes.
        share: as in `fake_quantize`.
    """

    initial: Tensor

    def __init__(
        self,
        scale: float,
        zero_point: int,
        *,
        learn: bool = True,
        learn_zero_point: bool = False,
        low: int = LOW,
        high: int = HIGH,
        share: float = SHARE,
    ) -> None:
        super().__init__()
        if not (math.isfinite(scale) and scale > 0):
            raise ConfigError(
                f"The scale of a grid is {scale}.", hint="It must be finite and above 0."
            )
        if not low <= zero_point <= high:
            raise ConfigError(
                f"The zero point of a grid is {zero_point}.",
                hint=f"It must be one of the codes {low} to {high}, so that 0 has a code.",
            )
        self.low = low
        self.high = high
        self.zero_point = zero_point
        self.share = share
        self.register_buffer("initial", torch.tensor(scale, dtype=torch.float32))
        self.log_ratio = nn.Parameter(torch.zeros(()), requires_grad=learn)
        self.offset = nn.Parameter(torch.zeros(())) if learn_zero_point else None

    def scale(self) -> Tensor:
        """The scale now: one number, without gradient."""
        return _relative(self.initial, self.log_ratio.detach())

    def span(self) -> Span:
        """The codes, counted from the zero point now."""
        return _span(self.low, self.high, self.zero_point, self.offset)

    def grid(self) -> Grid:
        """The grid now.

        Raises:
            InputError: training has made the scale 0, infinite or NaN.
        """
        scale = float(self.scale())
        if not (math.isfinite(scale) and scale > 0):
            raise InputError(
                f"A learned scale is {scale}.",
                hint="The training has diverged; lower its learning rate.",
            )
        return Grid(scale=scale, zero_point=self.low - self.span().low)

    def forward(self, x: Tensor) -> Tensor:
        """Any shape to the same shape, see `fake_quantize`."""
        return _applied(_FakeQuantize, x, *self.state(), self.share)

    def state(self) -> tuple[Tensor, Tensor, Tensor | None, Span]:
        """What a function needs of the grid: two factors of the scale, the offset, the codes."""
        return self.initial, self.log_ratio, self.offset, self.span()

    def extra_repr(self) -> str:
        """Shown by ``print(model)``."""
        return f"scale={float(self.scale()):.4g}, zero_point={self.low - self.span().low}"


class WeightQuantizer(nn.Module):
    """The symmetric grids of a weight's output channels.

    Args:
        scales: (out,), above 0.
        scaling: what becomes of them. "largest": `largest_scales` of each weight that comes; the
            fastest, for nothing is ever outside, and what post-training quantization takes.
            "learned": as in `ActivationQuantizer`. "fixed": nothing.
    """

    initial: Tensor

    def __init__(self, scales: Tensor, *, scaling: Scaling = "largest") -> None:
        super().__init__()
        if not bool((scales.isfinite() & (scales > 0)).all()):
            raise ConfigError(
                "The scales of a weight are not all finite and above 0.",
                hint="A channel whose weights are all 0 may have any scale, such as 1.",
            )
        self.scaling = scaling
        self.register_buffer("initial", scales.detach().to(torch.float32, copy=True))
        learned = scaling == "learned"
        self.log_ratio = nn.Parameter(torch.zeros_like(self.initial)) if learned else None

    def scales(self) -> Tensor:
        """(out,): the scales now, without gradient; with "largest" those of the last weight."""
        return _relative(self.initial, None if self.log_ratio is None else self.log_ratio.detach())

    def forward(self, weight: Tensor) -> Tensor:
        """(out, ...) to the same shape, see `fake_quantize_weight`."""
        if self.scaling == "largest":
            self.initial.copy_(largest_scales(weight))
            scales = _by_channel(self.initial, weight)
            steps = (weight.detach() * scales.reciprocal()).clamp_(-WEIGHT_HIGH, WEIGHT_HIGH)
            return _applied(_StraightThrough, weight, steps.round_().mul_(scales))
        return _applied(_FakeQuantizeWeight, weight, self.initial, self.log_ratio)

    def extra_repr(self) -> str:
        """Shown by ``print(model)``."""
        return f"channels={len(self.initial)}, scaling={self.scaling!r}"


class BiasQuantizer(nn.Module):
    """The grid of a bias, which follows from those of the operator's input and weight.

    In training the bias passes as it is: a step here is so small a part of one behind the operator
    that rounding would cost time and change nothing.

    Args:
        source: the grid of the operator's input.
        weight: the operator's own.
    """

    def __init__(self, source: ActivationQuantizer, weight: WeightQuantizer) -> None:
        super().__init__()
        # Not as submodules: they have their places in the network, and would be saved twice.
        self._grids = (source, weight)

    def forward(self, bias: Tensor) -> Tensor:
        """(out,) to the same shape, see `fake_quantize_bias`."""
        if self.training:
            return bias
        source, weight = self._grids
        return fake_quantize_bias(bias, source.scale(), weight.scales())


class QuantizedSiLU(nn.Module):
    """SiLU with its three grids, see `quantized_silu`.

    Args:
        source: the grid behind the input, of which this SiLU is the only reader.
        output: the grid behind the product.
    """

    def __init__(self, source: ActivationQuantizer, output: ActivationQuantizer) -> None:
        super().__init__()
        self.source = source
        self.output = output

    def forward(self, x: Tensor) -> Tensor:
        """Any shape to the same shape."""
        source, output = self.source, self.output
        return _applied(_QuantizedSiLU, x, *source.state(), *output.state(), source.share)


class _Context(Protocol):
    """What PyTorch passes from a forward to its backward."""

    needs_input_grad: tuple[bool, ...]
    saved_tensors: tuple[Any, ...]
    spans: tuple[Span, ...]
    share: float

    def save_for_backward(self, *tensors: Tensor | None) -> None:
        """Keeps tensors, and notices if they are changed meanwhile."""


class _FakeQuantize(Function):
    """See `fake_quantize`. The scale is ``initial * exp(log_ratio)``; ``span`` holds ``offset``."""

    @staticmethod
    def forward(
        ctx: _Context,
        x: Tensor,
        initial: Tensor,
        log_ratio: Tensor | None,
        _offset: Tensor | None,
        span: Span,
        share: float,
    ) -> Tensor:
        scale = _relative(initial, log_ratio)
        y = _on_grid(x, scale, span)
        ctx.save_for_backward(x, scale, y if any(ctx.needs_input_grad[1:]) else None)
        ctx.spans, ctx.share = (span,), share
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: _Context, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, scale, y = ctx.saved_tensors
        inside = _inside(gradient, x, scale, ctx.spans[0])
        if y is None:
            return inside, *_NONE, None, None
        of_grid = _of_grid(ctx.needs_input_grad[1:4], gradient, y, inside, x, scale, ctx.share)
        return inside, *of_grid, None, None


class _FakeQuantizeWeight(Function):
    """See `fake_quantize_weight`. The scales are ``initial * exp(log_ratio)``."""

    @staticmethod
    def forward(ctx: _Context, weight: Tensor, initial: Tensor, log_ratio: Tensor | None) -> Tensor:
        scales = _by_channel(_relative(initial, log_ratio), weight)
        steps = weight * scales.reciprocal()
        y = steps.clamp(-WEIGHT_HIGH, WEIGHT_HIGH).round_().mul_(scales)
        learned = (weight, scales, y) if any(ctx.needs_input_grad[1:]) else ()
        ctx.save_for_backward(steps, *learned)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: _Context, gradient: Tensor) -> tuple[Tensor | None, ...]:
        steps, *learned = ctx.saved_tensors
        inside = _hardtanh_backward(gradient, steps, -WEIGHT_HIGH - 0.5, WEIGHT_HIGH + 0.5)
        if not learned:
            return inside, None, None
        weight, scales, y = learned
        moved = (gradient * y).addcmul_(inside, weight, value=-1).flatten(1).sum(1)
        moved *= (weight[0].numel() * WEIGHT_HIGH) ** -0.5
        of_initial = moved / scales.flatten() if ctx.needs_input_grad[1] else None
        return inside, of_initial, moved if ctx.needs_input_grad[2] else None


class _QuantizedSiLU(Function):
    """See `quantized_silu`; the arguments of a grid are those of `_FakeQuantize`."""

    @staticmethod
    def forward(
        ctx: _Context,
        x: Tensor,
        initial: Tensor,
        log_ratio: Tensor | None,
        _offset: Tensor | None,
        span: Span,
        output_initial: Tensor,
        output_log_ratio: Tensor | None,
        _output_offset: Tensor | None,
        output_span: Span,
        share: float,
    ) -> Tensor:
        scale = _relative(initial, log_ratio)
        output_scale = _relative(output_initial, output_log_ratio)
        source = _on_grid(x, scale, span)
        gate = torch.sigmoid(source).mul_(_GATE_STEPS).round_().clamp_(max=_GATE_STEPS - 1)
        # The gate's codes stand for its values: a power of two between them loses no bit.
        product = gate.mul_(source)
        y = _on_grid(product, output_scale, output_span, _GATE_STEPS)
        needs = ctx.needs_input_grad
        learns = any(needs[1:4]) or any(needs[5:8])
        ctx.save_for_backward(x, scale, source, product, output_scale, y if learns else None)
        ctx.spans, ctx.share = (span, output_span), share
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: _Context, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, scale, source, product, output_scale, y = ctx.saved_tensors
        span, output_span = ctx.spans
        of_product = _inside(gradient, product, output_scale, output_span, _GATE_STEPS)
        of_source = _silu_backward(of_product, source)
        inside = _inside(of_source, x, scale, span)
        if y is None:
            return inside, *_NONE, None, *_NONE, None, None
        needs, share = ctx.needs_input_grad, ctx.share
        of_input = _of_grid(needs[1:4], of_source, source, inside, x, scale, share)
        of_output = _of_grid(
            needs[5:8], gradient, y, of_product, product, output_scale, share, _GATE_STEPS
        )
        return inside, *of_input, None, *of_output, None, None


class _StraightThrough(Function):
    """The second tensor, with the gradient of the first."""

    @staticmethod
    def forward(_ctx: _Context, _x: Tensor, y: Tensor) -> Tensor:
        return y

    @staticmethod
    def backward(_ctx: _Context, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None


# Gradients of what nobody learns: scale, logarithm of its ratio, offset.
_NONE: Final = (None, None, None)


def _on_grid(x: Tensor, scale: Tensor, span: Span, unit: int = 1) -> Tensor:
    """The values of ``x / unit`` on a grid.

    Clamping between whole numbers and rounding may change places, and adding the zero point and
    taking it off again changes nothing; the reciprocal is what the operators multiply with.
    """
    inverse = scale.reciprocal() if unit == 1 else (scale * unit).reciprocal()
    return (x * inverse).clamp_(*span).round_().mul_(scale)


def _inside(gradient: Tensor, x: Tensor, scale: Tensor, span: Span, unit: int = 1) -> Tensor:
    """The gradient where ``x / unit`` is inside a grid, 0 elsewhere."""
    if x.is_cpu:
        step = scale.item() * unit
        return cast("Tensor", _hardtanh_backward(gradient, x, span.low * step, span.high * step))
    # Another device would have to be waited for, to read its scale.
    return cast("Tensor", _hardtanh_backward(gradient, x * (scale * unit).reciprocal(), *span))


def _of_grid(
    needs: tuple[bool, ...],
    gradient: Tensor,
    y: Tensor,
    inside: Tensor,
    x: Tensor,
    scale: Tensor,
    share: float,
    unit: int = 1,
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """The gradients of a grid's scale, of the logarithm of its ratio and of its offset.

    Of the logarithm: a value outside moves with the end of its grid, ``y``, and one inside by what
    rounding adds to it, ``y - x``. Both are in ``gradient * y - inside * x``.

    Args:
        needs: which of the three are asked for; the others are None.
        gradient: of ``y``, the values on the grid.
        inside: of ``x / unit``, the values as they came.
        share: see `fake_quantize`.
    """
    factor = (x.numel() * HIGH) ** -0.5
    if share < 1 and x.numel() > _SMALL:
        pictures = math.ceil(len(x) * share)
        factor *= len(x) / pictures
        gradient, y, inside, x = gradient[:pictures], y[:pictures], inside[:pictures], x[:pictures]
    moved = shifted = None
    if needs[0] or needs[1]:
        moved = (gradient * y).addcmul_(inside, x, value=-1 / unit).sum().mul_(factor)
    if needs[2]:
        shifted = (inside.sum() - gradient.sum()).mul_(scale).mul_(factor)
    return (
        moved / scale if moved is not None and needs[0] else None,
        moved if needs[1] else None,
        shifted,
    )


def _relative(initial: Tensor, log_ratio: Tensor | None) -> Tensor:
    return initial if log_ratio is None else log_ratio.exp().mul_(initial)


def _by_channel(scales: Tensor, weight: Tensor) -> Tensor:
    return scales.view(-1, *[1] * (weight.ndim - 1))


def _span(low: int, high: int, zero_point: int, offset: Tensor | None) -> Span:
    if offset is not None:
        zero_point = min(max(round(zero_point + float(offset.detach())), low), high)
    return Span(low - zero_point, high - zero_point)


def _scalar(number: Tensor | float, like: Tensor) -> Tensor:
    return torch.as_tensor(
        number, dtype=torch.promote_types(like.dtype, torch.float32), device=like.device
    )


def _applied(function: type[Function], x: Tensor, *arguments: object) -> Tensor:
    if x.dtype in _HALVES:
        return _applied(function, x.float(), *arguments).to(x.dtype)
    return cast("Tensor", function.apply(x, *arguments))  # type: ignore[no-untyped-call]

"""The layers that every family is made of, in forms that every target exports without a trap."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgese.models.blocks import same_padding
from edgese.records.model import Activation, Gate, Padding, SqueezeExcite


class SiLU(nn.Module):
    """``x * sigmoid(x)``, written out: quantizers and integer runtimes know these two operators."""

    def forward(self, x: Tensor) -> Tensor:
        """Any shape to the same shape."""
        return x * torch.sigmoid(x)


ACTIVATIONS: dict[Activation, Callable[[], nn.Module]] = {
    "silu": SiLU,
    "hard_swish": nn.Hardswish,
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
}
GATES: dict[Gate, Callable[[], nn.Module]] = {
    "sigmoid": nn.Sigmoid,
    "hard_sigmoid": nn.Hardsigmoid,
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
}


class SamePad(nn.Module):
    """TensorFlow's "same" padding for a strided convolution: uneven where the stride leaves a rest.

    The amounts depend on the input's size alone, so an exported program holds them as constants.
    """

    def __init__(self, kernel: int, stride: int) -> None:
        super().__init__()
        self.kernel = kernel
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C, H + p, W + q)."""
        top, bottom = same_padding(x.shape[2], self.kernel, self.stride)
        left, right = same_padding(x.shape[3], self.kernel, self.stride)
        if left == right == top == bottom == 0:
            return x
        return F.pad(x, (left, right, top, bottom))


class ConvNorm(nn.Module):
    """A convolution without bias, BatchNorm, and perhaps an activation."""

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        *,
        kernel: int = 1,
        stride: int = 1,
        groups: int = 1,
        padding: Padding,
        norm: Callable[[int], nn.Module],
        activation: Activation | None,
    ) -> None:
        super().__init__()
        # A stride of 1 needs the same padding in both conventions.
        uneven = padding == "same" and stride > 1
        self.pad = SamePad(kernel, stride) if uneven else None
        self.conv = nn.Conv2d(
            channels_in,
            channels_out,
            kernel,
            stride,
            padding=0 if uneven else kernel // 2,
            groups=groups,
            bias=False,
        )
        self.norm = norm(channels_out)
        self.act = ACTIVATIONS[activation]() if activation else None

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels_in, H, W) to (N, channels_out, H / stride, W / stride), rounded up."""
        if self.pad is not None:
            x = self.pad(x)
        x = self.norm(self.conv(x))
        return x if self.act is None else self.act(x)


class SqueezeExcitation(nn.Module):
    """Scales each channel by a gate computed from all channels.

    Source: arXiv:1709.01507, equations 2 to 4. The pool keeps its two spatial dimensions, and the
    two fully connected layers are 1x1 convolutions: a mean that drops them falls out of XNNPACK's
    and Vulkan's delegates.
    """

    def __init__(self, channels: int, hidden: int, config: SqueezeExcite) -> None:
        super().__init__()
        self.squeeze = config.squeeze
        self.reduce = nn.Conv2d(channels, hidden, 1, bias=config.bias)
        self.act = ACTIVATIONS[config.activation]()
        self.expand = nn.Conv2d(hidden, channels, 1, bias=config.bias)
        self.gate = GATES[config.gate]()

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        if self.squeeze == "avg":
            squeezed = F.adaptive_avg_pool2d(x, 1)
        elif self.squeeze == "max":
            squeezed = F.max_pool2d(x, kernel_size=(x.shape[2], x.shape[3]))
        else:
            squeezed = x
        factors: Tensor = self.gate(self.expand(self.act(self.reduce(squeezed))))
        return x * factors


class StochasticDepth(nn.Module):
    """Drops whole examples of a residual branch in training, and is nothing in evaluation.

    Source: Huang et al., "Deep Networks with Stochastic Depth", arXiv:1603.09382.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """(N, ...) to the same shape, with a share ``rate`` of the examples zero."""
        if not self.training or self.rate == 0:
            return x
        keep = 1 - self.rate
        kept = x.new_empty((x.shape[0],) + (1,) * (x.ndim - 1)).bernoulli_(keep)
        return x * kept / keep

    def extra_repr(self) -> str:
        """Shown by ``print(model)``."""
        return f"rate={self.rate:.3f}"

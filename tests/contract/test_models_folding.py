"""BatchNorm disappears into the convolution before it, and the outputs stay."""

import pytest
import torch
from torch import nn

from edgese.models.builder import build
from edgese.models.registry import customized, find_model
from edgese.models.untrained import plausible
from edgese.program.folding import folded

pytestmark = pytest.mark.usefixtures("one_thread")


def norms(module):
    return sum(isinstance(part, nn.BatchNorm2d) for part in module.modules())


def with_statistics(module):
    """The module with BatchNorm statistics that are not the initial ones."""
    torch.manual_seed(0)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.normal_(part.running_mean)
            nn.init.uniform_(part.running_var, 0.5, 2)
            nn.init.uniform_(part.weight, 0.5, 2)
    return module.eval()


def pictures(side=32):
    return torch.randn(2, 3, side, side, generator=torch.manual_seed(1))


@pytest.mark.parametrize(
    "name", ["efficientnet_b0", "efficientnet_v2_b0", "efficientnet_lite0", "se_resnet50_v1"]
)
def test_a_network_loses_every_batch_norm_and_keeps_its_outputs(name):
    network = plausible(build(customized(find_model(name), resolution=(64, 64))), seed=0)
    before = norms(network)

    fused = folded(network)
    program = torch.export.export(fused, (pictures(64),))

    with torch.no_grad():
        expected, actual = network(pictures(64)), fused(pictures(64))
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))
    assert norms(fused) == 0
    assert norms(network) == before > 0
    targets = {str(node.target) for node in program.graph.nodes}
    assert not [target for target in targets if "batch_norm" in target or "dropout" in target]


class _Foreign(nn.Module):
    """A direct pair, and whatever else a test puts after it."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, bias=True)
        self.bn = nn.BatchNorm2d(4)

    def forward(self, x):
        return torch.relu(self.bn(self.conv(x)))


class _ReadTwice(_Foreign):
    def forward(self, x):
        y = self.conv(x)
        return self.bn(y) + y


class _CalledTwice(_Foreign):
    def forward(self, x):
        return self.bn(self.conv(x)) + self.conv(x * 2)


class _Branching(_Foreign):
    def forward(self, x):
        y = self.bn(self.conv(x))
        return y if y.mean() > 0 else -y


class _Hooked(_Foreign):
    def __init__(self):
        super().__init__()
        self.conv.register_forward_hook(lambda _module, _inputs, output: output * 2)


class _NormFirst(_Foreign):
    def __init__(self):
        super().__init__()
        self.bn = nn.BatchNorm2d(3)

    def forward(self, x):
        return self.conv(self.bn(x))


def test_a_direct_pair_of_a_foreign_module_is_folded():
    module = with_statistics(_Foreign())

    fused = folded(module)

    assert norms(fused) == 0
    torch.testing.assert_close(fused(pictures()), module(pictures()), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", [_ReadTwice, _CalledTwice, _Branching, _Hooked, _NormFirst])
def test_what_is_not_provably_a_pair_stays(kind):
    module = with_statistics(kind())

    fused = folded(module)

    assert norms(fused) == 1
    torch.testing.assert_close(fused(pictures()), module(pictures()), rtol=0, atol=0)


def test_a_wrapped_network_is_folded_too():
    network = plausible(build(find_model("se_resnet20_small")), seed=0)

    assert norms(folded(nn.Sequential(network, nn.Softmax(dim=1)))) == 0


def test_a_foreign_resnet_is_folded_whole(torchvision_reference):
    module = with_statistics(torchvision_reference.resnet18(num_classes=10))

    assert norms(folded(module)) == 0


def test_the_copy_is_in_eval_mode_and_the_original_as_it_was():
    module = _Foreign().train()

    assert not folded(module).training
    assert module.training

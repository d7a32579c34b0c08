"""Takes out what only training needs, where the rest provably computes the same."""

import copy
from collections import Counter
from collections.abc import Iterator
from typing import Final, TypeGuard

from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

_NOTHING_IN_EVAL: Final = (nn.Dropout, nn.Dropout2d)


def folded(module: nn.Module) -> nn.Module:
    """A copy in eval mode, BatchNorm folded into convolutions, without dropout.

    The original stays as it is, and so does a part that stays in training mode whatever it is told.
    Dropout would stay in an exported program as an operator that does
    nothing, and every converter and quantizer would have to know it.

    A pair is folded where a symbolic trace shows that the BatchNorm reads the convolution's output
    and nothing else does; a module that cannot be traced keeps its BatchNorm, which changes nothing
    in what it computes.
    """
    network = copy.deepcopy(module).eval()
    for name, part in tuple(network.named_modules()):
        if name and type(part) in _NOTHING_IN_EVAL and not (part.training or _has_hooks(part)):
            network.set_submodule(name, nn.Identity())
    for conv_name, norm_name in tuple(_pairs(network)):
        fused = fuse_conv_bn_eval(
            network.get_submodule(conv_name),  # type: ignore[type-var]  # _pairs saw its type
            network.get_submodule(norm_name),  # type: ignore[arg-type]  # the same
        )
        network.set_submodule(conv_name, fused)
        network.set_submodule(norm_name, nn.Identity())
    return network


def _pairs(network: nn.Module) -> Iterator[tuple[str, str]]:
    """Names of the convolutions and BatchNorms that directly follow each other and run once."""
    modules = dict(network.named_modules())
    if not any(type(module) is nn.BatchNorm2d for module in modules.values()):
        return
    graph = _trace(network)
    if graph is None:
        return
    calls = [node for node in graph.nodes if node.op == "call_module"]
    # A module under two names, or called twice, must stay: folding would change its other use.
    uses = Counter(id(modules[str(node.target)]) for node in calls)
    for norm in calls:
        conv = norm.args[0] if norm.args else None
        if not isinstance(conv, fx.Node) or conv.op != "call_module" or len(conv.users) != 1:
            continue
        pair = modules[str(conv.target)], modules[str(norm.target)]
        if (
            type(pair[0]) is nn.Conv2d
            and type(pair[1]) is nn.BatchNorm2d
            and _is_fixed(pair[1])
            and all(uses[id(module)] == 1 and not _has_hooks(module) for module in pair)
        ):
            yield str(conv.target), str(norm.target)


class _Tracer(fx.Tracer):
    """Looks into modules that hold a convolution or a BatchNorm; others need not be traceable."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Whether the trace stays outside of a module."""
        inside = any(isinstance(part, nn.Conv2d | nn.BatchNorm2d) for part in m.modules())
        return not inside or super().is_leaf_module(m, module_qualified_name)


def _trace(network: nn.Module) -> fx.Graph | None:
    # What a symbolic value cannot do (decide a branch, be counted, be a Tensor) ends in these.
    try:
        return _Tracer().trace(network)
    except (fx.proxy.TraceError, TypeError, RuntimeError, AttributeError, AssertionError, KeyError):
        return None


def _is_fixed(norm: nn.Module) -> TypeGuard[nn.BatchNorm2d]:
    """Whether it is a BatchNorm that normalizes with numbers that it holds."""
    return isinstance(norm, nn.BatchNorm2d) and not norm.training and norm.running_mean is not None


def _has_hooks(module: nn.Module) -> bool:
    return bool(module._forward_hooks or module._forward_pre_hooks)  # noqa: SLF001  # no public way

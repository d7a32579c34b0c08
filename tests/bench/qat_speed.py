"""Training steps a second: quantization-aware against fp32, edgese's and torchao's, side by side.

Usage: python tests/bench/qat_speed.py [--rounds 30] [--model efficientnet_b0] [--threads 2]

A step is forward, cross-entropy, backward and SGD with momentum, on random pictures. The contenders
take their steps in turn, each round in another order, so that a noisy machine disturbs all alike:

    fp32              edgese's network in training mode, with BatchNorm, as PyTorch lays it out
    fp32, NHWC        the same in channels_last, which is faster, and what `edgese train` takes
    edgese            the student of quantization-aware training: every tensor on its grid, the
                      scales of the activations learned, those of the weights following the weights
    edgese, weights   the scales of the weights learned, too
    edgese, fixed     the scales of the activations not learned
    edgese, float     no grids: what folding BatchNorm and PyTorch's own SiLU give by themselves
    torchao           prepare_qat_pt2e with ExecuTorch's XNNPACKQuantizer, which quantizes less:
                      sigmoids and their products stay in float
"""

import argparse
import copy
import json
import os
import platform
import random
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from edgese.models.registry import find_model
from edgese.models.weights import load_network, resolve_weights
from edgese.program.canonical import canonical
from edgese.program.folding import folded
from edgese.quantization.calibration import observe
from edgese.quantization.fake import (
    ActivationQuantizer,
    BiasQuantizer,
    QuantizedSiLU,
    WeightQuantizer,
)
from edgese.quantization.layout import layout
from edgese.quantization.plan import planned
from edgese.quantization.qat import student
from edgese.records.quantization import QuantizationRecipe

BASELINE = "fp32, NHWC"
Step = Callable[[], None]


def main() -> None:
    """Runs the benchmark and prints its figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--model", default="efficientnet_b0")
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--without", nargs="+", default=[], help="contenders to leave out")
    parser.add_argument("--json", type=Path, help="also write every sample here")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    warnings.filterwarnings("ignore", category=FutureWarning)  # torch.export's own, about pytree
    print(f"{platform.platform()}, {os.cpu_count()} CPUs ({processor()})")
    print(f"{options.threads} threads, load {os.getloadavg()[0]:.1f} before the start")
    print(
        ", ".join(f"{name} {metadata.version(name)}" for name in ("torch", "torchao", "executorch"))
    )
    print(f"{options.model}, {options.size} px, batch {options.batch}", flush=True)
    steps = contenders(options.model, options.size, options.batch, options.without)
    samples = measure(steps, options.rounds)
    report(samples, options.batch)
    if options.json:
        options.json.write_text(json.dumps(samples, indent=2))


def contenders(model: str, size: int, batch: int, without: list[str]) -> dict[str, Step]:
    """A step of each, by name."""
    spec = find_model(model)
    network = load_network(spec, resolve_weights(spec, "none"))[0]
    torch.manual_seed(0)
    pictures = torch.randn(batch, 3, size, size)
    labels = torch.randint(0, spec.classes, (batch,))
    learner = prepared(network, pictures)
    network.train()

    def step(module: nn.Module, x: torch.Tensor) -> Step:
        trained = [p for p in module.parameters() if p.requires_grad]
        # Too small a rate to change anything: labels at random would drive the values off.
        optimizer = torch.optim.SGD(trained, lr=1e-6, momentum=0.9)

        def take() -> None:
            optimizer.zero_grad()
            F.cross_entropy(module(x), labels).backward()
            optimizer.step()

        return take

    def nhwc(module: nn.Module) -> Step:
        layout = torch.channels_last
        return step(module.to(memory_format=layout), pictures.to(memory_format=layout))

    makers: dict[str, Callable[[], Step]] = {
        "fp32": lambda: step(copy.deepcopy(network), pictures),
        BASELINE: lambda: nhwc(copy.deepcopy(network)),
        "edgese": lambda: nhwc(copy.deepcopy(learner)),
        "edgese, weights": lambda: nhwc(with_learned_weights(copy.deepcopy(learner))),
        "edgese, fixed": lambda: nhwc(with_fixed_grids(copy.deepcopy(learner))),
        "edgese, float": lambda: nhwc(without_grids(copy.deepcopy(learner))),
        "torchao": lambda: step(torchao_prepared(copy.deepcopy(network), pictures), pictures),
    }
    return {name: make() for name, make in makers.items() if name not in without}


def prepared(network: nn.Module, pictures: torch.Tensor) -> nn.Module:
    """The product's student, its grids from the pictures that it is then trained on."""
    module = canonical(torch.export.export(folded(network), (pictures,)))
    where = layout(module)
    seen = observe(module, where, pictures.numpy(), "min_max", batch=len(pictures), seed=0)
    plan = planned(module, where, seen, QuantizationRecipe(ranges="min_max"))
    return student(module, plan).network.train()


def with_learned_weights(network: nn.Module) -> nn.Module:
    """The scales of its weights are parameters."""
    for name, part in list(network.named_children()):
        if isinstance(part, WeightQuantizer):
            network.set_submodule(name, WeightQuantizer(part.initial, scaling="learned"))
    return network


def with_fixed_grids(network: nn.Module) -> nn.Module:
    """No scale of its activations is a parameter."""
    for part in network.modules():
        if isinstance(part, ActivationQuantizer):
            part.log_ratio.requires_grad_(requires_grad=False)
    return network


def without_grids(network: nn.Module) -> nn.Module:
    """The network in float, its SiLUs PyTorch's own."""
    for name, part in list(network.named_children()):
        if isinstance(part, QuantizedSiLU):
            network.set_submodule(name, nn.SiLU())
        elif isinstance(part, ActivationQuantizer | WeightQuantizer | BiasQuantizer):
            network.set_submodule(name, nn.Identity())
    return network


def torchao_prepared(network: nn.Module, pictures: torch.Tensor) -> nn.Module:
    """What torchao makes of the same network for quantization-aware training."""
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
        XNNPACKQuantizer,
        get_symmetric_quantization_config,
    )
    from torchao.quantization.pt2e import move_exported_model_to_train
    from torchao.quantization.pt2e.quantize_pt2e import prepare_qat_pt2e

    module = torch.export.export(network.train(), (pictures,)).module()
    settings = get_symmetric_quantization_config(is_per_channel=True, is_qat=True)
    made = prepare_qat_pt2e(module, XNNPACKQuantizer().set_global(settings))
    return move_exported_model_to_train(made)


def measure(steps: dict[str, Step], rounds: int) -> dict[str, list[float]]:
    """Seconds of a step of each contender in each round."""
    for take in steps.values():
        for _ in range(2):
            take()
    samples: dict[str, list[float]] = {name: [] for name in steps}
    order = random.Random(0)
    for _ in range(rounds):
        for name in order.sample(list(steps), len(steps)):
            started = time.perf_counter()
            steps[name]()
            samples[name].append(time.perf_counter() - started)
    return samples


def report(samples: dict[str, list[float]], batch: int) -> None:
    """Medians, and the ratio of medians to both baselines, with bootstrap intervals over rounds."""
    print(f"\n{'':16} {'img/s':>6}   {'of fp32':22} of {BASELINE}")
    for name, seconds in samples.items():
        speed = batch / statistics.median(seconds)
        print(
            f"{name:16} {speed:6.1f}",
            *(
                f"  {ratio(samples[base], seconds):.2f} ({interval(samples[base], seconds)})"
                for base in ("fp32", BASELINE)
                if base in samples
            ),
            sep=" ",
        )


def ratio(base: list[float], own: list[float]) -> float:
    """Speed of one over speed of the base."""
    return statistics.median(base) / statistics.median(own)


def interval(base: list[float], own: list[float]) -> str:
    """95 %, from rounds drawn anew, both contenders of a round together."""
    draw = random.Random(0)
    pairs = list(zip(base, own, strict=True))
    drawn = sorted(
        ratio(*map(list, zip(*draw.choices(pairs, k=len(pairs)), strict=True))) for _ in range(1000)
    )
    return f"{drawn[25]:.2f} to {drawn[974]:.2f}"


def processor() -> str:
    """Its name, where the system tells it."""
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


if __name__ == "__main__":
    sys.exit(main())

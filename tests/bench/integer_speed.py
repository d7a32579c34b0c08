"""Latency of int8 on one thread: against the same runtime's fp32, and against its own int8 route.

Usage: python tests/bench/integer_speed.py [--models NAME ...] [--targets NAME ...]

Each runtime's own route starts from the same network and the same calibration pictures: AI Edge
Quantizer's static int8 of the fp32 TFLite artifact, ExecuTorch's XNNPACKQuantizer (per channel),
and ONNX Runtime's quantize_static (QDQ, uint8 activations, int8 weights per channel, after its
pre-processing). The three artifacts of a runtime take turns in blocks, in several processes each;
ratios come with Student's 95 % interval over processes. Weights are random: latency does not depend
on them.
"""

import argparse
import json
import os
import platform
import tempfile
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import msgspec
import numpy as np

from edgese import convert, find_model, load_network, profile, resolve_weights, store
from edgese.data.embedded import parity_pictures
from edgese.errors import ConversionError
from edgese.program.folding import folded
from edgese.seals import sealed

TARGETS = ("tflite", "executorch", "onnxruntime")
# Speed-ups that are asked of int8: over fp32, and over the runtime's own route.
WANTED = {"tflite": (2.5, 1.0), "executorch": (2.0, 1.2), "onnxruntime": (1.5, 1.3)}
VERSIONS = ("torch", "ai-edge-litert", "ai-edge-quantizer", "executorch", "torchao", "onnxruntime")
PICTURES = 8


def main() -> None:
    """Runs the benchmark and prints its figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=["efficientnet_b0", "se_resnet50"])
    parser.add_argument("--targets", nargs="+", default=TARGETS, choices=TARGETS)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args()
    print(f"{platform.platform()}, {os.cpu_count()} CPUs, Python {platform.python_version()}")
    print(", ".join(f"{name} {metadata.version(name)}" for name in VERSIONS))
    figures = []
    for model in options.models:
        with tempfile.TemporaryDirectory() as folder:
            figures += [measured(model, target, Path(folder)) for target in options.targets]
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2))


def measured(model: str, target: str, folder: Path) -> dict[str, object]:
    """Speed-ups of one network on one runtime."""
    floats = converted(model, target, folder, "fp32")
    integers = converted(model, target, folder, "int8", data="embedded")
    own = beside(floats, f"own{floats.suffix}", ROUTES[target](model, floats))
    result = profile([integers, floats, own], threads=1)
    ours, *others = result.profiles
    print(f"\n{model}, {target}: int8 {ours.latency.p50_ms:.2f} ms (median), one thread")
    figures: dict[str, object] = {"model": model, "target": target, "ms": ours.latency.p50_ms}
    pairs = zip(("fp32", "own int8"), others, result.ratios, WANTED[target], strict=True)
    for name, other, ratio, wanted in pairs:
        reached = "" if ratio.ratio >= wanted else "  FALLS SHORT"
        print(
            f"  {name:8} {other.latency.p50_ms:6.2f} ms: int8 is {ratio.ratio:.2f}x as fast "
            f"({ratio.interval.low:.2f} to {ratio.interval.high:.2f}), wanted {wanted}x{reached}"
        )
        figures[name] = (ratio.ratio, ratio.interval.low, ratio.interval.high)
    return figures


def converted(model: str, target: str, folder: Path, recipe: str, **more: str) -> Path:
    """An artifact of edgese's, verified."""
    (row,) = convert(model, target, weights="none", recipe=recipe, out=folder, **more)
    if row.error:
        raise ConversionError(row.error, hint=row.hint)
    return Path(row.artifact)


def beside(floats: Path, name: str, content: bytes) -> Path:
    """A peer's artifact with the manifest that measuring asks for: that of the fp32 one."""
    path = floats.with_name(name)
    path.write_bytes(content)
    manifest = msgspec.structs.replace(
        store.read_manifest(floats),
        artifact=name,
        sha256=store.sha256_of(path),
        size_bytes=len(content),
    )
    store.write_record(sealed(manifest), store.manifest_path(path))
    return path


def calibration(model: str) -> np.ndarray:
    """What all routes are calibrated with: (pictures, 3, H, W)."""
    return parity_pictures(find_model(model).preprocessing, PICTURES)


def edge_quantizer(model: str, floats: Path) -> bytes:
    """AI Edge Quantizer's static int8."""
    from ai_edge_quantizer import quantizer, recipe

    made = quantizer.Quantizer(str(floats))
    made.load_quantization_recipe(recipe.static_wi8_ai8())
    pictures = calibration(model).transpose(0, 2, 3, 1)
    seen = made.calibrate({"serving_default": [{"input": p[None]} for p in pictures]})
    return bytes(made.quantize(seen).quantized_model)


def xnnpack_quantizer(model: str, _: Path) -> bytes:
    """ExecuTorch's own route: XNNPACKQuantizer and the XNNPACK partitioner."""
    import torch
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
        XNNPACKQuantizer,
        get_symmetric_quantization_config,
    )
    from executorch.exir import EdgeCompileConfig, to_edge_transform_and_lower
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    network, _ = load_network(find_model(model), resolve_weights(find_model(model), "none"))
    pictures = torch.from_numpy(calibration(model))
    exported = torch.export.export(folded(network), (pictures[:1],)).module()
    config = get_symmetric_quantization_config(is_per_channel=True)
    prepared = prepare_pt2e(exported, XNNPACKQuantizer().set_global(config))
    with torch.no_grad():
        for picture in pictures:
            prepared(picture[None])
    program = torch.export.export(convert_pt2e(prepared), (pictures[:1],))
    edge = to_edge_transform_and_lower(
        program,
        partitioner=[XnnpackPartitioner()],
        compile_config=EdgeCompileConfig(_check_ir_validity=False),
    )
    return bytes(edge.to_executorch().buffer)


def quantize_static(model: str, floats: Path) -> bytes:
    """ONNX Runtime's own route."""
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Pictures(quantization.CalibrationDataReader):
        """Hands the calibration pictures over one by one."""

        def __init__(self) -> None:
            self.left = iter(calibration(model))

        def get_next(self) -> dict[str, np.ndarray] | None:
            """The next one; None at the end."""
            picture = next(self.left, None)
            return None if picture is None else {"input": picture[None]}

    prepared, made = floats.with_suffix(".prepared.onnx"), floats.with_suffix(".own.onnx")
    quant_pre_process(str(floats), str(prepared))
    quantization.quantize_static(
        str(prepared),
        str(made),
        Pictures(),
        quant_format=quantization.QuantFormat.QDQ,
        per_channel=True,
        activation_type=quantization.QuantType.QUInt8,
        weight_type=quantization.QuantType.QInt8,
        calibrate_method=quantization.CalibrationMethod.MinMax,
    )
    return made.read_bytes()


ROUTES: dict[str, Callable[[str, Path], bytes]] = {
    "tflite": edge_quantizer,
    "executorch": xnnpack_quantizer,
    "onnxruntime": quantize_static,
}


if __name__ == "__main__":
    main()

"""How often the gate is wrong, on real measurements: false alarms, and slowdowns that it misses.

Collects runs of one artifact beside itself on this host, then judges pairs of them of which nothing
is truly slower, and the same with a slowdown put in. Goes on where it was interrupted.

    python tests/bench/gate_honesty.py collect --out samples.json --runs 40
    python tests/bench/gate_honesty.py judge samples.json
"""

import argparse
import json
import sys
import time
from pathlib import Path

MODEL = "efficientnet_lite0"
RESOLUTION = (128, 128)


def collect(out: Path, runs: int, pause_s: float) -> None:
    """Measures until there are so many runs; each is written when it is done."""
    from edgese.conversion.api import convert
    from edgese.measure.api import profile

    made = convert(
        MODEL, "tflite", weights="none", resolution=RESOLUTION, out=out.parent / "honesty"
    )[0]
    if made.error:
        sys.exit(made.error)
    artifact = Path(made.artifact)
    kept = json.loads(out.read_text()) if out.exists() else {"runs": []}
    while len(kept["runs"]) < runs:
        began = time.time()
        result = profile([artifact, artifact])
        kept["runs"].append(
            {
                "created": result.created,
                "device": result.profiles[0].device.to_dict(),
                "threads": result.profiles[0].threads,
                "sha256": result.profiles[0].sha256,
                "arms": [
                    [[list(block.samples_ns) for block in launch.blocks] for launch in arm.launches]
                    for arm in result.profiles
                ],
            }
        )
        partial = out.with_suffix(".partial")
        partial.write_text(json.dumps(kept))
        partial.replace(out)
        p50 = [arm.latency.p50_ms for arm in result.profiles]
        ratio = result.ratios[0]
        print(
            f"run {len(kept['runs'])}: {p50[0]:.3f} and {p50[1]:.3f} ms, ratio {ratio.ratio:.4f} "
            f"({ratio.interval.low:.4f} to {ratio.interval.high:.4f}), "
            f"load {result.profiles[0].device.load_average}, {time.time() - began:.0f} s",
            flush=True,
        )
        time.sleep(pause_s)


def main() -> None:
    """Reads the arguments and does what they say."""
    parser = argparse.ArgumentParser()
    steps = parser.add_subparsers(dest="step", required=True)
    first = steps.add_parser("collect")
    first.add_argument("--out", type=Path, required=True)
    first.add_argument("--runs", type=int, default=40)
    first.add_argument("--pause", type=float, default=1.0)
    arguments = parser.parse_args()
    collect(arguments.out, arguments.runs, arguments.pause)


if __name__ == "__main__":
    main()

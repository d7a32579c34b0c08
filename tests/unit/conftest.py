"""Fixtures of the tests that need no runtime."""

import random

import pytest

from edgese.measure.job import Subject
from edgese.measure.summary import summary
from edgese.records.budget import Noise
from edgese.records.measurement import Block, DeviceInfo, Launch, MeasurePlan, Profile
from edgese.records.profile import ProfileResult
from edgese.seals import sealed


@pytest.fixture
def subject_of(manifest_of):
    """Makes subjects of artifacts that are described and do not exist."""

    def made(label, target="onnxruntime", sha256="0" * 64):
        manifest = manifest_of(label, target=target, sha256=sha256)
        return Subject(label=label, path=f"/nowhere/{label}", manifest=manifest)

    return made


INFO = DeviceInfo(
    name="host",
    cpu="x",
    architecture="x86_64",
    cores=8,
    physical_cores=4,
    system="Linux",
    load_average=0.1,
)
PLAN = MeasurePlan(threads=2)
# What `profile_of` has by default.
FIGURES = {
    "latency_p50_ms": 10.0,
    "latency_p90_ms": 10.0,
    "load_ms": 5.0,
    "first_run_ms": 20.0,
    "memory_mb": 80.0,
}


@pytest.fixture(scope="session")
def profile_of():
    """Makes profiles of six launches with four blocks each, whose launches differ by ``spread``."""

    def made(label="a.tflite", *, ms=10.0, spread=0.01, seed=1, device=INFO, **changes):
        rng = random.Random(seed)
        launches = []
        for number in range(PLAN.launches):
            level = ms * rng.lognormvariate(0, spread)
            blocks = tuple(
                Block(
                    start_ms=1000.0 * number + 100.0 * place,
                    samples_ns=tuple(
                        round(1e6 * level * rng.lognormvariate(0, 0.005)) for _ in range(5)
                    ),
                )
                for place in range(PLAN.blocks // PLAN.launches)
            )
            launches.append(
                Launch(
                    import_ms=50.0,
                    load_ms=5.0 * rng.lognormvariate(0, spread),
                    first_run_ms=20.0 * rng.lognormvariate(0, spread),
                    memory_before_load_mb=40.0,
                    peak_memory_mb=80.0,
                    peak_since_load=True,
                    overhead_ns=100.0,
                    blocks=blocks,
                )
            )
        settings = {
            "sha256": "a" * 64,
            "size_bytes": 5_000_000,
            "target": "tflite",
            "delegate": "xnnpack",
            "recipe": "fp32",
            "model": "m",
            "resolution": (224, 224),
            "batch": 1,
            "trained": True,
            "source": "measured",
            "device": device,
            "threads": PLAN.threads,
            "load_ms": 5.0,
            "first_run_ms": 20.0,
            "latency": summary([block for launch in launches for block in launch.blocks]),
            "throughput_per_s": 100.0,
            "memory_before_load_mb": 40.0,
            "peak_memory_mb": 80.0,
            "throttle_events": None,
            "versions": {"ai-edge-litert": "2.3.0"},
            "cautions": (),
            "launches": tuple(launches),
            "macs": 400_000_000,
        }
        return Profile(label=label, **(settings | changes))

    return made


@pytest.fixture(scope="session")
def result_of(profile_of):
    """Makes sealed results; without profiles one is made of the settings."""

    def made(*profiles, device="host", plan=PLAN, result=None, **settings):
        found = profiles or (profile_of(**settings),)
        return sealed(
            ProfileResult(
                device=device,
                plan=plan,
                profiles=found,
                edgese="0.1.0",
                created="2026-01-01T00:00:00+00:00",
                **(result or {}),
            )
        )

    return made


@pytest.fixture(scope="session")
def noise_of():
    """Makes the noise of a device whose runs differ by ``spread``."""

    def made(spread=0.01, runs=12, device=INFO, seed=5, **changes):
        rng = random.Random(seed)
        settings = {
            "target": "tflite",
            "delegate": "xnnpack",
            "threads": PLAN.threads,
            "label": "a.tflite",
            "sha256": "a" * 64,
            "plan": PLAN,
            "levels_ms": tuple(10 * rng.lognormvariate(0, spread) for _ in range(runs)),
            "figures": {
                quantity: tuple(value * rng.lognormvariate(0, spread) for _ in range(runs))
                for quantity, value in FIGURES.items()
            },
            "created": ("2026-01-01T00:00:00+00:00",) * runs,
        }
        return Noise(device=device, **(settings | changes))

    return made

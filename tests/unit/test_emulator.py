"""Emulation without an emulator: what it writes is read, and judged; recorded from QEMU 7.2.22."""

import struct
from functools import partial
from pathlib import Path

import msgspec
import pytest

from edgese.catalog import recipe
from edgese.devices.emulator import counter, program, symbols
from edgese.devices.emulator.cpus import CORES, CPUS, cpuinfo, find_cpu, hwcaps, names_of
from edgese.errors import ConfigError, DeviceError, MissingDependency
from edgese.measure.emulation import cautions_of, launch_of
from edgese.measure.kernels import dispatch_of, kernels_of, products_of
from edgese.records.artifact import (
    Interface,
    Manifest,
    ModelCard,
    OperatorReport,
    Parity,
    TargetOptions,
    TensorInfo,
    WeightsInfo,
)
from edgese.records.emulation import InstructionCounts, Kernel
from edgese.records.model import Preprocessing

RECORDED = (Path(__file__).parents[1] / "data/emulator/counts.jsonl").read_bytes()
RESULT = msgspec.json.encode({"versions": {"ai-edge-litert": "2.3.0"}, "maps": ""})
# AT_HWCAP and AT_HWCAP2 of QEMU's -cpu cortex-a53, cortex-a76 and max,sve=off,sme=off.
A53, A76, A710 = (0x8FB, 0), (0x119FFB, 0), (0xECBFFFFB, 0x76181)
MAPS = """\
400000-916000 r-xp 00000000 fe:00 2811542                                /root/usr/bin/python3.11
5500001000-5500801000 rw-p 00000000 00:00 0                              [stack]
5509210000-55094fe000 r--p 00000000 fe:00 2196009                        /site/libpywrap.so
550950d000-5509d3d000 r-xp 002ed000 fe:00 2196009                        /site/libpywrap.so
"""
NOTHING = dict.fromkeys(InstructionCounts.__struct_fields__, 0)


def counts(**fields):
    return InstructionCounts(**(NOTHING | fields))


def test_the_counters_lines_are_read_and_their_classes_share_out_the_total():
    empty, again, *inferences = counter.parsed(RECORDED)
    assert empty.counts == again.counts
    assert [one.counts.total for one in inferences] == [1_744_845, 1_744_672]
    for one in inferences:
        found = one.counts
        shares = (found.loads, found.stores, found.branches, found.integer, found.vector)
        assert sum(shares) + found.sve + found.other == found.total
    assert [len(one.blocks) > 0 for one in inferences] == [False, True]


@pytest.mark.parametrize(
    "lines",
    [
        RECORDED[:-20],
        RECORDED.replace(b'"int8_dot"', b'"int9_dot"'),
        b"[]\n",
        b'{"total": 1}\n',
    ],
    ids=["cut off", "another class", "a list", "no blocks"],
)
def test_what_is_not_the_counters_is_a_device_error(lines):
    with pytest.raises(DeviceError, match="cannot be read"):
        counter.parsed(lines)


def test_a_process_that_was_not_counted_to_its_end_is_a_device_error():
    assert [one.counts.total for one in launch_of(RESULT, RECORDED, 2).inferences] == [
        1_744_845,
        1_744_672,
    ]
    with pytest.raises(DeviceError, match="tells of 4 calls, and 5 were marked"):
        launch_of(RESULT, RECORDED, 3)
    with pytest.raises(DeviceError, match="tells of 0 calls"):
        launch_of(RESULT, b"", 2)


def test_kernels_are_ranked_and_named_by_what_they_multiply_with():
    blocks = counter.parsed(RECORDED)[-1].blocks
    # A block that multiplies with SDOT, all of its own, and the others together.
    dot = next(block for block in blocks if block[-2])
    kernels = kernels_of(
        blocks, lambda address: ("lib.so", "gemm" if address == dot[0] else "+0x10"), 5
    )
    assert {kernel.name for kernel in kernels} == {"gemm", "lib.so+0x10"}
    gemm = next(kernel for kernel in kernels if kernel.name == "gemm")
    assert gemm.instructions == dot[1] * dot[2]
    assert gemm.by == "dot product"
    assert sum(kernel.share for kernel in kernels) == pytest.approx(1)
    assert kernels == tuple(sorted(kernels, key=lambda kernel: -kernel.instructions))
    assert len(kernels_of(blocks, lambda address: ("lib.so", hex(address)), 5)) == 5


def test_dispatch_is_told_by_products_and_small_shares_are_left_out():
    assert dispatch_of(counter.parsed(RECORDED)[-1].counts) == (
        "dot product",
        "integer multiply-add",
    )
    assert dispatch_of(counts(int8_matrix=100, int8_dot=1)) == ("i8mm",)
    assert dispatch_of(counts(total=100)) == ()
    assert products_of(counts(f32_multiply_add=3, int8_matrix=2)) == {
        "int8_matrix": 64,
        "int8_dot": 0,
        "integer_multiply_add": 0,
        "f16_multiply_add": 0,
        "f32_multiply_add": 12,
    }


def manifest(name="int8", target="tflite", delegate="xnnpack", toolchain=None):
    side = TensorInfo(name="x", shape=(1, 3, 8, 8), layout="NCHW", dtype="float32")
    return Manifest(
        artifact="x.tflite",
        sha256="",
        size_bytes=0,
        target=target,
        delegate=delegate,
        recipe=recipe(name),
        model=ModelCard(name="tiny", classes=4, preprocessing=Preprocessing()),
        spec=None,
        weights=WeightsInfo(source="none", sha256="", naming="edgese", trained=False),
        options=TargetOptions(),
        interface=Interface(input=side, output=side),
        operators=OperatorReport(operators={}, delegate=delegate, partitions=1),
        parity=Parity(verdict="not_run"),
        program_sha256="",
        toolchain=toolchain or {},
        edgese="0.1.0",
        created="",
    )


def judged(instructions, kernels=(), *, features=("asimddp",), spread=0.0, macs=None, **made):
    found = cautions_of(
        manifest(**made),
        instructions,
        kernels,
        features=features,
        spread=spread,
        macs=macs,
        versions={"ai-edge-litert": "2.3.0", "onnxruntime": "1.31.0"},
    )
    return {caution.code: caution for caution in found}


def kernel(name, share):
    return Kernel(name=name, library="lib.so", instructions=int(share * 1e6), share=share)


DELEGATED = (kernel("xnn_qs8_gemm", 0.9), kernel("memcpy", 0.1))
# LiteRT's kernels for dot products on EfficientNet-B0 int8 without a delegate, A76.
RUY = counts(total=152_290_834, integer_multiply_add=11_459_856, int8_dot=23_502_045)
# LiteRT's reference kernels on a network of 3,989,824 MACs.
PLAIN = counts(total=69_864_566, integer_multiply_add=720_944)


def test_a_delegated_graph_has_no_caution():
    fine = counts(total=73_401_538, integer_multiply_add=4_945_668, int8_dot=23_170_992)
    assert judged(fine, DELEGATED, macs=385_814_752) == {}


def test_a_graph_that_is_not_delegated_is_told_by_the_functions_that_execute_it():
    kernels = (kernel("ruy::Kernel8bitNeonDotprod", 0.8), kernel("xnn_x8_lut", 0.2))
    caution = judged(RUY, kernels, macs=385_814_752)["OUTSIDE_XNNPACK"]
    assert caution.numbers == {"share": 0.2}
    assert "ruy::Kernel8bitNeonDotprod" in caution.message


def test_functions_without_names_accuse_nobody():
    assert "OUTSIDE_XNNPACK" not in judged(RUY, (kernel("lib.so+0x10", 0.9),), macs=385_814_752)


def test_int8_without_dot_products_is_told_where_the_processor_has_them():
    found = judged(PLAIN, DELEGATED, macs=3_989_824)
    assert found.keys() == {"NO_DOT_PRODUCT", "MANY_INSTRUCTIONS"}
    assert found["MANY_INSTRUCTIONS"].numbers["per_mac"] == pytest.approx(17.51, abs=0.01)
    assert "NO_DOT_PRODUCT" not in judged(PLAIN, DELEGATED, features=("asimd",))
    assert "NO_DOT_PRODUCT" not in judged(PLAIN, DELEGATED, name="fp32")


def test_counts_that_differ_are_told():
    assert judged(RUY, DELEGATED, spread=0.004) == {}
    assert judged(RUY, DELEGATED, spread=0.02)["SPREAD"].numbers == {"spread": 0.02}


def test_another_version_than_the_one_that_converted_is_told():
    assert judged(RUY, DELEGATED, toolchain={"ai-edge-litert": "2.3.0"}) == {}
    caution = judged(RUY, DELEGATED, toolchain={"ai-edge-litert": "2.4.0"})["OTHER_VERSION"]
    assert caution.message == "ai-edge-litert 2.3.0 executed it, and 2.4.0 made it."


@pytest.mark.parametrize(
    ("bits", "has", "has_not"),
    [
        (A53, {"asimd", "crc32"}, {"asimddp", "i8mm", "asimdhp"}),
        (A76, {"asimddp", "asimdhp", "atomics", "lrcpc"}, {"i8mm", "sve"}),
        (A710, {"asimddp", "i8mm", "bf16"}, {"sve", "sve2", "sme"}),
    ],
    ids=["a53", "a76", "a710"],
)
def test_features_are_named_as_linux_names_them(bits, has, has_not):
    names = names_of(*bits)
    assert has <= set(names)
    assert not has_not & set(names)


def test_features_are_found_in_the_auxiliary_vector():
    vector = struct.pack("<8Q", 6, 4096, 16, A710[0], 26, A710[1], 0, 0)
    assert hwcaps(vector) == A710
    assert hwcaps(struct.pack("<4Q", 16, A53[0], 0, 0)) == A53


def test_cpuinfo_tells_the_core_and_the_features_of_every_processor():
    text = cpuinfo(CPUS["arm64-a76"], ("fp", "asimd"))
    assert text.count("processor\t: ") == CORES
    assert text.count("CPU part\t: 0xd0b\n") == CORES
    assert "CPU variant\t: 0x4\n" in text
    assert "CPU revision\t: 1\n" in text
    assert "Features\t: fp asimd\n" in text


def test_an_unknown_processor_tells_which_exist():
    with pytest.raises(ConfigError, match="'arm64-a77'") as caught:
        find_cpu("arm64-a77")
    assert "Did you mean 'arm64-a7" in caught.value.hint


def test_the_version_is_read_from_what_qemu_says():
    said = "qemu-aarch64 version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18+b3)\nCopyright (c) 2003-2022"
    assert program.version_of(said) == "7.2.22"
    assert program.version_of("") == "unknown"


def test_a_missing_qemu_is_told_with_its_install_command(monkeypatch):
    monkeypatch.setenv(program.VARIABLE, "/nonexistent/qemu-aarch64")
    with pytest.raises(MissingDependency, match="/nonexistent/qemu-aarch64") as caught:
        program.find_qemu()
    assert caught.value.hint == "sudo apt-get install qemu-user"


def test_a_missing_compiler_is_told_with_its_install_command(monkeypatch, tmp_path):
    monkeypatch.setenv("EDGESE_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(counter, "which", lambda _: None)
    with pytest.raises(MissingDependency) as caught:
        counter.library()
    assert caught.value.hint == "sudo apt-get install gcc libc6-dev"


def test_addresses_lead_to_the_file_that_holds_them():
    maps = symbols.mappings(MAPS)
    assert [mapping.path for mapping in maps] == [
        "/root/usr/bin/python3.11",
        "/site/libpywrap.so",
        "/site/libpywrap.so",
    ]
    locate = partial(symbols.locate, maps=maps, files={})
    assert locate(0x550950D010) == ("libpywrap.so", "")
    assert locate(0x55094FE000) == ("", "")
    assert locate(0x100) == ("", "")
    assert locate(0x5509D3D000) == ("", "")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("xnn_f32_gemm", "xnn_f32_gemm"),
        (
            "_ZN3ruy21Kernel8bitNeonDotprodERKNS_16KernelParams8bitILi8EEE",
            "ruy::Kernel8bitNeonDotprod",
        ),
        (
            "_ZN6tflite13reference_ops7PadImplIaaEEvRKNS_9PadParamsE",
            "tflite::reference_ops::PadImpl",
        ),
        ("_ZNK5Eigen3runEv", "Eigen::run"),
        ("_ZNSt6vectorE", "_ZNSt6vectorE"),
    ],
)
def test_the_scopes_of_cplusplus_names_are_read(name, expected):
    assert symbols.readable(name) == expected


def test_what_is_no_program_has_no_functions(tmp_path):
    text = tmp_path / "libpywrap.so"
    text.write_text("no program")
    with pytest.raises(ValueError, match="not an ELF file"):
        symbols.Functions(text.read_bytes())
    maps = symbols.mappings(MAPS.replace("/site", str(tmp_path)))
    assert symbols.locate(0x550950D010, maps, {}) == ("libpywrap.so", "")

"""The evaluator's kernels against what is not ours: ONNX Runtime, and coremltools' own values."""

from itertools import pairwise

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("coremltools")
onnxruntime = pytest.importorskip("onnxruntime")

from hypothesis import assume, given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from edgese.targets.coreml.mil.elementwise import UnknownForm  # noqa: E402
from edgese.targets.coreml.mil.kernels import KERNELS  # noqa: E402
from edgese.targets.coreml.package import import_coremltools  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")
OPTIONS = onnxruntime.SessionOptions()
OPTIONS.intra_op_num_threads = 1
OPTIONS.log_severity_level = 4
few = settings(max_examples=40, deadline=None, derandomize=True)


def reference(operator, inputs, **attributes):
    """What ONNX Runtime gives for one operator; ONNX's own reference pads pools wrongly."""
    import onnx
    from onnx import helper

    names = [f"x{index}" for index in range(len(inputs))]
    node = helper.make_node(operator, names, ["y"], **attributes)
    infos = [
        helper.make_tensor_value_info(
            name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape
        )
        for name, array in zip(names, inputs, strict=True)
    ]
    graph = helper.make_graph([node], "one", infos, [onnx.ValueInfoProto(name="y")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    session = onnxruntime.InferenceSession(model.SerializeToString(), OPTIONS)
    (found,) = session.run(None, dict(zip(names, inputs, strict=True)))
    return found


def ours(operator, **given_):
    return KERNELS[operator](
        **{
            name: torch.from_numpy(value) if isinstance(value, np.ndarray) else value
            for name, value in given_.items()
        }
    ).numpy()


def values(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def ends(pad):
    """ONNX's order of paddings: all that stand before, then all behind."""
    return [*pad[::2], *pad[1::2]]


def half_of(kernel, pad):
    """Paddings that a pool takes: at most half of its window."""
    return [p % (kernel[index // 2] // 2 + 1) for index, p in enumerate(pad)]


sizes = st.tuples(st.integers(1, 9), st.integers(1, 9))
windows = st.tuples(st.integers(1, 4), st.integers(1, 4))
steps = st.tuples(st.integers(1, 3), st.integers(1, 3))
pads = st.tuples(*[st.integers(0, 3)] * 4)


@few
@given(
    sizes,
    windows,
    steps,
    steps,
    pads,
    st.integers(1, 3),
    st.sampled_from(["valid", "custom", "same", "same_lower"]),
    st.booleans(),
)
def test_conv_is_onnx_conv(size, kernel, strides, dilations, pad, groups, pad_type, biased):
    room = [
        n + (a + b if pad_type == "custom" else 0)
        for n, a, b in zip(size, pad[::2], pad[1::2], strict=True)
    ]
    # ONNX Runtime does not pad by itself where the kernel is dilated.
    dilations = (1, 1) if "same" in pad_type else dilations
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    assume("same" in pad_type or all(r <= n for r, n in zip(reach, room, strict=True)))
    x, weight = values(2, 2 * groups, *size), values(3 * groups, 2, *kernel, seed=1)
    bias = values(3 * groups, seed=2)
    how = {
        "valid": {"pads": [0] * 4},
        "custom": {"pads": ends(pad)},
        "same": {"auto_pad": "SAME_UPPER"},
        "same_lower": {"auto_pad": "SAME_LOWER"},
    }[pad_type]
    wanted = reference(
        "Conv",
        [x, weight, *([bias] if biased else [])],
        strides=strides,
        dilations=dilations,
        group=groups,
        **how,
    )
    found = ours(
        "conv",
        x=x,
        weight=weight,
        strides=strides,
        pad_type=pad_type,
        pad=pad,
        dilations=dilations,
        groups=groups,
        **({"bias": bias} if biased else {}),
    )
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)


@few
@given(sizes, windows, steps, pads, st.booleans())
def test_max_pool_is_onnx_max_pool(size, kernel, strides, pad, ceil_mode):
    pad = half_of(kernel, pad)
    if ceil_mode:
        pad = (pad[0], pad[0], pad[2], pad[2])
    assume(
        all(k <= n + a + b for k, n, a, b in zip(kernel, size, pad[::2], pad[1::2], strict=True))
    )
    x = values(2, 3, *size)
    wanted = reference(
        "MaxPool",
        [x],
        kernel_shape=kernel,
        strides=strides,
        pads=ends(pad),
        ceil_mode=int(ceil_mode),
    )
    found = ours(
        "max_pool",
        x=x,
        kernel_sizes=kernel,
        strides=strides,
        pad_type="custom",
        pad=pad,
        ceil_mode=ceil_mode,
    )
    assert np.array_equal(found, wanted)


@few
@given(sizes, windows, steps, pads, st.booleans())
def test_avg_pool_is_onnx_average_pool(size, kernel, strides, pad, excluded):
    pad = half_of(kernel, pad)
    assume(
        all(k <= n + a + b for k, n, a, b in zip(kernel, size, pad[::2], pad[1::2], strict=True))
    )
    x = values(2, 3, *size)
    wanted = reference(
        "AveragePool",
        [x],
        kernel_shape=kernel,
        strides=strides,
        pads=ends(pad),
        count_include_pad=int(not excluded),
    )
    found = ours(
        "avg_pool",
        x=x,
        kernel_sizes=kernel,
        strides=strides,
        pad_type="custom",
        pad=pad,
        exclude_padding_from_average=excluded,
    )
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


@few
@given(
    st.sampled_from(["int8", "uint8"]),
    st.floats(0.001, 3),
    st.integers(0, 127),
    st.integers(0, 1000),
    st.booleans(),
)
def test_quantize_and_dequantize_are_onnxs(dtype, scale, zero, seed, per_channel):
    count = 3 if per_channel else 1
    scales = (np.float32(scale) * np.arange(1, count + 1, dtype=np.float32)).astype(np.float32)
    zeros = np.full(count, zero, dtype)
    # Whole and half steps among them, so that ties are met.
    x = (np.round(values(2, 3, 4, 5, seed=seed) * 100) / 2 * scales[0]).astype(np.float32)
    if not per_channel:
        scales, zeros = scales[0], zeros[0]
    codes = reference("QuantizeLinear", [x, np.asarray(scales), np.asarray(zeros)], axis=1)
    how = {"axis": 1} if per_channel else {}
    given_ = {
        "scale": scales if per_channel else float(scales),
        "zero_point": tuple(zeros.tolist()) if per_channel else int(zeros),
    }
    found = ours("quantize", input=x, output_dtype=dtype, **given_, **how)
    assert np.array_equal(found, codes)
    back = reference("DequantizeLinear", [codes, np.asarray(scales), np.asarray(zeros)], axis=1)
    found = ours("dequantize", input=codes.astype(np.float32), **given_, **how)
    np.testing.assert_allclose(found, back, rtol=1e-6)


def test_a_tie_goes_to_the_even_code():
    found = ours(
        "quantize",
        input=np.array([0.5, 1.5, 2.5, -0.5, -1.5], np.float32),
        scale=1.0,
        output_dtype="int8",
    )
    assert found.tolist() == [0, 2, 2, 0, -2]


@few
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=4))
def test_pad_adds_to_the_last_dimensions(amounts):
    x = values(2, 3, 4, 5)
    flat = [amount for pair in amounts for amount in pair]
    full = [(0, 0)] * (4 - len(amounts)) + amounts
    found = ours("pad", x=x, pad=flat, mode="constant", constant_val=2.5)
    assert np.array_equal(found, np.pad(x, full, constant_values=2.5))


def test_batch_norm_is_onnxs():
    x, (gamma, beta, mean) = values(2, 3, 4, 5), values(3, 3, seed=1)
    variance = np.abs(values(3, seed=2)) + 0.1
    wanted = reference("BatchNormalization", [x, gamma, beta, mean, variance], epsilon=1e-3)
    found = ours(
        "batch_norm", x=x, mean=mean, variance=variance, epsilon=1e-3, gamma=gamma, beta=beta
    )
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("operator", "how"),
    [
        ("abs", {}),
        ("clip", {"alpha": -0.4, "beta": 0.7}),
        ("elu", {"alpha": 0.7}),
        ("erf", {}),
        ("exp", {}),
        ("inverse", {"epsilon": 1e-4}),
        ("leaky_relu", {"alpha": 0.1}),
        ("linear_activation", {"alpha": 0.3, "beta": 0.2}),
        ("relu", {}),
        ("relu6", {}),
        ("sigmoid", {}),
        ("sigmoid_hard", {"alpha": 0.2, "beta": 0.5}),
        ("softplus", {}),
        ("softsign", {}),
        ("square", {}),
        ("tanh", {}),
        ("thresholded_relu", {"alpha": 0.25}),
        ("softmax", {"axis": -1}),
        ("expand_dims", {"axes": (0, 2)}),
        ("transpose", {"perm": (2, 0, 1)}),
        ("reshape", {"shape": (4, -1)}),
        ("reduce_mean", {"axes": (1, -1), "keep_dims": True}),
        ("reduce_mean", {"axes": (0,), "keep_dims": False}),
        ("reduce_max", {"axes": (2,), "keep_dims": True}),
        ("reduce_min", {"axes": (2,), "keep_dims": False}),
        ("reduce_sum", {"axes": (0, 1), "keep_dims": False}),
        ("gelu", {"mode": "EXACT"}),
        ("gelu", {"mode": "TANH_APPROXIMATION"}),
        ("gelu", {"mode": "SIGMOID_APPROXIMATION"}),
    ],
)
def test_an_operator_gives_what_coremltools_computes_for_constants(operator, how):
    x = np.concatenate([values(2, 3, 3), np.full((2, 3, 1), 0.25, np.float32)], axis=2)
    wanted = folded(operator, x=x, **how)
    np.testing.assert_allclose(ours(operator, x=x, **how), wanted, rtol=1e-4, atol=1e-6)


def test_silu_is_a_product_with_a_sigmoid():
    x = values(2, 3, 4)
    np.testing.assert_allclose(ours("silu", x=x), x * folded("sigmoid", x=x), rtol=1e-5)


def folded(operator, **given_):
    """What coremltools computes where all inputs are constants."""
    import_coremltools()
    import coremltools as ct
    from coremltools.converters.mil.mil import Builder, Function

    with Function({}, opset_version=ct.target.iOS17):
        made = getattr(Builder, operator)(**given_)
    return made.val


@pytest.mark.parametrize("operator", ["add", "sub", "mul", "real_div", "maximum", "minimum", "pow"])
def test_two_inputs_broadcast(operator):
    x, y = np.abs(values(2, 3, 4)) + 0.1, np.abs(values(3, 1, seed=1)) + 0.1
    np.testing.assert_allclose(ours(operator, x=x, y=y), folded(operator, x=x, y=y), rtol=1e-5)
    np.testing.assert_allclose(
        ours(operator, x=x, y=0.5), folded(operator, x=x, y=np.float32(0.5)), rtol=1e-5
    )


def test_linear_and_matmul_are_products():
    x, weight, bias = values(2, 5), values(4, 5, seed=1), values(4, seed=2)
    wanted = x @ weight.T + bias
    np.testing.assert_allclose(
        ours("linear", x=x, weight=weight, bias=bias), wanted, rtol=1e-5, atol=1e-6
    )
    found = ours("matmul", x=x, y=weight, transpose_y=True)
    np.testing.assert_allclose(found, wanted - bias, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("operator", "how", "told"),
    [
        ("cast", {"dtype": "int32"}, "to int32"),
        ("gelu", {"mode": "ERF"}, "with mode ERF"),
        ("pad", {"pad": (1, 1), "mode": "wrap", "constant_val": 0.0}, "with mode wrap"),
        ("reshape", {"shape": (0, -1)}, r"to \(0, -1\)"),
        ("layer_norm", {"axes": (1,), "epsilon": 1e-5}, r"dimensions \(1,\)"),
    ],
)
def test_a_form_without_a_kernel_is_told(operator, how, told):
    with pytest.raises(UnknownForm, match=told):
        ours(operator, x=values(2, 3, 4), **how)


def test_the_table_is_in_order():
    assert all(a < b for a, b in pairwise(KERNELS))

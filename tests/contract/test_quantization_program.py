"""From a float program to a quantized one: what is rewritten, gridded and refused."""

import copy

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from edgese import catalog  # noqa: E402
from edgese.errors import ConfigError, ConversionError, InputError  # noqa: E402
from edgese.models.builder import build  # noqa: E402
from edgese.models.registry import find_model  # noqa: E402
from edgese.models.untrained import plausible  # noqa: E402
from edgese.program.canonical import canonical  # noqa: E402
from edgese.program.folding import folded  # noqa: E402
from edgese.program.integers import integer_outputs  # noqa: E402
from edgese.quantization.calibration import observe  # noqa: E402
from edgese.quantization.corrections import corrected  # noqa: E402
from edgese.quantization.equalization import equalized  # noqa: E402
from edgese.quantization.features import Features  # noqa: E402
from edgese.quantization.harmony import harmonized  # noqa: E402
from edgese.quantization.insertion import quantized_program, simulated_module  # noqa: E402
from edgese.quantization.layout import layout  # noqa: E402
from edgese.quantization.plan import planned  # noqa: E402
from edgese.quantization.ptq import fidelity, quantized  # noqa: E402
from edgese.quantization.qat import grid_name, student  # noqa: E402
from edgese.records.model import (  # noqa: E402
    Head,
    ModelSpec,
    Preprocessing,
    SqueezeExcite,
    Stage,
    Stem,
)
from edgese.records.quantization import QuantizationRecipe  # noqa: E402
from edgese.statistics import mean_kl  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")
SIDE = 24


@pytest.fixture(scope="module")
def pictures():
    generator = np.random.default_rng(0)
    coarse = generator.normal(0, 1, (16, 3, 6, 6)).repeat(4, 2).repeat(4, 3)
    return (coarse + 0.3 * generator.normal(0, 1, coarse.shape)).astype(np.float32)


def program(module):
    return torch.export.export(module.eval(), (torch.zeros(1, 3, SIDE, SIDE),))


def plan_of(module, pictures, recipe=QuantizationRecipe(ranges="min_max")):  # noqa: B008  # frozen
    where = layout(module, recipe.keep_float)
    seen = observe(module, where, pictures, recipe.ranges, batch=8, seed=0)
    return planned(module, where, seen, recipe)


def targets(graph_module):
    return [
        str(node.target).removesuffix(".default")
        for node in graph_module.graph.nodes
        if node.op == "call_function"
    ]


class Net(nn.Module):
    """A stem, a body that holds the trap, and a classifier."""

    def __init__(self, body, channels=8):
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.body = body
        self.head = nn.Linear(channels, 5)

    def forward(self, x):
        """(N, 3, H, W) to (N, 5)."""
        return self.head(self.body(self.stem(x)).mean((2, 3)))


class Lambda(nn.Module):
    """A body that is an expression."""

    def __init__(self, function, **parts):
        super().__init__()
        self.function = function
        for name, part in parts.items():
            self.add_module(name, part)

    def forward(self, x):
        """Any picture to another."""
        return self.function(self, x)


BODIES = {
    "relu": nn.ReLU(inplace=True),
    "relu6": nn.ReLU6(),
    "silu": nn.SiLU(inplace=True),
    "hardswish": nn.Hardswish(),
    "hardsigmoid": nn.Hardsigmoid(),
    "tanh": nn.Tanh(),
    "hardsigmoid of a pool": Lambda(lambda _, x: F.hardsigmoid(F.max_pool2d(x, 2))),
    "numbers": Lambda(lambda _, x: 2 * (x + 0.5)),
    "clamp": Lambda(lambda _, x: x.clamp(-0.5, 0.25)),
    "in place": Lambda(lambda _, x: x.add_(x.relu_())),
    "same": nn.Conv2d(8, 8, 3, padding="same"),
    "dropout": nn.Dropout(0.5),
    "pad": nn.ZeroPad2d((0, 1, 0, 1)),
    "two readers": Lambda(lambda _, x: x + x.relu()),
    "pools": nn.Sequential(nn.AvgPool2d(2), nn.MaxPool2d(2)),
}


@pytest.mark.parametrize("name", BODIES)
def test_canonical_operators_compute_the_same(name, pictures):
    net = Net(copy.deepcopy(BODIES[name])).eval()
    with torch.no_grad():
        expected = net(torch.from_numpy(pictures))
        found = canonical(program(net))(torch.from_numpy(pictures))
    assert torch.allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("name", BODIES)
def test_every_operator_gets_its_grid_and_no_float_is_left(name, pictures):
    module = canonical(program(Net(copy.deepcopy(BODIES[name]))))
    made = quantized_program(module, plan_of(module, pictures), (1, 3, SIDE, SIDE))
    graph = made.graph_module.graph
    for node in graph.nodes:
        if node.op != "call_function" or "quantize" in str(node.target):
            continue
        readers = {str(user.target) for user in node.users}
        assert readers == {"quantized_decomposed.quantize_per_tensor.default"}, node
        made_of = [source for source in node.all_input_nodes if source.op == "call_function"]
        assert all("dequantize" in str(source.target) for source in made_of), node
    assert not {"aten.relu", "aten.hardtanh"} & set(targets(made.graph_module))


def test_a_hard_sigmoid_behind_a_convolution_costs_nothing(pictures):
    module = canonical(program(Net(nn.Hardsigmoid())))
    assert targets(module)[:2] == ["aten.conv2d", "aten.hardtanh"]
    made = quantized_program(module, plan_of(module, pictures), (1, 3, SIDE, SIDE))
    assert "aten.mul.Tensor" not in targets(made.graph_module)


def test_two_operators_with_one_weight_are_told_apart(pictures):
    conv = nn.Conv2d(8, 8, 1)
    net = Net(Lambda(lambda m, x: F.relu(m.a(x)) + F.hardsigmoid(m.b(x)), a=conv, b=conv)).eval()
    with torch.no_grad():
        expected = net(torch.from_numpy(pictures))
        found = canonical(program(net))(torch.from_numpy(pictures))
    assert torch.allclose(found, expected, atol=1e-5)


def test_the_program_that_is_quantized_stays_as_it_was(pictures):
    before = program(Net(nn.Hardsigmoid()))
    expected = before.module()(torch.from_numpy(pictures[:1]))
    module = canonical(before)
    plan_of(module, pictures)
    equalized(module, layout(module), pictures, 8)
    assert torch.equal(before.module()(torch.from_numpy(pictures[:1])), expected)


def test_an_unknown_operator_is_told_with_its_module():
    module = canonical(program(Net(nn.Sequential(nn.ReLU(), nn.GELU()))))
    with pytest.raises(ConversionError, match=r"aten\.gelu\.default in body\.1"):
        layout(module)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (nn.ReflectionPad2d(1), "reflect"),
        (nn.ConstantPad2d(1, 0.5), "0.5"),
        (Lambda(lambda _, x: x.clamp(min=-1)), "one side"),
    ],
)
def test_what_has_no_integer_form_is_told(body, said):
    with pytest.raises(ConversionError, match=said):
        layout(canonical(program(Net(body))))


def test_a_clamp_ends_the_grid_before_it(pictures):
    module = canonical(program(Net(nn.ReLU6())))
    plan = plan_of(module, 40 * pictures)
    (grid,) = (plan.grids[p.name] for p in plan.layout.points if p.low == 0 and p.high == 6)
    assert grid.zero_point == -128
    assert 255 * grid.scale == pytest.approx(6)


def test_a_sigmoid_has_the_grid_that_tflite_demands(pictures):
    module = canonical(program(Net(nn.SiLU())))
    behind = plan_of(module, pictures).grid_behind()
    (name,) = (node.name for node in module.graph.nodes if "sigmoid" in str(node.target))
    assert (behind[name].scale, behind[name].zero_point) == (1 / 256, -128)


def test_what_is_concatenated_shares_a_grid_unless_an_operator_binds_it(pictures):
    body = Lambda(lambda _, x: torch.cat([x, F.max_pool2d(x, 3, 1, 1), x.sigmoid(), F.relu(x)], 1))
    net = Net(body, 32).eval()
    module = canonical(program(net))
    plan = plan_of(module, pictures)
    (joined,) = (p for p in plan.layout.points if "cat" in p.members)
    assert set(joined.members) == {"conv2d", "max_pool2d", "cat"}
    # The clamp of the ReLU is the saturation of its own grid, which therefore begins at 0.
    assert plan.grids["relu"].zero_point == -128
    found = simulated_module(module, plan)(torch.from_numpy(pictures))
    with torch.no_grad():
        expected = net(torch.from_numpy(pictures))
    assert fidelity(found.numpy(), expected.numpy()).sqnr_db > 20


def test_kept_modules_stay_in_float(pictures):
    net = Net(nn.Sequential(nn.Conv2d(8, 8, 3), nn.GELU(), nn.Conv2d(8, 8, 1)))
    module = canonical(program(net))
    recipe = QuantizationRecipe(ranges="min_max", keep_float=("body.[01]",))
    made = quantized_program(module, plan_of(module, pictures, recipe), (1, 3, SIDE, SIDE))
    (gelu,) = (node for node in made.graph.nodes if "gelu" in str(node.target))
    assert str(gelu.args[0].target) == "aten.conv2d.default"
    assert targets(made.graph_module).count("quantized_decomposed.quantize_per_channel") == 3


def test_a_pattern_that_fits_nothing_is_told():
    module = canonical(program(Net(nn.ReLU())))
    with pytest.raises(ConfigError, match=r"stages\.9"):
        layout(module, ("stages.9.*",))


def test_weights_and_biases_lie_on_the_grids_of_the_integer_kernels(pictures):
    module = canonical(program(Net(nn.ReLU())))
    plan = plan_of(module, pictures)
    made = quantized_program(module, plan, (1, 3, SIDE, SIDE))
    state = made.state_dict
    for name, scales in plan.weights.items():
        around = (-1, *[1] * (state[f"_weight_{name}"].ndim - 1))
        codes = state[f"_weight_{name}"].numpy() / scales.reshape(around)
        assert np.abs(codes - codes.round()).max() < 1e-3
        assert np.abs(codes).max() <= 127.001
    grid = plan.grids["x"]
    codes = state["_bias_of_conv2d"].double().numpy() / (grid.scale * plan.weights["conv2d"])
    assert np.abs(codes - codes.round()).max() < 1e-3


def test_the_simulation_computes_what_the_program_does(pictures):
    module = canonical(program(Net(nn.SiLU())))
    plan = plan_of(module, pictures)
    made = quantized_program(module, plan, (1, 3, SIDE, SIDE))
    one = torch.from_numpy(pictures[:1])
    assert torch.equal(simulated_module(module, plan)(one), made.module()(one))


@pytest.mark.parametrize("method", ["min_max", "percentile", "mse", "fisher"])
def test_each_range_method_keeps_a_network_close(method, pictures):
    net = Net(nn.Sequential(nn.SiLU(), nn.Conv2d(8, 8, 3))).eval()
    recipe = catalog.recipe(f"int8-{method.replace('_', '')}" if method != "fisher" else "int8")
    assert recipe.quantization.ranges == method
    made = quantized(program(net), recipe, pictures)
    assert made.fidelity.sqnr_db > 20
    assert made.fidelity.pictures == len(pictures)


def test_a_tensor_that_is_always_zero_survives(pictures):
    net = Net(nn.Conv2d(8, 8, 1))
    nn.init.zeros_(net.body.weight)
    nn.init.zeros_(net.body.bias)
    made = quantized(program(net), catalog.recipe("int8"), pictures)
    found = integer_outputs(made.program, pictures[:2], 1)
    assert np.isfinite(found).all()
    assert np.allclose(found, net.head.bias.detach().numpy(), atol=0.02)


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_told(wrong, pictures):
    net = Net(nn.Conv2d(8, 8, 1))
    with torch.no_grad():
        net.body.weight[0, 0] = wrong
    with pytest.raises(InputError, match="NaN or inf"):
        quantized(program(net), catalog.recipe("int8"), pictures)


def test_corrections_bring_a_coarse_network_closer(pictures):
    net = Net(nn.Sequential(nn.ReLU(), nn.Conv2d(8, 8, 3, groups=8), nn.ReLU(), nn.Conv2d(8, 8, 1)))
    module = canonical(program(net))
    plan = plan_of(module, pictures)
    # Five levels of weights shift the means as a deep network's roundings do together.
    coarse = {name: (40 * scales).astype(np.float32) for name, scales in plan.weights.items()}
    plan = type(plan)(
        layout=plan.layout, grids=plan.grids, constants=plan.constants, weights=coarse
    )
    with torch.no_grad():
        reference = module(torch.from_numpy(pictures)).numpy()
        before = simulated_module(module, plan)(torch.from_numpy(pictures)).numpy()
        plan = corrected(module, plan, pictures, spread=True)
        after = simulated_module(module, plan)(torch.from_numpy(pictures)).numpy()
    assert mean_kl(after, reference) < 0.5 * mean_kl(before, reference)


def test_equalization_changes_ranges_and_not_the_outputs(pictures):
    net = Net(nn.Sequential(nn.Conv2d(8, 16, 1), nn.ReLU(), nn.Conv2d(16, 8, 3, groups=2)))
    with torch.no_grad():
        net.body[0].weight[3] *= 50
        net.body[0].bias[3] *= 50
        net.body[2].weight[:, 3] /= 50
    module = canonical(program(net))
    x = torch.from_numpy(pictures)
    with torch.no_grad():
        expected = module(x)
        widest = plan_of(module, pictures).grids
        assert equalized(module, layout(module), pictures, 8) == 2
        assert torch.allclose(module(x), expected, atol=1e-4)
    narrowed = plan_of(module, pictures).grids
    (name,) = (p.name for p in layout(module).points if p.low == 0)
    assert narrowed[name].scale < 0.5 * widest[name].scale


def test_a_student_begins_as_the_simulation_and_learns_back_into_a_plan(pictures):
    module = canonical(program(Net(nn.Sequential(nn.SiLU(), nn.Conv2d(8, 8, 3)))))
    plan = plan_of(module, pictures)
    learning = student(module, plan)
    x = torch.from_numpy(pictures)
    network = learning.network.eval()
    step = plan.grids["linear"].scale
    with torch.no_grad():
        assert (network(x) - simulated_module(module, plan)(x)).abs().max() < 1.01 * step
    _, unchanged = learning.learnt()
    assert unchanged.grids == plan.grids
    optimizer = torch.optim.SGD(network.train().parameters(), 0.05)
    for _ in range(3):
        optimizer.zero_grad()
        network(x).square().mean().backward()
        optimizer.step()
    changed, learnt = learning.learnt()
    assert learnt.grids != plan.grids
    with torch.no_grad():
        found = simulated_module(changed, learnt)(x)
        assert (network.eval()(x) - found).abs().max() < 1.01 * learnt.grids["linear"].scale


class Residual(nn.Module):
    """A sum that is clamped, and one that is not."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(8, 8, 3, padding=1)
        self.second = nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, x):
        """(N, 8, H, W) to the same."""
        x = F.relu(x + self.first(x))
        return x + self.second(x)


def test_features_are_what_stands_behind_sums_and_the_last_pool(pictures):
    fp32 = program(Net(Residual()))
    module = canonical(fp32)
    plan = plan_of(module, pictures)
    learning = student(module, plan)
    teacher = canonical(fp32)
    x = torch.from_numpy(pictures)
    expected = teacher(x)
    features = Features(learning, teacher)
    learning.network.eval()
    with torch.no_grad():
        learning.network(x + 1)  # an earlier forward, of which nothing may stay
        learning.network(x)
        assert torch.equal(teacher(x), expected)
        found = features.difference()

        seen = {}

        class Watching(torch.fx.Interpreter):
            def run_node(self, n):
                seen[n.name] = super().run_node(n)
                return seen[n.name]

        kept = []
        points = [p for p in plan.layout.points if p.members[0] in {"relu", "add_1", "mean"}]
        for point in points:
            part = learning.network.get_submodule(grid_name(point.name))
            part.register_forward_hook(lambda _, __, y: kept.append(y))
        Watching(canonical(fp32)).run(x)
        learning.network(x)
    wanted = sum(
        (mine - seen[point.members[0]]).square().mean() / seen[point.members[0]].square().mean()
        for point, mine in zip(points, kept, strict=True)
    )
    assert len(points) == 3
    assert found > 0
    assert torch.allclose(found, wanted, rtol=1e-4)
    features.close()


GATES = [
    SqueezeExcite(reduction=4),
    SqueezeExcite(reduction=4, gate="hard_sigmoid", activation="hard_swish"),
    SqueezeExcite(reduction=4, gate="tanh", squeeze="max", placement="pre"),
    SqueezeExcite(reduction=4, gate="relu", squeeze="none", placement="post"),
    SqueezeExcite(reduction=4, placement="identity", activation="silu"),
    SqueezeExcite(reduction=4, placement="spatial", bias=False),
]


@pytest.mark.parametrize(
    ("gate", "activation"),
    [
        *zip(GATES, ("relu", "silu", "hard_swish", "relu6", "silu", "relu"), strict=True),
        *zip(GATES, ("silu", "relu", "silu", "relu", "relu6", "hard_swish"), strict=True),
    ],
    ids=lambda value: value if isinstance(value, str) else f"{value.gate}-{value.placement}",
)
def test_every_gate_and_activation_is_quantized_whole(gate, activation, pictures):
    spec = ModelSpec(
        name="tiny",
        family="mine",
        activation=activation,
        stem=Stem(channels=(8,), stride=1, pool="max"),
        stages=(
            Stage(block="bottleneck", channels=16, depth=1, inner=(8, 8), groups=2, se=gate),
            Stage(block="bottleneck", channels=16, depth=1, inner=(8, 8), stride=2, se=gate),
        ),
        head=Head(),
        classes=6,
        preprocessing=Preprocessing(height=SIDE, width=SIDE),
    )
    net = folded(plausible(build(spec), seed=0).eval())
    made = quantized(program(net), catalog.recipe("int8"), pictures)
    assert not made.plan.layout.floats
    assert made.fidelity.sqnr_db > 15


@pytest.mark.parametrize("name", ["efficientnet_b0", "efficientnet_v2_b0", "se_resnet18_v1"])
def test_whole_families_are_quantized_without_a_float_operator(name):
    net = folded(build(find_model(name)).eval())
    made = layout(canonical(torch.export.export(net, (torch.zeros(1, 3, 64, 64),))))
    assert made.floats == ()
    assert len(made.weighted) > 20


def test_harmonized_scales_leave_no_result_near_a_middle(pictures):
    parts = {"a": nn.Conv2d(8, 8, 1), "b": nn.Conv2d(8, 8, 1)}
    net = Net(Lambda(lambda m, x: m.a(y := F.silu(x)) + m.b(y), **parts))
    module = canonical(program(net))
    before = plan_of(module, pictures)
    after = harmonized(module, before)
    behind, was = after.grid_behind(), before.grid_behind()
    nodes = {node.name: node for node in module.graph.nodes}
    codes = np.arange(-255, 256)
    product = np.multiply.outer(codes, codes).astype(np.float64)
    ratio = behind["conv2d"].scale / 256 / behind[str(nodes["conv2d_1"].args[0])].scale
    assert _nearest_middle(product * ratio) > 1e-4
    left, right = (behind[str(source)].scale for source in nodes["add"].args[:2])
    end = behind["add"].scale
    assert _nearest_middle(np.add.outer(codes * left / end, codes * right / end)) > 4e-4
    for name, grid in behind.items():
        assert grid.zero_point == was[name].zero_point
        assert grid.scale == pytest.approx(was[name].scale, rel=2e-3)
    left, right = (was[str(source)].scale for source in nodes["add"].args[:2])
    end = was["add"].scale
    assert _nearest_middle(np.add.outer(codes * left / end, codes * right / end)) < 1e-4


# A float32 is inexact by 2^-24 of a code of up to 128.
@pytest.mark.parametrize(
    ("places", "margin"), [(7 * 7, 2e-4), (14 * 14, 2e-4), (112 * 112, 2.0**-17)]
)
def test_harmonized_means_lie_near_no_middle(places, margin, pictures):
    """A mean over many places is near a middle now and then, and runtimes sum in other orders."""
    side = int(places**0.5)
    net = Lambda(
        lambda m, x: m.a(F.silu(m.c(x)).mean((2, 3))), c=nn.Conv2d(3, 8, 1), a=nn.Linear(8, 5)
    )
    scaled = F.interpolate(torch.from_numpy(pictures), size=(side, side)).numpy()
    module = canonical(torch.export.export(net.eval(), (torch.zeros(1, 3, side, side),)))
    before = plan_of(module, scaled)
    after = harmonized(module, before)
    (mean,) = module.graph.find_nodes(op="call_function", target=torch.ops.aten.mean.dim)
    read, given = str(mean.args[0]), mean.name
    sums = np.arange(-255 * places, 255 * places + 1)
    for plan, harmonious in ((before, False), (after, True)):
        grids = plan.grids
        values = sums * (grids[read].scale / grids[given].scale / places)
        clear = _nearest_middle(values[np.abs(values) < 128]) > margin
        assert bool(clear) is harmonious
    assert after.grids[given].scale == pytest.approx(before.grids[given].scale, rel=2e-3)


@pytest.mark.parametrize("kept", [("pool",), ("stem", "pool"), ("stem",)])
def test_a_mean_that_stays_in_float_is_left_alone(kept, pictures):
    class Pooled(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.stem = nn.Conv2d(3, 8, 3)
            self.pool = Lambda(lambda _, x: F.silu(x).mean((2, 3), keepdim=True))
            self.fc = nn.Conv2d(8, 5, 1)

        def forward(self, x):
            """(N, 3, H, W) to (N, 5)."""
            return self.fc(self.pool(self.stem(x))).flatten(1)

    recipe = QuantizationRecipe(ranges="min_max", keep_float=kept)
    module = canonical(program(Pooled()))
    before = plan_of(module, pictures, recipe)
    after = harmonized(module, before)
    moved = after.grids["mean"].scale != before.grids["mean"].scale
    assert moved == ("pool" not in kept)


def _nearest_middle(values):
    """How near the nearest value is to the middle between two whole numbers."""
    return np.abs(np.abs(values - np.floor(values)) - 0.5).min()


def test_a_channel_that_is_almost_silent_leaves_room_for_its_bias(pictures):
    net = Net(nn.Conv2d(8, 8, 1))
    with torch.no_grad():
        net.body.weight[2] *= 1e-9
        net.body.bias[2] = 3.0
    made = quantized(program(net), catalog.recipe("int8"), pictures)
    plan, state = made.plan, made.program.state_dict
    grid = plan.grid_behind()["conv2d"]
    codes = state["_bias_of_conv2d_1"].double().numpy() / (grid.scale * plan.weights["conv2d_1"])
    assert np.abs(codes).max() < 2**30
    found = integer_outputs(made.program, pictures, 1)
    with torch.no_grad():
        expected = net(torch.from_numpy(pictures)).numpy()
    assert fidelity(found, expected).sqnr_db > 20

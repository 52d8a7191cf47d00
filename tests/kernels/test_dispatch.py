"""The public operators: arguments, choice of backend, and every machinery that sees the op."""

import subprocess
import sys

import pytest
import torch
from torch.utils.checkpoint import checkpoint

import kernels
from kernels import KernelError, cross_scan, selective_scan
from kernels.s6.cases import ScanShape, make_problem
from kernels.s6.op import OPERATOR

COMPILED = 1e-6
"""Compiled code may fuse the operators around the scan, never the scan itself."""
HALF = 3e-2


class OneScan(torch.nn.Module):
    """A linear layer and a scan of three routes over nine tokens."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.A = torch.nn.Parameter(-torch.rand(3, 24, 4) - 0.1)
        self.D = torch.nn.Parameter(torch.ones(3, 24))
        self.project = torch.nn.Linear(24, 24)
        orders = torch.stack([torch.randperm(9) for _ in range(3)])
        self.register_buffer("orders", orders.to(torch.int32))

    def forward(self, x):
        u = self.project(x)
        delta = u.unsqueeze(1).expand(-1, 3, -1, -1)
        b, c = delta[..., :4], delta[..., 4:8]
        return cross_scan(
            u, delta, self.A, b, c, self.D, z=u, orders=self.orders, delta_softplus=True
        )


@pytest.fixture
def model():
    return OneScan()


@pytest.fixture
def image():
    return torch.randn(2, 9, 24, generator=torch.Generator().manual_seed(1))


def gradients(model, image, call=None):
    model.zero_grad()
    y = (model if call is None else call)(image)
    y.float().square().sum().backward()
    return y, [p.grad.clone() for p in model.parameters()]


def test_trace_holds_one_node_a_call_and_fvcore_counts_it(model, image):
    fvcore = pytest.importorskip("fvcore.nn")
    nodes = [n for n in torch.jit.trace(model, image).graph.nodes() if "scannas" in n.kind()]
    assert [n.kind() for n in nodes] == [OPERATOR.graph_name]

    def handle(inputs, _outputs):
        shapes = {
            name: value.type().sizes() if value.type().kind() == "TensorType" else None
            for name, value in zip(OPERATOR.call._fields, inputs)
        }
        assert shapes["z"] == [2, 9, 24]
        return OPERATOR.flops(shapes, "fvcore")

    count = fvcore.FlopCountAnalysis(model, image)
    count.set_op_handle(OPERATOR.graph_name, handle)
    assert count.by_operator()["cross_scan"] == 2 * 3 * (9 * 9 * 24 * 4 + 9 * 24)
    assert not count.unsupported_ops()


@pytest.mark.parametrize("dynamic", [False, True])
def test_compiled_whole_graph_gives_the_same_gradients(model, image, dynamic):
    expected, expected_grads = gradients(model, image)
    torch.compiler.reset()
    compiled = torch.compile(model, fullgraph=True, dynamic=dynamic, backend="aot_eager")
    y, grads = gradients(model, image, compiled)
    assert (y - expected).abs().max() < COMPILED
    for grad, target in zip(grads, expected_grads):
        assert (grad - target).abs().max() < COMPILED * target.abs().max()


def test_compiled_model_follows_the_backend_of_the_context(model, image):
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    fast = compiled(image)
    with kernels.use_backend("reference"):
        slow, expected = compiled(image), model(image)
    assert torch.equal(slow, expected) and not torch.equal(slow, fast)


def test_exported_program_leaves_the_backend_open(model, image):
    program = torch.export.export(model, (image,))
    (node,) = [n for n in program.graph.nodes if "cross_scan" in str(n.target)]
    assert "auto" in node.args
    assert torch.equal(program.module()(image), model(image))


@pytest.mark.parametrize("reentrant", [False, True])
def test_activation_checkpointing_gives_the_same_gradients(model, image, reentrant):
    _, expected = gradients(model, image)
    leaf = image.clone().requires_grad_()
    _, found = gradients(model, leaf, lambda x: checkpoint(model, x, use_reentrant=reentrant))
    assert all(torch.equal(a, b) for a, b in zip(found, expected))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_autocast_runs_the_scan_in_half_and_trains_float32_weights(model, image, dtype):
    expected, expected_grads = gradients(model, image)
    with torch.autocast("cpu", dtype=dtype):
        y = model(image)
    assert y.dtype == dtype
    assert (y - expected).abs().max() < HALF * expected.abs().max()
    model.zero_grad()
    y.float().square().sum().backward()
    for parameter, target in zip(model.parameters(), expected_grads):
        assert parameter.grad.dtype == torch.float32
        assert (parameter.grad - target).abs().max() < HALF * target.abs().max()


def test_inference_keeps_nothing_for_a_backward(image):
    model = OneScan().requires_grad_(False)
    assert not model(image).requires_grad
    with torch.inference_mode():
        assert model(image).isfinite().all()


def test_grad_of_a_frozen_weight_is_left_out(model, image):
    model.A.requires_grad_(False)
    model(image).sum().backward()
    assert model.A.grad is None and model.D.grad is not None


def test_batch_of_none_gives_none(model):
    assert model(torch.empty(0, 9, 24)).shape == (0, 9, 24)


WRONG = [
    ({"x": (2, 9, 21)}, r"x has shape \(2, 9, 21\); expected \(B, L, D\) = \(2, 9, 20\)"),
    ({"x": (2, 1, 9, 20)}, r"x has shape .* expected \(B, K, L, D\) = \(2, 2, 9, 20\)"),
    ({"delta": (2, 9, 20)}, r"delta has shape \(2, 9, 20\); expected 4 axes"),
    ({"A": (20, 4)}, r"A has shape \(20, 4\); expected 3 axes"),
    ({"A": (2, 4, 20)}, r"A has shape .* expected \(K, D, N\) = \(2, 20, 20\)"),
    ({"B": (2, 2, 9, 3)}, r"B has shape .* expected \(B, K, L, N\) = \(2, 2, 9, 4\)"),
    ({"C": (2, 9, 4)}, r"C has shape .* expected \(B, K, L, N\) = \(2, 2, 9, 4\)"),
    ({"D": (20,)}, r"D has shape \(20,\); expected \(K, D\) = \(2, 20\)"),
    ({"z": (2, 2, 9, 20)}, r"z has shape .* expected \(B, L, D\) = \(2, 9, 20\)"),
    ({"delta_bias": (1, 20)}, r"delta_bias has shape .* expected \(K, D\) = \(2, 20\)"),
]


@pytest.mark.parametrize(("sizes", "message"), WRONG, ids=[next(iter(w[0])) for w in WRONG])
def test_wrong_shape_is_named_with_what_was_expected(sizes, message):
    problem = make_problem(ScanShape()).to("cpu", torch.float32)
    wrong = {name: torch.zeros(size) for name, size in sizes.items()}
    with pytest.raises(KernelError, match=message):
        cross_scan(**{**problem.tensors, **wrong}, orders=problem.call.orders)


def test_other_wrong_arguments_are_named():
    t = make_problem(ScanShape()).to("cpu", torch.float32).tensors
    with pytest.raises(KernelError, match=r"orders has shape \(3, 9\); expected \(K, M\)"):
        cross_scan(**t, orders=torch.zeros(3, 9, dtype=torch.int32))
    with pytest.raises(KernelError, match="orders visits 10 tokens a route; there are 9"):
        cross_scan(**t, orders=torch.zeros(2, 10, dtype=torch.int32))
    with pytest.raises(KernelError, match=r"orders has dtype torch\.float32; use int32 or int64"):
        cross_scan(**t, orders=torch.zeros(2, 9))
    with pytest.raises(KernelError, match="merge 'max' is unknown; use one of sum, mean, none"):
        cross_scan(**t, orders=None, merge="max")
    with pytest.raises(KernelError, match=r"B has dtype torch\.int64"):
        cross_scan(**{**t, "B": t["B"].long()}, orders=None)
    with pytest.raises(KernelError, match="z is on meta but x on cpu"):
        cross_scan(**{**t, "z": t["z"].to("meta")}, orders=None)
    with pytest.raises(KernelError, match=r"expected u, delta \(B, L, D\), A \(D, N\)"):
        selective_scan(t["x"], t["x"], t["A"], t["B"], t["C"])


def test_import_of_the_package_loads_nothing_heavy():
    code = (
        "import sys, kernels; kernels.scan_flops;"
        "print([m for m in ('torch', 'numba', 'triton', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

"""What must hold of any scan, on each CPU backend."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels import cross_scan, selective_scan
from kernels.s6.cases import ScanShape, make_problem

TOLERANCE = 2e-5
"""Float32, relative to the largest element."""
BACKENDS = ["reference", "numba"]

sizes = st.fixed_dictionaries(
    {
        "B": st.integers(1, 3),
        "K": st.integers(1, 3),
        "L": st.integers(1, 40),
        "D": st.integers(1, 37),
        "N": st.sampled_from([1, 2, 3, 5]),
        "seed": st.integers(0, 99),
    }
)
few = settings(max_examples=8, deadline=None, derandomize=True)
each_backend = pytest.mark.parametrize("backend", BACKENDS)


def close(left, right, tolerance=TOLERANCE):
    return bool((left - right).abs().max() <= tolerance * right.abs().max().clamp_min(1e-6))


def same(backend, left, right):
    """Equal bits; torch's own operators promise that only for tensors of one size."""
    return torch.equal(left, right) if backend == "numba" else close(left, right)


def problem_of(options, **more):
    problem = make_problem(ScanShape(**options, **more)).to("cpu", torch.float32)
    return problem, dict(problem.tensors)


@each_backend
@few
@given(options=sizes)
def test_raster_order_equals_one_plain_scan_a_route(backend, options):
    _, t = problem_of(options, merge="none", orders="raster", gated=False)
    y = cross_scan(**t, orders=None, delta_softplus=True, merge="none", backend=backend)
    raster = torch.arange(options["L"]).expand(options["K"], -1)
    listed = cross_scan(**t, orders=raster, delta_softplus=True, merge="none", backend=backend)
    assert torch.equal(y, listed)
    for k in range(options["K"]):
        alone = selective_scan(
            t["x"], t["delta"][:, k], t["A"][k], t["B"][:, k], t["C"][:, k], t["D"][k],
            delta_bias=t["delta_bias"][k], delta_softplus=True, backend=backend,
        )  # fmt: skip
        assert same(backend, y[:, k], alone)


@each_backend
@few
@given(options=sizes)
def test_order_table_equals_permute_scan_and_unpermute(backend, options):
    problem, t = problem_of(options, merge="none", orders="shared", gated=False)
    y = cross_scan(
        **t, orders=problem.call.orders, delta_softplus=True, merge="none", backend=backend
    )
    for k in range(options["K"]):
        p = problem.call.orders[k].long()
        alone = selective_scan(
            t["x"][:, p], t["delta"][:, k, p], t["A"][k], t["B"][:, k, p], t["C"][:, k, p],
            t["D"][k], delta_bias=t["delta_bias"][k], delta_softplus=True, backend=backend,
        )  # fmt: skip
        assert same(backend, y[:, k, p], alone)


@each_backend
@few
@given(options=sizes)
def test_sum_and_mean_merge_the_gated_routes(backend, options):
    problem, t = problem_of(options, orders="per-sample", gated=True)
    call = {"orders": problem.call.orders, "delta_softplus": True, "backend": backend}
    routes = cross_scan(**t, **call, merge="none")
    assert close(cross_scan(**t, **call, merge="sum"), routes.sum(1))
    assert close(cross_scan(**t, **call, merge="mean"), routes.mean(1))


@each_backend
@few
@given(options=sizes)
def test_images_of_a_batch_do_not_see_each_other(backend, options):
    problem, t = problem_of(options, orders="per-sample")
    y = cross_scan(**t, orders=problem.call.orders, delta_softplus=True, backend=backend)
    weights = {"A", "D", "delta_bias"}
    for i in range(options["B"]):
        one = {name: v if name in weights else v[i : i + 1] for name, v in t.items()}
        orders = problem.call.orders[i : i + 1]
        alone = cross_scan(**one, orders=orders, delta_softplus=True, backend=backend)
        assert (
            close(y[i : i + 1], alone)
            if backend == "reference"
            else torch.equal(y[i : i + 1], alone)
        )


@each_backend
@few
@given(options=sizes)
def test_scan_is_linear_in_x(backend, options):
    problem, t = problem_of(options, gated=False)
    call = {"orders": problem.call.orders, "delta_softplus": True, "backend": backend}
    x, other = t.pop("x"), torch.randn_like(t["delta"][:, 0])
    together = cross_scan(2 * x + other, **t, **call)
    apart = 2 * cross_scan(x, **t, **call) + cross_scan(other, **t, **call)
    assert close(together, apart, 10 * TOLERANCE)


@each_backend
@few
@given(options=sizes)
def test_reversing_the_table_equals_reversing_the_tokens(backend, options):
    _, t = problem_of(options, merge="none", orders="raster", gated=False)
    call = {"delta_softplus": True, "merge": "none", "backend": backend}
    backwards = torch.arange(options["L"]).flip(0).expand(options["K"], -1)
    y = cross_scan(**t, orders=backwards, **call)
    flipped = dict(t, x=t["x"].flip(1), **{n: t[n].flip(2) for n in ("delta", "B", "C")})
    assert same(backend, y, cross_scan(**flipped, orders=None, **call).flip(2))


@each_backend
def test_permuting_channels_permutes_the_result(backend):
    problem, t = problem_of({"B": 2, "K": 2, "L": 13, "D": 80, "N": 4})
    p = torch.randperm(80, generator=torch.Generator().manual_seed(3))
    call = {"orders": problem.call.orders, "delta_softplus": True, "backend": backend}
    moved = dict(t, A=t["A"][:, p])
    moved |= {name: t[name][..., p] for name in ("x", "delta", "D", "z", "delta_bias")}
    assert close(cross_scan(**moved, **call), cross_scan(**t, **call)[..., p])


@each_backend
def test_state_carries_over_when_a_sequence_is_split(backend):
    _, t = problem_of({"B": 1, "K": 1, "L": 40, "D": 5, "N": 2}, orders="raster", gated=False)
    call = {"orders": None, "delta_softplus": True, "backend": backend}
    whole = cross_scan(**t, **call)
    cut = 23
    first = dict(t, x=t["x"][:, :cut], **{n: t[n][:, :, :cut] for n in ("delta", "B", "C")})
    assert same(backend, cross_scan(**first, **call), whole[:, :cut])
    silent = torch.cat([t["x"][:, :cut], torch.zeros_like(t["x"][:, cut:])], 1)
    started = dict(t, x=torch.cat([torch.zeros_like(t["x"][:, :cut]), t["x"][:, cut:]], 1))
    total = cross_scan(**dict(t, x=silent), **call) + cross_scan(**started, **call)
    assert close(total, whole)


@each_backend
@pytest.mark.parametrize("step", [1e-6, 20.0, 100.0])
@pytest.mark.parametrize("decay", [-1e-3, -1e3])
def test_extreme_steps_and_decays_stay_finite(backend, step, decay):
    _, t = problem_of({"B": 1, "K": 1, "L": 33, "D": 17, "N": 3}, orders="raster", gated=False)
    t["delta"] = torch.full_like(t["delta"], step)
    t["A"] = torch.full_like(t["A"], decay)
    t.pop("delta_bias")
    leaves = {name: v.requires_grad_() for name, v in t.items()}
    y = cross_scan(**leaves, orders=None, backend=backend)
    gradients = torch.autograd.grad(y.square().sum(), list(leaves.values()))
    assert y.isfinite().all() and all(g.isfinite().all() for g in gradients)
    if step == 1e-6:  # Nearly no step: only the skip is left.
        assert (y - t["D"][0] * t["x"]).abs().max() < 1e-3
    if step == 100.0 and decay == -1e3:  # Nothing survives a step: y = C.B d u + D u.
        direct = (t["B"] * t["C"]).sum(-1)[:, 0, :, None] * step * t["x"] + t["D"][0] * t["x"]
        assert close(y, direct)


@each_backend
@pytest.mark.parametrize("name", ["x", "delta", "A", "B", "C"])
def test_nan_reaches_the_result_and_no_other_image(backend, name):
    problem, t = problem_of({"B": 2, "K": 2, "L": 5, "D": 18, "N": 2}, gated=False)
    t = {key: v.clone() for key, v in t.items()}
    t[name].view(-1)[0] = float("nan")
    y = cross_scan(**t, orders=problem.call.orders, delta_softplus=True, backend=backend)
    assert y[0].isnan().any()
    assert name == "A" or y[1].isfinite().all()

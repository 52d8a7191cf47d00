"""The Triton backend against float64: one suite for the interpreter and for a device.

Not collected by its name: `test_triton.py` runs it in a process with TRITON_INTERPRET=1 (which
must be set before Triton is imported), and on a device where there is one.
"""

from __future__ import annotations

import pytest
import torch
from triton.runtime import interpreter

from kernels import cross_scan
from kernels.common.conformance import failures, run
from kernels.s6.cases import ScanShape, make_problem
from kernels.s6.triton import plan as triton_plan

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
CASES = [
    ("auto", ScanShape(B=1, K=1, L=1, D=9, N=1, orders="raster")),
    ("auto", ScanShape(B=2, K=2, L=3, D=20, N=4)),
    ("auto", ScanShape(B=1, K=4, L=4, D=40, N=1, merge="mean", orders="per-sample")),
    ("auto", ScanShape(B=1, K=1, L=3, D=33, N=16, gated=False, softplus=False)),
    ("auto", ScanShape(B=1, K=2, L=34, D=12, N=1, merge="none", route_inputs=True)),
    ("auto", ScanShape(B=1, K=2, L=33, D=10, N=2, route_inputs=True, orders="per-sample")),
    ("auto", ScanShape(B=1, K=1, L=3, D=40, N=20, skip=False, bias=False)),
    # The blocks of 64 and 128 channels that wide layers run on, with and without padding.
    ("whole", ScanShape(B=1, K=2, L=5, D=127, N=1)),
    ("whole", ScanShape(B=1, K=2, L=3, D=128, N=8)),
    ("whole", ScanShape(B=1, K=1, L=3, D=60, N=9)),
    ("whole", ScanShape(B=2, K=3, L=9, D=10, N=1, merge="mean", steps=5)),
    ("whole", ScanShape(B=2, K=1, L=7, D=10, N=2, orders="per-sample", steps=4)),
    ("auto", ScanShape(B=1, K=2, L=9, D=10, N=2, merge="none", route_inputs=True, steps=6)),
    ("segments", ScanShape(B=1, K=2, L=34, D=10, N=1, steps=33)),
    ("whole", ScanShape(B=2, K=2, L=9, D=36, N=1)),
    ("whole", ScanShape(B=1, K=4, L=6, D=9, N=4, merge="mean", gated=False, bias=False)),
    ("segments", ScanShape(B=1, K=1, L=66, D=10, N=1, orders="raster")),
    ("segments", ScanShape(B=1, K=2, L=34, D=34, N=1, merge="none", orders="per-sample")),
    ("segments", ScanShape(B=1, K=2, L=35, D=8, N=3, merge="mean", gated=False, skip=False)),
]
ids = [f"{schedule}-{shape.label}" for schedule, shape in CASES]


@pytest.fixture(autouse=True)
def poisoned_memory_and_short_segments(monkeypatch):
    """Fill what is allocated with NaN, so that a number left out shows; cut short sequences."""
    empty, empty_like = torch.empty, torch.empty_like

    def poison(tensor):
        return tensor.fill_(float("nan")) if tensor.is_floating_point() else tensor

    monkeypatch.setattr(torch, "empty", lambda *a, **k: poison(empty(*a, **k)))
    monkeypatch.setattr(torch, "empty_like", lambda *a, **k: poison(empty_like(*a, **k)))
    monkeypatch.setattr(triton_plan, "SEGMENT_AT_LEAST", 32)


@pytest.mark.parametrize(("schedule", "shape"), CASES, ids=ids)
def test_results_and_gradients_match_the_reference(monkeypatch, schedule, shape):
    monkeypatch.setenv("SCANNAS_TRITON_SCHEDULE", schedule)
    assert failures(shape, "triton", DEVICE) == {}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_results_and_gradients_match_the_reference(dtype):
    assert failures(ScanShape(B=1, K=2, L=5, D=20, N=4), "triton", DEVICE, dtype) == {}


@pytest.fixture
def reversed_programs(monkeypatch):
    """Let the interpreter run the last program first."""
    builder = interpreter.interpreter_builder
    size, index, dim = [1], builder.set_grid_idx, builder.set_grid_dim

    def remember(x, y, z):
        assert y == z == 1
        size[0] = x
        dim(x, y, z)

    def turn():
        monkeypatch.setattr(builder, "set_grid_dim", remember)
        monkeypatch.setattr(builder, "set_grid_idx", lambda x, y, z: index(size[0] - 1 - x, y, z))

    return turn


@pytest.mark.skipif(DEVICE != "cpu", reason="a device orders its programs itself")
@pytest.mark.parametrize(("schedule", "K", "D", "L"), [("whole", 3, 34, 7), ("segments", 2, 8, 33)])
def test_bits_do_not_depend_on_the_order_of_programs(
    monkeypatch, reversed_programs, schedule, K, D, L
):
    """Routes of two blocks of channels, or of two segments of tokens."""
    monkeypatch.setenv("SCANNAS_TRITON_SCHEDULE", schedule)
    problem = make_problem(ScanShape(B=1, K=K, L=L, D=D, N=1)).to(DEVICE, torch.float32)
    first = run(problem, "triton")
    reversed_programs()
    second = run(problem, "triton")
    assert [name for name in first if not torch.equal(first[name], second[name])] == []


@pytest.mark.skipif(DEVICE == "cpu", reason="the interpreter runs one program at a time")
def test_repeated_runs_on_a_device_give_the_same_bits():
    problem = make_problem(ScanShape(B=8, K=4, L=196, D=96, N=4)).to(DEVICE, torch.float32)
    first = run(problem, "triton")
    for _ in range(5):
        again = run(problem, "triton")
        assert all(torch.equal(first[name], again[name]) for name in first)


def test_strided_inputs_and_wide_orders_are_read_right():
    problem = make_problem(ScanShape(B=1, K=2, L=5, D=20, N=4)).to(DEVICE, torch.float32)
    expected = run(problem, "triton", gradients=False)["y"]
    strided = {}
    for name, tensor in problem.tensors.items():
        wide = tensor.new_full((*tensor.shape, 2), float("nan"))
        wide[..., 1] = tensor
        strided[name] = wide[..., 1]
    orders = problem.call.orders.to(torch.int64)
    y = cross_scan(**strided, orders=orders, delta_softplus=True, backend="triton")
    assert torch.equal(y, expected)


@pytest.mark.parametrize("step", [1e-6, 100.0])
@pytest.mark.parametrize("decay", [-1e-3, -1e3])
def test_extreme_steps_and_decays_stay_finite(step, decay):
    shape = ScanShape(B=1, K=1, L=5, D=9, N=2, orders="raster", gated=False, bias=False)
    problem = make_problem(shape).to(DEVICE, torch.float32)
    problem.tensors["delta"].fill_(step)
    problem.tensors["A"].fill_(decay)
    assert all(result.isfinite().all() for result in run(problem, "triton").values())

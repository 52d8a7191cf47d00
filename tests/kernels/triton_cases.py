"""The Triton backend against float64: one suite for the interpreter and for a device.

Not collected by its name: `test_triton.py` runs it in a process with TRITON_INTERPRET=1 (which
must be set before Triton is imported), and on a device where there is one.
"""

from __future__ import annotations

import pytest
import torch

from kernels import cross_scan, triton_plan
from kernels.conformance import ScanShape, errors, failures, make_problem, run

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
CASES = [
    ("auto", ScanShape(B=1, K=1, L=1, D=9, N=1, orders="raster")),
    ("auto", ScanShape(B=2, K=2, L=3, D=20, N=4)),
    ("auto", ScanShape(B=1, K=4, L=4, D=40, N=1, merge="mean", orders="per-sample")),
    ("auto", ScanShape(B=1, K=1, L=5, D=33, N=16, gated=False, softplus=False)),
    ("auto", ScanShape(B=1, K=2, L=37, D=12, N=3, merge="none", route_inputs=True)),
    ("auto", ScanShape(B=1, K=2, L=33, D=10, N=2, route_inputs=True, orders="per-sample")),
    ("auto", ScanShape(B=1, K=1, L=7, D=40, N=20, skip=False, bias=False)),
    ("loop", ScanShape(B=2, K=2, L=9, D=36, N=1)),
    ("loop", ScanShape(B=1, K=4, L=6, D=9, N=4, merge="mean", gated=False, bias=False)),
    ("segments", ScanShape(B=1, K=1, L=70, D=10, N=1, orders="raster")),
    ("segments", ScanShape(B=1, K=2, L=49, D=34, N=2, merge="none", orders="per-sample")),
    ("segments", ScanShape(B=1, K=2, L=66, D=8, N=3, merge="mean", gated=False, skip=False)),
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


def test_repeated_backward_gives_the_same_bits_and_atomics_the_same_sums(monkeypatch):
    problem = make_problem(ScanShape(B=1, K=2, L=6, D=34, N=2)).to(DEVICE, torch.float32)
    first, second = run(problem, "triton"), run(problem, "triton")
    assert all(torch.equal(first[name], second[name]) for name in first)
    monkeypatch.setenv("SCANNAS_TRITON_ATOMIC", "1")
    atomic = run(problem, "triton", gradients=False)["y"]
    assert errors({"y": atomic}, {"y": first["y"].double()})["y"] < 1e-6


def test_strided_inputs_and_wide_orders_are_read_right():
    problem = make_problem(ScanShape(B=1, K=2, L=5, D=20, N=4)).to(DEVICE, torch.float32)
    expected = run(problem, "triton", gradients=False)["y"]
    strided = {}
    for name, tensor in problem.tensors.items():
        wide = tensor.new_full((*tensor.shape, 2), float("nan"))
        wide[..., 1] = tensor
        strided[name] = wide[..., 1]
    orders = problem.orders.to(torch.int64)
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

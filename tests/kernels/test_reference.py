"""The specification itself: its hand-written gradient against autograd, and its algebra."""

import torch

from kernels import selective_scan
from kernels.common.conformance import run
from kernels.s6.cases import ScanShape, make_problem
from kernels.s6.reference import scan

EXACT = 1e-12
"""Two float64 computations of the same sums."""


def float64_tensors(shape):
    problem = make_problem(shape)
    return problem, {name: t.requires_grad_() for name, t in problem.tensors.items()}


def test_written_gradient_equals_autograd_through_the_loop():
    problem, tensors = float64_tensors(ScanShape(K=3, L=11, D=6, N=3, merge="mean"))
    y = scan(problem.call._replace(**tensors))
    through_loop = torch.autograd.grad(y, list(tensors.values()), problem.grad_y)
    written = run(problem, "reference")
    for name, gradient in zip(tensors, through_loop):
        assert (written[f"grad_{name}"] - gradient).abs().max() < EXACT, name


def test_recurrence_written_for_one_channel_by_hand():
    u, delta = torch.tensor([2.0, -1.0, 3.0]), torch.tensor([0.5, 1.0, 0.25])
    a, b, c = -0.7, torch.tensor([1.0, 2.0, -1.0]), torch.tensor([3.0, 0.5, 1.0])
    h, expected = 0.0, []
    for t in range(3):
        h = float(torch.exp(delta[t] * a)) * h + float(delta[t] * u[t] * b[t])
        expected.append(h * float(c[t]) + 4.0 * float(u[t]))
    y = selective_scan(
        u.view(1, 3, 1),
        delta.view(1, 3, 1),
        torch.tensor([[a]]),
        b.view(1, 3, 1),
        c.view(1, 3, 1),
        torch.tensor([4.0]),
        backend="reference",
    )
    assert torch.allclose(y.view(-1), torch.tensor(expected), rtol=1e-6)


def test_result_has_the_dtype_of_x_and_computes_in_float32():
    problem = make_problem(ScanShape())
    half = run(problem.to("cpu", torch.bfloat16), "reference", gradients=False)["y"]
    full = run(problem.to("cpu", torch.float32), "reference", gradients=False)["y"]
    assert half.dtype == torch.bfloat16 and full.dtype == torch.float32
    assert (half.float() - full).abs().max() < 0.1 * full.abs().max()

"""Random scans, and how far a backend is from the reference in float64 on them.

Used by the tests of every backend, on whatever device, and by the benchmarks, which check
before they time.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from kernels.dispatch import cross_scan

FLOAT32_Y = 1e-5
FLOAT32_GRADIENT = 2e-5
HALF = 2e-2
"""Largest error relative to the largest element; half precision is dominated by its inputs."""


@dataclass(frozen=True, kw_only=True)
class ScanShape:
    """One scan to test, by its sizes and options; its numbers follow from the seed."""

    B: int = 2
    K: int = 2
    L: int = 9
    D: int = 20
    N: int = 4
    merge: str = "sum"
    route_inputs: bool = False
    orders: str = "shared"
    gated: bool = True
    softplus: bool = True
    skip: bool = True
    bias: bool = True
    seed: int = 0

    @property
    def label(self) -> str:
        """Name the case in a test report."""
        sizes = f"B{self.B}K{self.K}L{self.L}D{self.D}N{self.N}-{self.merge}-{self.orders}"
        flags = [
            ("routeinputs", self.route_inputs),
            ("ungated", not self.gated),
            ("nosoftplus", not self.softplus),
            ("noskip", not self.skip),
            ("nobias", not self.bias),
        ]
        return "-".join([sizes, *(name for name, on in flags if on)])


@dataclass(frozen=True, kw_only=True)
class ScanProblem:
    """The tensors of a scan in float64, and a gradient for its result."""

    tensors: dict[str, Tensor]
    orders: Tensor | None
    softplus: bool
    merge: str
    grad_y: Tensor

    def to(self, device: torch.device | str, dtype: torch.dtype) -> ScanProblem:
        """Round what a network computes to dtype, and its weights to float32 if that is wider."""
        weights = {"A", "D", "delta_bias"}
        weight_dtype = dtype if dtype == torch.float64 else torch.float32
        tensors = {
            name: tensor.to(device, weight_dtype if name in weights else dtype)
            for name, tensor in self.tensors.items()
        }
        orders = None if self.orders is None else self.orders.to(device)
        grad_y = self.grad_y.to(device, dtype)
        return replace(self, tensors=tensors, orders=orders, grad_y=grad_y)


def make_problem(shape: ScanShape) -> ScanProblem:
    """Draw the tensors of a scan; steps are positive and decays span 0.05 to 4 per unit step."""
    generator = torch.Generator().manual_seed(shape.seed)

    def draw(*size: int) -> Tensor:
        return torch.randn(*size, generator=generator, dtype=torch.float64)

    B, K, L, D, N = shape.B, shape.K, shape.L, shape.D, shape.N
    tensors = {
        "x": draw(B, K, L, D) if shape.route_inputs else draw(B, L, D),
        "delta": draw(B, K, L, D) if shape.softplus else 0.3 * draw(B, K, L, D).abs() + 0.01,
        "A": -(0.05 + 3.95 * torch.rand(K, D, N, generator=generator, dtype=torch.float64)),
        "B": draw(B, K, L, N),
        "C": draw(B, K, L, N),
    }
    if shape.skip:
        tensors["D"] = draw(K, D)
    if shape.gated:
        tensors["z"] = draw(B, L, D)
    if shape.bias:
        bias = draw(K, D)
        tensors["delta_bias"] = bias if shape.softplus else 0.1 * bias.abs()
    orders = None
    if shape.orders != "raster":
        rows = B * K if shape.orders == "per-sample" else K
        table = torch.stack([torch.randperm(L, generator=generator) for _ in range(rows)])
        orders = table.view(B, K, L) if shape.orders == "per-sample" else table
        orders = orders.to(torch.int32)
    grad_y = draw(B, K, L, D) if shape.merge == "none" else draw(B, L, D)
    return ScanProblem(
        tensors=tensors, orders=orders, softplus=shape.softplus, merge=shape.merge, grad_y=grad_y
    )


def run(problem: ScanProblem, backend: str, gradients: bool = True) -> dict[str, Tensor]:
    """Run a problem forward and backward; return y and 'grad_' + the name of each tensor."""
    tensors = {
        name: tensor.detach().clone().requires_grad_(gradients)
        for name, tensor in problem.tensors.items()
    }
    y = cross_scan(
        **tensors,
        orders=problem.orders,
        delta_softplus=problem.softplus,
        merge=problem.merge,
        backend=backend,
    )
    results = {"y": y.detach()}
    if gradients:
        grads = torch.autograd.grad(y, list(tensors.values()), problem.grad_y)
        results |= {f"grad_{name}": grad for name, grad in zip(tensors, grads)}
    return results


def errors(found: dict[str, Tensor], expected: dict[str, Tensor]) -> dict[str, float]:
    """Return of each result the largest error relative to its largest element; NaN is infinite."""
    relative = {}
    for name, target in expected.items():
        difference = (found[name].double().cpu() - target.cpu()).abs().max()
        scale = target.abs().max().clamp_min(1e-30).cpu()
        value = float(difference / scale)
        relative[name] = value if value == value else float("inf")
    return relative


def failures(
    shape: ScanShape, backend: str, device: str = "cpu", dtype: torch.dtype = torch.float32
) -> dict[str, float]:
    """Return the results of a backend that are farther from float64 than they may be.

    The reference gets the inputs as rounded to dtype, so that only the backend's error counts.
    """
    rounded = make_problem(shape).to("cpu", dtype)
    expected = run(rounded.to("cpu", torch.float64), "reference")
    found = run(rounded.to(device, dtype), backend)
    half = dtype in (torch.float16, torch.bfloat16)
    bars = {
        name: HALF if half else FLOAT32_Y if name == "y" else FLOAT32_GRADIENT for name in expected
    }
    found_errors = errors(found, expected)
    wrong_dtype = {
        name: float("inf")
        for name, tensor in found.items()
        if name in ("y", "grad_x", "grad_delta") and tensor.dtype != dtype
    }
    return {name: e for name, e in found_errors.items() if not e <= bars[name]} | wrong_dtype

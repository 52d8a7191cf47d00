"""Scans to test a backend on: sizes around the edges of blocks and chunks, every option."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.common.conformance import Problem
from kernels.s6.call import ScanCall
from kernels.s6.op import OPERATOR


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
    steps: int | None = None
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
            (f"M{self.steps}", self.steps is not None),
        ]
        return "-".join([sizes, *(name for name, on in flags if on)])

    def problem(self) -> Problem:
        """Draw the tensors of the case."""
        return make_problem(self)


def make_problem(shape: ScanShape) -> Problem:
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
        table = table[:, : shape.steps]
        orders = table.unflatten(0, (B, K)) if shape.orders == "per-sample" else table
        orders = orders.to(torch.int32)
    grad_y = draw(B, K, L, D) if shape.merge == "none" else draw(B, L, D)
    call = ScanCall(**tensors, orders=orders, delta_softplus=shape.softplus, merge=shape.merge)
    return Problem(operator=OPERATOR, call=call, grad_y=grad_y)


CASES = (
    ScanShape(B=2, K=2, L=49, D=70, N=1),
    ScanShape(B=2, K=2, L=17, D=64, N=2, merge="mean", orders="per-sample"),
    ScanShape(B=1, K=3, L=33, D=24, N=4, merge="none", route_inputs=True),
    ScanShape(B=2, K=3, L=37, D=33, N=3, merge="mean", steps=18),
    ScanShape(B=2, K=1, L=31, D=129, N=8, orders="raster", gated=False),
    ScanShape(B=2, K=4, L=16, D=48, N=16, orders="per-sample", route_inputs=True),
    ScanShape(B=3, K=2, L=15, D=7, N=16, skip=False, bias=False, softplus=False),
    ScanShape(B=1, K=1, L=1, D=1, N=1, orders="raster"),
    ScanShape(B=2, K=2, L=65, D=33, N=5, merge="none", softplus=False),
    ScanShape(B=2, K=1, L=20, D=9, N=1, orders="per-sample", steps=17),
    ScanShape(B=1, K=2, L=9, D=65, N=2, merge="none", route_inputs=True, steps=4),
    ScanShape(B=1, K=2, L=100, D=96, N=64, merge="mean", gated=False, skip=False),
)
TINY = (
    *(ScanShape(B=2, K=2, L=3, D=2, N=2, merge=merge) for merge in ("sum", "mean")),
    ScanShape(B=2, K=2, L=3, D=2, N=2, merge="none", route_inputs=True, orders="per-sample"),
    ScanShape(B=1, K=2, L=4, D=2, N=2, steps=3),
    ScanShape(B=1, K=1, L=4, D=3, N=2, gated=False, softplus=False, skip=False, bias=False),
)
COUNTED = ScanShape(gated=False)

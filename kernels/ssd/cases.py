"""SSD scans to test a backend on: sizes around the edges of chunks, every option."""

from __future__ import annotations

from dataclasses import dataclass

from kernels.common.conformance import Problem
from kernels.s6 import cases as s6
from kernels.ssd.call import SsdCall
from kernels.ssd.op import OPERATOR


@dataclass(frozen=True, kw_only=True)
class SsdShape(s6.ScanShape):
    """One scan to test: a scan of S6, its D channels in H heads."""

    H: int = 2

    @property
    def label(self) -> str:
        """Name the case in a test report."""
        return f"H{self.H}{super().label}"

    def problem(self) -> Problem:
        """Draw the tensors of the case: those of S6, the first channel of each head's."""
        drawn = s6.make_problem(self)
        head = self.D // self.H
        call = drawn.call._asdict()
        for name in ("delta", "D", "delta_bias"):
            call[name] = None if call[name] is None else call[name][..., ::head].clone()
        call["A"] = call["A"][:, ::head, 0].clone()
        return Problem(operator=OPERATOR, call=SsdCall(**call), grad_y=drawn.grad_y)


CASES = (
    SsdShape(B=2, K=2, L=49, D=70, N=1),
    SsdShape(B=2, K=2, L=64, D=64, N=16, H=4, merge="mean", orders="per-sample"),
    SsdShape(B=1, K=3, L=130, D=24, N=4, merge="none", route_inputs=True),
    SsdShape(B=2, K=3, L=150, D=33, N=3, H=3, merge="mean", steps=100),
    SsdShape(B=2, K=1, L=65, D=12, N=8, H=1, orders="raster", gated=False),
    SsdShape(B=3, K=2, L=15, D=6, N=16, H=6, skip=False, bias=False, softplus=False),
    SsdShape(B=1, K=1, L=1, D=1, N=1, H=1, orders="raster"),
    SsdShape(B=2, K=1, L=90, D=8, N=2, orders="per-sample", steps=65, gated=False, merge="none"),
)
TINY = (
    SsdShape(B=2, K=2, L=3, D=4, N=2),
    SsdShape(B=1, K=2, L=4, D=2, N=2, merge="mean", steps=3),
    SsdShape(B=1, K=2, L=3, D=4, N=2, merge="none", route_inputs=True, orders="per-sample"),
    SsdShape(B=1, K=1, L=4, D=3, N=2, H=1, gated=False, softplus=False, skip=False, bias=False),
)
COUNTED = SsdShape(gated=False)

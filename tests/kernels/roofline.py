"""The layers whose traffic is held against what a fused scan must move, as meta tensors."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from recorder import Recording, recorded

from kernels.s6 import triton as backend
from kernels.s6.call import ScanCall


@dataclass(frozen=True)
class Row:
    """One layer, at batch 128 in bfloat16 where not told otherwise.

    per_route: x differs by route, and there is a gate.
    """

    name: str
    D: int
    L: int
    N: int
    K: int = 4
    per_route: bool = False
    B: int = 128
    dtype: torch.dtype = torch.bfloat16

    def call(self) -> tuple[ScanCall, torch.Tensor]:
        """Return the call of the layer without its memory, and a gradient."""

        def empty(*shape: int, dtype: torch.dtype = self.dtype) -> torch.Tensor:
            return torch.empty(*shape, dtype=dtype, device="meta")

        B, K, L, D, N = self.B, self.K, self.L, self.D, self.N
        weight = torch.float32
        call = ScanCall(
            empty(B, K, L, D) if self.per_route else empty(B, L, D),
            empty(B, K, L, D), empty(K, D, N, dtype=weight), empty(B, K, L, N),
            empty(B, K, L, N), empty(K, D, dtype=weight),
            empty(B, L, D) if self.per_route else None, empty(K, D, dtype=weight),
            empty(K, L, dtype=torch.int32), True,
        )  # fmt: skip
        return call, empty(B, L, D)

    @cached_property
    def runs(self) -> tuple[Recording, Recording]:
        """Return what forward and backward do."""
        call, grad_y = self.call()
        with recorded() as forward:
            _, *kept = backend.forward(call, True)
        with recorded() as backward:
            backend.backward(call, grad_y, *kept)
        return forward, backward

    @property
    def least(self) -> tuple[int, int]:
        """Return the bytes that forward and backward must read and write, each tensor once.

        Merged results and their gradients are float32 here, as in pipelines that merge outside.
        """
        image = self.B * self.L * self.D
        x = image * (self.K if self.per_route else 1) * 2
        z = image * 2 if self.per_route else 0
        delta = self.B * self.K * self.L * self.D * 2
        states = 2 * self.B * self.K * self.L * self.N * 2
        kept = self.B * self.K * -(-self.L // 32) * self.N * self.D * 4
        ungated = z
        forward = x + z + delta + states + 4 * image + kept + ungated
        backward = 2 * (x + z + delta) + states + 4 * image + kept + ungated + 2 * states
        return forward, backward


ROWS = [
    *(Row(f"vmamba s{s} r{r}", D * r, L, N)
      for N in (1, 16) for r in (1, 2)
      for s, D, L in ((1, 96, 3136), (2, 192, 784), (3, 384, 196), (4, 768, 49))),
    Row("vim tiny", 384, 197, 16, K=2, per_route=True),
    Row("vim small", 768, 197, 16, K=2, per_route=True),
]  # fmt: skip

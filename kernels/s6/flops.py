"""What a selective scan costs in floating point operations, without torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kernels.errors import KernelError


def scan_flops(L: int, D: int, N: int, K: int, convention: str, gated: bool = False) -> int:
    """Count the operations of K selective scans over L tokens of one image.

    Shapes: the scan runs over L tokens of D channels with N states per channel, K routes.
    Units: `fvcore`, the count that the papers of VMamba, QuadMamba, PlainMamba,
        EfficientVMamba and LocalVMamba report: 9 L D N + L D a route, gate not counted;
        `macs`, multiply-adds: 4 L D N + 2 L D a route, and L D more where the gate is fused.
    Raises: KernelError for an unknown convention.
    Source: `fvcore`: state-spaces/mamba issue 110 with the skip D * u;
        `macs`: the products delta*A, delta*u*B, a*h + b and C*h, then delta*u and D*u.
    """
    if convention == "fvcore":
        return K * (9 * L * D * N + L * D)
    if convention == "macs":
        return K * (4 * L * D * N + (3 if gated else 2) * L * D)
    raise KernelError(f"FLOP convention {convention!r} is unknown; use 'fvcore' or 'macs'")


def count(shapes: Mapping[str, Any], convention: str) -> int:
    """Count the operations of a call from the shapes of its arguments, None where absent."""
    batch, routes, tokens, inner = shapes["delta"]
    state, gated = shapes["A"][2], shapes["z"] is not None
    if shapes["orders"] is not None:
        tokens = shapes["orders"][-1]
    return batch * scan_flops(tokens, inner, state, routes, convention, gated)

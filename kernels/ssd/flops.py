"""What an SSD scan costs in floating point operations, without torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kernels.errors import KernelError


def ssd_flops(L: int, D: int, N: int, H: int, K: int, convention: str, gated: bool = False) -> int:
    """Count the operations of K scans over L tokens of one image, in their recurrent form.

    Shapes: D channels in H heads, N states a channel, K routes.
    Units: multiply-adds in both. `fvcore` as it counts matrix products: 3 L D N + L D a route,
        gate not counted; `macs` 3 L D N + 2 L D + L H, and L D more where the gate is fused.
        How a backend cuts tokens into chunks changes neither.
    Raises: KernelError for an unknown convention.
    Source: the products a*h, delta*u*B and C*h, then delta*u, D*u and delta*A of Dao and Gu,
        Mamba-2, arXiv 2405.21060, equation 2.
    """
    if convention == "fvcore":
        return K * (3 * L * D * N + L * D)
    if convention == "macs":
        return K * (3 * L * D * N + (3 if gated else 2) * L * D + L * H)
    raise KernelError(f"FLOP convention {convention!r} is unknown; use 'fvcore' or 'macs'")


def count(shapes: Mapping[str, Any], convention: str) -> int:
    """Count the operations of a call from the shapes of its arguments, None where absent."""
    batch, routes, tokens, heads = shapes["delta"]
    inner, state = shapes["x"][-1], shapes["B"][-1]
    if shapes["orders"] is not None:
        tokens = shapes["orders"][-1]
    gated = shapes["z"] is not None
    return batch * ssd_flops(tokens, inner, state, heads, routes, convention, gated)

"""What a scan costs in floating point operations, without torch."""

from __future__ import annotations

from kernels.errors import KernelError

OPERATOR = "scannas::cross_scan"
"""Name of the one operator that every scan becomes in a traced graph."""

INPUT_DELTA, INPUT_A, INPUT_Z = 1, 2, 6
"""Positions of delta (B, K, L, D), A (K, D, N) and z (B, L, D) or None among its inputs."""


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

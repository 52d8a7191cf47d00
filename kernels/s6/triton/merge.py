"""What happens to tokens after the routes: the gate, and rounding. Elementwise kernels."""

from __future__ import annotations

import triton
import triton.language as tl

from kernels.common.triton_math import sigmoid


@triton.jit
def finish_kernel(  # type: ignore[no-untyped-def]
    sums, z, y, ungated, z_b, z_step, plane, inner, pieces, scale,
    BLOCK: tl.constexpr, GATED: tl.constexpr, SAVE: tl.constexpr, FAST: tl.constexpr,
):  # fmt: skip
    """Scale, gate and round the sums of routes of which none knows which is a token's last.

    Shapes: sums (B, L D) float32; y, ungated (B, L D); plane is L D; z rows by strides.
    Grid: pieces * B, pieces being plane / BLOCK.
    """
    b = (tl.program_id(0) // pieces).to(tl.int64)
    at = (tl.program_id(0) % pieces).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < plane
    total = tl.load(sums + b * plane + at, mask=inside, other=0.0) * scale
    if GATED:
        if SAVE:
            tl.store(ungated + b * plane + at, total, mask=inside)
        z_at = at // inner * z_step + at % inner
        gate = tl.load(z + b * z_b + z_at, mask=inside, other=0.0).to(tl.float32)
        total = total * gate * sigmoid(gate, FAST)
    tl.store(y + b * plane + at, total, mask=inside)


@triton.jit
def ungate_kernel(  # type: ignore[no-untyped-def]
    grad_y, ungated, z, grad, grad_z, z_b, z_step, rows, plane, inner, pieces,
    BLOCK: tl.constexpr, FAST: tl.constexpr,
):  # fmt: skip
    """Take the gate out of the gradient: y = ungated * silu(z).

    Shapes: grad_z (B, L D); z rows by strides; the others (B, rows, L D), rows being 1, or K
    unmerged.
    Grid: pieces * B, pieces being plane / BLOCK.
    """
    b = (tl.program_id(0) // pieces).to(tl.int64)
    at = (tl.program_id(0) % pieces).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < plane
    z_at = at // inner * z_step + at % inner
    gate = tl.load(z + b * z_b + z_at, mask=inside, other=0.0).to(tl.float32)
    s = sigmoid(gate, FAST)
    total = tl.zeros([BLOCK], tl.float32)
    for row in range(rows):
        here = (b * rows + row) * plane + at
        g = tl.load(grad_y + here, mask=inside, other=0.0).to(tl.float32)
        total += g * tl.load(ungated + here, mask=inside, other=0.0).to(tl.float32)
        tl.store(grad + here, g * gate * s, mask=inside)
    tl.store(grad_z + b * plane + at, total * s * (1.0 + gate * (1.0 - s)), mask=inside)

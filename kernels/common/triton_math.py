"""Exponentials of the Triton kernels: one instruction each on the device.

FAST emits the hardware's approximations (`ex2.approx`, 2 ulp; `rcp.approx`, 1 ulp) as inline
PTX: the stock functions add code for denormals that a decay never is. The interpreter cannot
run PTX, so there FAST is off.
"""

from __future__ import annotations

import triton
import triton.language as tl

LOG2_E = tl.constexpr(1.4426950408889634)
LN_2 = tl.constexpr(0.6931471805599453)
# Minimax for log2(1 + e) / e on 0 <= e <= 1, relative error 3e-7 in float32. Fitted for this file.
P0, P1 = tl.constexpr(1.44269478), tl.constexpr(-0.721310079)
P2, P3 = tl.constexpr(0.480063707), tl.constexpr(-0.353394836)
P4, P5 = tl.constexpr(0.256009758), tl.constexpr(-0.155351907)
P6, P7 = tl.constexpr(0.0636079013), tl.constexpr(-0.0123194745)


@triton.jit
def exp2(x, FAST: tl.constexpr):  # type: ignore[no-untyped-def]
    """Return 2^x."""
    if FAST:
        result = tl.inline_asm_elementwise(
            "ex2.approx.ftz.f32 $0, $1;", "=f,f", [x], dtype=tl.float32, is_pure=True, pack=1
        )
    else:
        result = tl.exp2(x)
    return result


@triton.jit
def reciprocal(x, FAST: tl.constexpr):  # type: ignore[no-untyped-def]
    """Return 1 / x."""
    if FAST:
        result = tl.inline_asm_elementwise(
            "rcp.approx.ftz.f32 $0, $1;", "=f,f", [x], dtype=tl.float32, is_pure=True, pack=1
        )
    else:
        result = 1.0 / x
    return result


@triton.jit
def softplus2(x, FAST: tl.constexpr):  # type: ignore[no-untyped-def]
    """Return log2(1 + 2^x), to float32 at any x: lg2.approx would lose small steps."""
    e = exp2(-tl.abs(x), FAST)
    p = P0 + e * (P1 + e * (P2 + e * (P3 + e * (P4 + e * (P5 + e * (P6 + e * P7))))))
    return tl.maximum(x, 0.0) + e * p


@triton.jit
def softplus(x, FAST: tl.constexpr):  # type: ignore[no-untyped-def]
    """Return log(1 + e^x)."""
    return softplus2(x * LOG2_E, FAST) * LN_2


@triton.jit
def sigmoid(x, FAST: tl.constexpr):  # type: ignore[no-untyped-def]
    """Return 1 / (1 + e^-x)."""
    e = exp2(-tl.abs(x) * LOG2_E, FAST)
    return tl.where(x < 0.0, e, 1.0) * reciprocal(1.0 + e, FAST)


@triton.jit
def step_size(raw, valid, SOFTPLUS: tl.constexpr, FAST: tl.constexpr):  # type: ignore[no-untyped-def]
    """Return the step of a token; zero, which leaves the state alone, past a sequence's end."""
    d = raw
    if SOFTPLUS:
        d = softplus(raw, FAST)
    return tl.where(valid, d, 0.0)


@triton.jit
def fetch_rows(rows, WIDTH: tl.constexpr):  # type: ignore[no-untyped-def]
    """Fetch rows of so many numbers, by a vector of pointers, into the L2 cache; wait for none."""
    LINE: tl.constexpr = 1024 // rows.dtype.element_ty.primitive_bitwidth
    for line in tl.static_range((WIDTH + LINE - 1) // LINE):
        tl.inline_asm_elementwise(
            "prefetch.global.L2 [$1]; mov.u32 $0, 0;", "=r,l",
            [(rows + line * LINE).to(tl.int64)], dtype=tl.int32, is_pure=False, pack=1,
        )  # fmt: skip

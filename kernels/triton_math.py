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
LINEAR_ABOVE = tl.constexpr(20.0)
# atanh(s) / s in s^2 <= 1/9, as in kernels/lanes.py.
T1, T2 = tl.constexpr(0.33333158), tl.constexpr(0.20012455)
T3, T4 = tl.constexpr(0.13980301), tl.constexpr(0.14089167)


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
def softplus(x, FAST: tl.constexpr):  # type: ignore[no-untyped-def]
    """Return log(1 + e^x), to float32 at any x: lg2.approx would lose small steps."""
    e = exp2(-tl.abs(x) * LOG2_E, FAST)
    s = e * reciprocal(2.0 + e, FAST)
    q = s * s
    series = 1.0 + q * (T1 + q * (T2 + q * (T3 + q * T4)))
    return tl.where(x > LINEAR_ABOVE, x, tl.maximum(x, 0.0) + 2.0 * s * series)


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

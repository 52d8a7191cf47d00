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
# Minimax for 2 atanh(s) / s in s^2 <= 1/9, relative error 1.6e-7. Fitted for this file.
T0, T1 = tl.constexpr(1.99999964), tl.constexpr(0.66676003)
T2, T3 = tl.constexpr(0.39589462), tl.constexpr(0.34226051)


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
    return tl.maximum(x, 0.0) + s * (T0 + q * (T1 + q * (T2 + q * T3)))


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

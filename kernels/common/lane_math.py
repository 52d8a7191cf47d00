"""Exponentials and what follows from them, on sixteen float32 lanes at once, for numba.

The polynomials are minimax fits: there is no vector library that pip installs everywhere.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import binding, ir
from numba import config
from numba.extending import intrinsic

from kernels.common.compiled import inlined
from kernels.common.lanes import INTEGERS, LANES, VECTOR, lanes, splat


@intrinsic
def _below(typingctx: Any, value: Any, bound: Any, then: Any, other: Any) -> Any:
    """Choose per lane: `then` where value < bound, else `other`; NaN is not below anything."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.select(builder.fcmp_ordered("<", args[0], args[1]), args[2], args[3])

    return lanes(lanes, lanes, lanes, lanes), codegen


@intrinsic
def _scale_by_exponent(typingctx: Any, value: Any, rounded: Any) -> Any:
    """Multiply by 2^i, where i stands in the low bits of i + 1.5 * 2^23."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        bits = builder.bitcast(args[1], INTEGERS)
        shift = builder.shl(bits, ir.Constant(INTEGERS, [23] * LANES))
        scaled = builder.add(builder.bitcast(args[0], INTEGERS), shift)
        return builder.bitcast(scaled, VECTOR)

    return lanes(lanes, lanes), codegen


@intrinsic
def _nearest(typingctx: Any, value: Any) -> Any:
    """Round to the nearest integer."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = ir.FunctionType(VECTOR, [VECTOR])
        rint = builder.module.declare_intrinsic("llvm.rint.v16f32", fnty=kind)
        return builder.call(rint, args)

    return lanes(lanes), codegen


@intrinsic
def _scale(typingctx: Any, value: Any, exponent: Any) -> Any:
    """Multiply by 2^exponent, an integer of any size, in one instruction of AVX-512."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        mask, rounding = ir.IntType(16), ir.IntType(32)
        kind = ir.FunctionType(VECTOR, [VECTOR, VECTOR, VECTOR, mask, rounding])
        scale = builder.module.declare_intrinsic("llvm.x86.avx512.mask.scalef.ps.512", fnty=kind)
        zero = ir.Constant(VECTOR, [0.0] * LANES)
        return builder.call(scale, [args[0], args[1], zero, mask(-1), rounding(4)])

    return lanes(lanes, lanes), codegen


def _has_avx512() -> bool:
    """Say whether numba compiles for a processor with AVX-512: the host's, unless told other."""
    if config.CPU_NAME or config.CPU_FEATURES:
        return False
    return bool(binding.get_host_cpu_features().get("avx512f", False))


_AVX512 = _has_avx512()

_LOWEST, _HIGHEST = np.float32(-126.0), np.float32(128.0)
_ROUNDER = np.float32(12582912.0)
_ZERO, _ONE, _TWO = np.float32(0.0), np.float32(1.0), np.float32(2.0)
_LOG2_E = np.float32(1.4426950408889634)

# Minimax for 2^f, |f| <= 1/2, relative error 9.1e-8, exact at 0 so that a zero step keeps the
# state; and for atanh(s)/s in s^2 <= 1/9, relative error 4.0e-9. Both fitted for this file.
_E1, _E2, _E3 = np.float32(0.69314700), np.float32(0.24022242), np.float32(0.05550734)
_E4, _E5 = np.float32(0.00967151), np.float32(0.00132647)
_T1, _T2 = np.float32(0.33333158), np.float32(0.20012455)
_T3, _T4 = np.float32(0.13980301), np.float32(0.14089167)


@inlined
def exp2_lanes(x):  # type: ignore[no-untyped-def]
    """Return 2^x: zero or at most 2^-126 below -126, infinity from 2^128 on, NaN for NaN."""
    if _AVX512:
        rounded = _nearest(x)
        whole = rounded
    else:
        x = _below(x, splat(_LOWEST), splat(_LOWEST), x)
        x = _below(splat(_HIGHEST), x, splat(_HIGHEST), x)
        rounded = x + splat(_ROUNDER)
        whole = rounded - splat(_ROUNDER)
    f = x - whole
    p = splat(_E4) + f * splat(_E5)
    p = splat(_E3) + f * p
    p = splat(_E2) + f * p
    p = splat(_E1) + f * p
    p = splat(_ONE) + f * p
    if _AVX512:
        power = _scale(p, rounded)
    else:
        power = _scale_by_exponent(p, rounded)
    return power


@inlined
def _exp_of_minus_magnitude(x):  # type: ignore[no-untyped-def]
    """Return e^-|x|."""
    magnitude = _below(x, splat(_ZERO), x, splat(_ZERO) - x)
    return exp2_lanes(magnitude * splat(_LOG2_E))


@inlined
def _softplus_from(x, e):  # type: ignore[no-untyped-def]
    """Return max(x, 0) + log(1 + e): the logarithm as twice an inverse hyperbolic tangent."""
    s = e / (splat(_TWO) + e)
    q = s * s
    series = splat(_T3) + q * splat(_T4)
    series = splat(_T2) + q * series
    series = splat(_T1) + q * series
    series = splat(_ONE) + q * series
    return _below(x, splat(_ZERO), splat(_ZERO), x) + (s + s) * series


@inlined
def _sigmoid_from(x, e):  # type: ignore[no-untyped-def]
    return _below(x, splat(_ZERO), e, splat(_ONE)) / (splat(_ONE) + e)


@inlined
def softplus_lanes(x):  # type: ignore[no-untyped-def]
    """Return log(1 + e^x), relative error below 5e-7 for |x| < 10."""
    return _softplus_from(x, _exp_of_minus_magnitude(x))


@inlined
def softplus_and_slope_lanes(x):  # type: ignore[no-untyped-def]
    """Return log(1 + e^x) and its derivative, with one exponential for both."""
    e = _exp_of_minus_magnitude(x)
    return _softplus_from(x, e), _sigmoid_from(x, e)


@inlined
def sigmoid_lanes(x):  # type: ignore[no-untyped-def]
    """Return 1 / (1 + e^-x)."""
    return _sigmoid_from(x, _exp_of_minus_magnitude(x))

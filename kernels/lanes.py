"""Sixteen float32 lanes for numba: the vector type that the CPU kernels are written in.

Why not plain loops: LLVM gives up vectorizing a loop that touches more than about six arrays,
because it cannot prove that they do not overlap, and the scan's backward touches a dozen. With
an explicit vector every kernel is vector code on every machine: one register with AVX-512, two
with AVX2, four with NEON.

Arithmetic may be fused into multiply-adds (`contract`) and is otherwise IEEE: NaN and infinity
pass through, nothing is reassociated, so a result depends on the inputs alone.

numba keeps compiled kernels on disk by the time stamp of the file of the kernel, not of this
one: after a change here, touch cpu_forward.py and cpu_backward.py.
"""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
from llvmlite import binding, ir
from numba import config, njit, types
from numba.extending import intrinsic, models, overload, register_model

LANES = 16
_FLAGS = ("contract",)
_VECTOR = ir.VectorType(ir.FloatType(), LANES)
_INTEGERS = ir.VectorType(ir.IntType(32), LANES)
_MASK = ir.VectorType(ir.IntType(1), LANES)


class LanesType(types.Type):
    """The numba type of sixteen float32 numbers."""

    def __init__(self) -> None:
        super().__init__(name="float32x16")


lanes = LanesType()


@register_model(LanesType)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: LanesType) -> None:
        super().__init__(manager, kind, _VECTOR)


def _pointer(context: Any, builder: Any, array_type: Any, array: Any, index: Any) -> Any:
    """Return a pointer to sixteen numbers of a flat array, from an index that is not checked."""
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), _VECTOR.as_pointer())


def _tail_mask(builder: Any, count: Any) -> Any:
    """Return the mask of the first `count` lanes."""
    narrow = builder.trunc(count, ir.IntType(32))
    first = builder.insert_element(ir.Constant(_INTEGERS, ir.Undefined), narrow, ir.IntType(32)(0))
    counts = builder.shuffle_vector(
        first, ir.Constant(_INTEGERS, ir.Undefined), ir.Constant(_INTEGERS, [0] * LANES)
    )
    return builder.icmp_signed("<", ir.Constant(_INTEGERS, list(range(LANES))), counts)


def _is_flat(array: Any) -> bool:
    return isinstance(array, types.Array) and array.ndim == 1 and array.dtype == types.float32


@intrinsic
def _load(typingctx: Any, array: Any, index: Any) -> Any:
    if not _is_flat(array):
        return None

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load(_pointer(context, builder, signature.args[0], *args), align=4)

    return lanes(array, types.intp), codegen


@intrinsic
def _store(typingctx: Any, array: Any, index: Any, value: Any) -> Any:
    if not _is_flat(array):
        return None

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = _pointer(context, builder, signature.args[0], args[0], args[1])
        builder.store(args[2], pointer, align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, lanes), codegen


@intrinsic
def _load_tail(typingctx: Any, array: Any, index: Any, count: Any) -> Any:
    if not _is_flat(array):
        return None

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = _pointer(context, builder, signature.args[0], args[0], args[1])
        kind = ir.FunctionType(_VECTOR, [pointer.type, ir.IntType(32), _MASK, _VECTOR])
        load = builder.module.declare_intrinsic("llvm.masked.load.v16f32.p0", fnty=kind)
        zero = ir.Constant(_VECTOR, [0.0] * LANES)
        return builder.call(load, [pointer, ir.IntType(32)(4), _tail_mask(builder, args[2]), zero])

    return lanes(array, types.intp, types.intp), codegen


@intrinsic
def _store_tail(typingctx: Any, array: Any, index: Any, value: Any, count: Any) -> Any:
    if not _is_flat(array):
        return None

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = _pointer(context, builder, signature.args[0], args[0], args[1])
        kind = ir.FunctionType(ir.VoidType(), [_VECTOR, pointer.type, ir.IntType(32), _MASK])
        store = builder.module.declare_intrinsic("llvm.masked.store.v16f32.p0", fnty=kind)
        mask = _tail_mask(builder, args[3])
        builder.call(store, [args[2], pointer, ir.IntType(32)(4), mask])
        return context.get_dummy_value()

    return types.void(array, types.intp, lanes, types.intp), codegen


@intrinsic
def prefetch(typingctx: Any, array: Any, index: Any) -> Any:
    """Ask for the cache line of a number that will be read soon."""
    if not _is_flat(array):
        return None

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        line = builder.bitcast(builder.gep(data, [args[1]]), ir.IntType(8).as_pointer())
        number = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [line.type, number, number, number])
        ask = builder.module.declare_intrinsic("llvm.prefetch.p0", fnty=kind)
        builder.call(ask, [line, number(0), number(3), number(1)])
        return context.get_dummy_value()

    return types.void(array, types.intp), codegen


@intrinsic
def splat(typingctx: Any, value: Any) -> Any:
    """Fill all lanes with one number."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        undefined = ir.Constant(_VECTOR, ir.Undefined)
        first = builder.insert_element(undefined, args[0], ir.IntType(32)(0))
        return builder.shuffle_vector(first, undefined, ir.Constant(_INTEGERS, [0] * LANES))

    return lanes(types.float32), codegen


@intrinsic
def lane_sum(typingctx: Any, value: Any) -> Any:
    """Add the lanes pairwise, always in the same order."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        total, width = args[0], LANES
        while width > 1:
            width //= 2
            undefined = ir.Constant(total.type, ir.Undefined)
            kind = ir.VectorType(ir.IntType(32), width)
            low = builder.shuffle_vector(total, undefined, ir.Constant(kind, list(range(width))))
            high = builder.shuffle_vector(
                total, undefined, ir.Constant(kind, list(range(width, 2 * width)))
            )
            total = builder.fadd(low, high)
        return builder.extract_element(total, ir.IntType(32)(0))

    return types.float32(lanes), codegen


def _binary(name: str) -> Any:
    """Make the intrinsic of an arithmetic instruction on two vectors."""

    @intrinsic
    def apply(typingctx: Any, left: Any, right: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return getattr(builder, name)(*args, flags=_FLAGS)

        return lanes(lanes, lanes), codegen

    return apply


_add, _subtract, _multiply, _divide = (_binary(name) for name in ("fadd", "fsub", "fmul", "fdiv"))


def _operator(function: Any, apply: Any) -> None:
    """Give the operator of two vectors its instruction."""

    @overload(function, inline="always")
    def choose(left, right):  # type: ignore[no-untyped-def]  # numba compares signatures
        if isinstance(left, LanesType) and isinstance(right, LanesType):
            return lambda left, right: apply(left, right)
        return None


_operator(operator.add, _add)
_operator(operator.sub, _subtract)
_operator(operator.mul, _multiply)
_operator(operator.truediv, _divide)


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
        bits = builder.bitcast(args[1], _INTEGERS)
        shift = builder.shl(bits, ir.Constant(_INTEGERS, [23] * LANES))
        scaled = builder.add(builder.bitcast(args[0], _INTEGERS), shift)
        return builder.bitcast(scaled, _VECTOR)

    return lanes(lanes, lanes), codegen


@intrinsic
def _nearest(typingctx: Any, value: Any) -> Any:
    """Round to the nearest integer."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = ir.FunctionType(_VECTOR, [_VECTOR])
        rint = builder.module.declare_intrinsic("llvm.rint.v16f32", fnty=kind)
        return builder.call(rint, args)

    return lanes(lanes), codegen


@intrinsic
def _scale(typingctx: Any, value: Any, exponent: Any) -> Any:
    """Multiply by 2^exponent, an integer of any size, in one instruction of AVX-512."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        mask, rounding = ir.IntType(16), ir.IntType(32)
        kind = ir.FunctionType(_VECTOR, [_VECTOR, _VECTOR, _VECTOR, mask, rounding])
        scale = builder.module.declare_intrinsic("llvm.x86.avx512.mask.scalef.ps.512", fnty=kind)
        zero = ir.Constant(_VECTOR, [0.0] * LANES)
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


@njit(inline="always")
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


@njit(inline="always")
def _exp_of_minus_magnitude(x):  # type: ignore[no-untyped-def]
    """Return e^-|x|."""
    magnitude = _below(x, splat(_ZERO), x, splat(_ZERO) - x)
    return exp2_lanes(magnitude * splat(_LOG2_E))


@njit(inline="always")
def _softplus_from(x, e):  # type: ignore[no-untyped-def]
    """Return max(x, 0) + log(1 + e): the logarithm as twice an inverse hyperbolic tangent."""
    s = e / (splat(_TWO) + e)
    q = s * s
    series = splat(_T3) + q * splat(_T4)
    series = splat(_T2) + q * series
    series = splat(_T1) + q * series
    series = splat(_ONE) + q * series
    return _below(x, splat(_ZERO), splat(_ZERO), x) + (s + s) * series


@njit(inline="always")
def _sigmoid_from(x, e):  # type: ignore[no-untyped-def]
    return _below(x, splat(_ZERO), e, splat(_ONE)) / (splat(_ONE) + e)


@njit(inline="always")
def softplus_lanes(x):  # type: ignore[no-untyped-def]
    """Return log(1 + e^x), relative error below 5e-7 for |x| < 10."""
    return _softplus_from(x, _exp_of_minus_magnitude(x))


@njit(inline="always")
def softplus_and_slope_lanes(x):  # type: ignore[no-untyped-def]
    """Return log(1 + e^x) and its derivative, with one exponential for both."""
    e = _exp_of_minus_magnitude(x)
    return _softplus_from(x, e), _sigmoid_from(x, e)


@njit(inline="always")
def sigmoid_lanes(x):  # type: ignore[no-untyped-def]
    """Return 1 / (1 + e^-x)."""
    return _sigmoid_from(x, _exp_of_minus_magnitude(x))


@njit(inline="always")
def scratch(size):  # type: ignore[no-untyped-def]
    """Allocate numbers from a cache line's start, so that no vector lies across two lines."""
    raw = np.empty(size + LANES, np.float32)
    start = (-(raw.ctypes.data // 4)) % LANES
    return raw[start : start + size]


@njit(inline="always")
def load(array, index, count):  # type: ignore[no-untyped-def]
    """Read up to sixteen numbers of a flat array; lanes from `count` on are zero."""
    if count >= LANES:
        value = _load(array, index)
    else:
        value = _load_tail(array, index, count)
    return value


@njit(inline="always")
def store(array, index, value, count):  # type: ignore[no-untyped-def]
    """Write the first `count` lanes, sixteen at most."""
    if count >= LANES:
        _store(array, index, value)
    else:
        _store_tail(array, index, value, count)


read = _load
"""Read sixteen numbers from scratch memory."""
write = _store
"""Write sixteen numbers to scratch memory."""

__all__ = [
    "LANES",
    "exp2_lanes",
    "lane_sum",
    "load",
    "prefetch",
    "read",
    "scratch",
    "sigmoid_lanes",
    "softplus_and_slope_lanes",
    "softplus_lanes",
    "splat",
    "store",
    "write",
]

"""Sixteen float32 lanes for numba: the vector type that the CPU kernels are written in.

Why not plain loops: LLVM gives up vectorizing a loop that touches more than about six arrays,
because it cannot prove that they do not overlap, and the scan's backward touches a dozen. With
an explicit vector every kernel is vector code on every machine: one register with AVX-512, two
with AVX2, four with NEON.

Arithmetic may be fused into multiply-adds (`contract`) and is otherwise IEEE: NaN and infinity
pass through, nothing is reassociated, so a result depends on the inputs alone.
"""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, models, overload, register_model

from kernels.common.compiled import inlined

LANES = 16
_FLAGS = ("contract",)
VECTOR = ir.VectorType(ir.FloatType(), LANES)
INTEGERS = ir.VectorType(ir.IntType(32), LANES)
_MASK = ir.VectorType(ir.IntType(1), LANES)


class LanesType(types.Type):
    """The numba type of sixteen float32 numbers."""

    def __init__(self) -> None:
        super().__init__(name="float32x16")


lanes = LanesType()


@register_model(LanesType)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: LanesType) -> None:
        super().__init__(manager, kind, VECTOR)


def _pointer(context: Any, builder: Any, array_type: Any, array: Any, index: Any) -> Any:
    """Return a pointer to sixteen numbers of a flat array, from an index that is not checked."""
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), VECTOR.as_pointer())


def _tail_mask(builder: Any, count: Any) -> Any:
    """Return the mask of the first `count` lanes."""
    narrow = builder.trunc(count, ir.IntType(32))
    first = builder.insert_element(ir.Constant(INTEGERS, ir.Undefined), narrow, ir.IntType(32)(0))
    counts = builder.shuffle_vector(
        first, ir.Constant(INTEGERS, ir.Undefined), ir.Constant(INTEGERS, [0] * LANES)
    )
    return builder.icmp_signed("<", ir.Constant(INTEGERS, list(range(LANES))), counts)


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
        kind = ir.FunctionType(VECTOR, [pointer.type, ir.IntType(32), _MASK, VECTOR])
        load = builder.module.declare_intrinsic("llvm.masked.load.v16f32.p0", fnty=kind)
        zero = ir.Constant(VECTOR, [0.0] * LANES)
        return builder.call(load, [pointer, ir.IntType(32)(4), _tail_mask(builder, args[2]), zero])

    return lanes(array, types.intp, types.intp), codegen


@intrinsic
def _store_tail(typingctx: Any, array: Any, index: Any, value: Any, count: Any) -> Any:
    if not _is_flat(array):
        return None

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = _pointer(context, builder, signature.args[0], args[0], args[1])
        kind = ir.FunctionType(ir.VoidType(), [VECTOR, pointer.type, ir.IntType(32), _MASK])
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
        undefined = ir.Constant(VECTOR, ir.Undefined)
        first = builder.insert_element(undefined, args[0], ir.IntType(32)(0))
        return builder.shuffle_vector(first, undefined, ir.Constant(INTEGERS, [0] * LANES))

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


@inlined
def scratch(size):  # type: ignore[no-untyped-def]
    """Allocate numbers from a cache line's start, so that no vector lies across two lines."""
    raw = np.empty(size + LANES, np.float32)
    start = (-(raw.ctypes.data // 4)) % LANES
    return raw[start : start + size]


@inlined
def load(array, index, count):  # type: ignore[no-untyped-def]
    """Read up to sixteen numbers of a flat array; lanes from `count` on are zero."""
    if count >= LANES:
        value = _load(array, index)
    else:
        value = _load_tail(array, index, count)
    return value


@inlined
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

"""The backward scan on the CPU, compiled by numba.

Same tasks as the forward. A chunk of tokens is re-run from its saved state, one state index n
at a time, so that decays and states of the chunk stay in the L1 cache; then the gradient runs
back through it. Gradients that cross channels (B, C) or images (A, D, bias) are written as one
partial result a task and added by the caller in a fixed order.
"""

from __future__ import annotations

import numpy as np

from kernels.common.compiled import inlined, kernel
from kernels.common.lane_math import exp2_lanes, sigmoid_lanes, softplus_and_slope_lanes
from kernels.common.lanes import LANES, lane_sum, load, prefetch, read, scratch, splat, store, write
from kernels.s6.cpu.forward_pass import BLOCK, CHUNK, LOG2_E

LN_2 = np.float32(0.6931471805599453)
ZERO, ONE = np.float32(0.0), np.float32(1.0)


@kernel
def ungate_rows(start, stop, grad_y, ungated, z, grad, grad_z, strides, rows, tokens, inner):  # type: ignore[no-untyped-def]
    """Take the gate out of the gradients of images start..stop - 1: y = ungated * silu(z).

    Not left to torch, whose bits depend on where a thread's share of a tensor ends.

    Shapes, flattened: grad_z (B, L, D); z rows by strides; the others (B, L, D), or (B, K, L, D)
    where rows, their number an image, is K L.
    """
    for b in range(start, stop):
        for t in range(tokens):
            for c in range(0, inner, LANES):
                left, at_z = inner - c, (b * tokens + t) * inner + c
                gate = load(z, b * strides[0] + t * strides[2] + c, left)
                sigmoid = sigmoid_lanes(gate)
                slope = sigmoid * (splat(ONE) + gate * (splat(ONE) - sigmoid))
                total = splat(ZERO)
                for row in range(t, rows, tokens):
                    at = (b * rows + row) * inner + c
                    g = load(grad_y, at, left)
                    total = total + g * load(ungated, at, left)
                    store(grad, at, g * (gate * sigmoid), left)
                store(grad_z, at_z, total * slope, left)


@inlined
def _advance(rate, b_n, before, at, h, decay, d2, du, g):  # type: ignore[no-untyped-def]
    """Take one state a token forward; return it, and its share in the gradient of C."""
    a = exp2_lanes(read(d2, at) * rate)
    after = read(du, at) * b_n + a * before
    write(decay, at, a)
    write(h, at + BLOCK, after)
    return after, read(g, at) * after


@inlined
def _retreat(  # type: ignore[no-untyped-def]
    rate, b_n, c_n, carried, sum_n, at, h, decay, d2, du, g, to_drive, to_step
):  # fmt: skip
    """Take the gradient of one state a token back; return it, A's, and its share in B's."""
    grad_h = carried + read(g, at) * c_n
    write(to_drive, at, read(to_drive, at) + grad_h * b_n)
    carried = grad_h * read(decay, at)
    through = carried * read(h, at)
    write(to_step, at, read(to_step, at) + through * rate)
    return carried, sum_n + through * read(d2, at), grad_h * read(du, at)


@inlined
def _full_block(  # type: ignore[no-untyped-def]
    n, length, step, b_route, b_step, c_route, c_step, partial, state, B, C, orders, grad_B, grad_C,
    A_block, sum_A, carried, h, decay, d2, du, g, to_drive, to_step,
):  # fmt: skip
    """Run one state of a whole block over a chunk and back, its four vectors in registers."""
    i0, i1, i2, i3 = 0, LANES, 2 * LANES, 3 * LANES
    at_n = n * BLOCK
    r0, r1 = read(A_block, at_n), read(A_block, at_n + i1)
    r2, r3 = read(A_block, at_n + i2), read(A_block, at_n + i3)
    h0, h1, h2, h3 = read(h, i0), read(h, i1), read(h, i2), read(h, i3)
    for t in range(length):
        token = np.int64(orders[step + t])
        b_n = splat(B[b_route + token * b_step + n])
        at = t * BLOCK
        h0, s0 = _advance(r0, b_n, h0, at, h, decay, d2, du, g)
        h1, s1 = _advance(r1, b_n, h1, at + i1, h, decay, d2, du, g)
        h2, s2 = _advance(r2, b_n, h2, at + i2, h, decay, d2, du, g)
        h3, s3 = _advance(r3, b_n, h3, at + i3, h, decay, d2, du, g)
        grad_C[(partial + token) * state + n] = lane_sum((s0 + s1) + (s2 + s3))
    c0, c1 = read(carried, at_n), read(carried, at_n + i1)
    c2, c3 = read(carried, at_n + i2), read(carried, at_n + i3)
    a0, a1 = read(sum_A, at_n), read(sum_A, at_n + i1)
    a2, a3 = read(sum_A, at_n + i2), read(sum_A, at_n + i3)
    for t in range(length - 1, -1, -1):
        token = np.int64(orders[step + t])
        b_n = splat(B[b_route + token * b_step + n])
        c_n = splat(C[c_route + token * c_step + n])
        at = t * BLOCK
        c0, a0, s0 = _retreat(r0, b_n, c_n, c0, a0, at, h, decay, d2, du, g, to_drive, to_step)
        c1, a1, s1 = _retreat(r1, b_n, c_n, c1, a1, at + i1, h, decay, d2, du, g, to_drive, to_step)
        c2, a2, s2 = _retreat(r2, b_n, c_n, c2, a2, at + i2, h, decay, d2, du, g, to_drive, to_step)
        c3, a3, s3 = _retreat(r3, b_n, c_n, c3, a3, at + i3, h, decay, d2, du, g, to_drive, to_step)
        grad_B[(partial + token) * state + n] = lane_sum((s0 + s1) + (s2 + s3))
    write(carried, at_n, c0)
    write(carried, at_n + i1, c1)
    write(carried, at_n + i2, c2)
    write(carried, at_n + i3, c3)
    write(sum_A, at_n, a0)
    write(sum_A, at_n + i1, a1)
    write(sum_A, at_n + i2, a2)
    write(sum_A, at_n + i3, a3)


@kernel
def backward_tasks(  # type: ignore[no-untyped-def]
    start, stop, grad_y, x, delta, A, B, C, D, bias, orders, states,
    grad_x, grad_delta, grad_A, grad_B, grad_C, grad_D, grad_bias, strides,
    batch, routes, tokens, inner, state, steps,
    orders_per_image, softplus, merged, scale,
):  # fmt: skip
    """Run the tasks start..stop - 1.

    Shapes, flattened: inputs as in the forward; grad_y as y before its gate; grad_x (B, L, D), or
    (B, K, L, D) where strides tell the routes of x apart; grad_delta (B, K, L, D), both and
    grad_B, grad_C (blocks, B, K, L, N) zero where routes leave tokens out; grad_A (B, K, N, D);
    grad_D and grad_bias (B, K, D).
    """
    blocks = (inner + BLOCK - 1) // BLOCK
    chunks = (steps + CHUNK - 1) // CHUNK
    x_b, x_k, x_step = strides[0], strides[1], strides[2]
    d_b, d_k, d_step = strides[3], strides[4], strides[5]
    b_b, b_k, b_step = strides[6], strides[7], strides[8]
    c_b, c_k, c_step = strides[9], strides[10], strides[11]
    x_per_route = len(grad_x) > batch * tokens * inner
    adds = steps < tokens
    A_block = scratch(state * BLOCK)
    sum_A = scratch(state * BLOCK)
    carried = scratch(state * BLOCK)
    sum_D, sum_bias = scratch(BLOCK), scratch(BLOCK)
    h = scratch((CHUNK + 1) * BLOCK)
    decay = scratch(CHUNK * BLOCK)
    d2 = scratch(CHUNK * BLOCK)
    du = scratch(CHUNK * BLOCK)
    g = scratch(CHUNK * BLOCK)
    slope = scratch(CHUNK * BLOCK)
    to_drive = scratch(CHUNK * BLOCK)
    to_step = scratch(CHUNK * BLOCK)
    for task in range(start, stop):
        b, block = task // blocks, task % blocks
        c0 = block * BLOCK
        width = min(BLOCK, inner - c0)
        for k in range(routes):
            carried[:] = ZERO
            sum_A[:] = ZERO
            sum_D[:] = ZERO
            sum_bias[:] = ZERO
            for n in range(state):
                for c in range(0, width, LANES):
                    row = load(A, (k * state + n) * inner + c0 + c, width - c)
                    write(A_block, n * BLOCK + c, row)
            x_route, d_route = b * x_b + k * x_k + c0, b * d_b + k * d_k + c0
            b_route, c_route = b * b_b + k * b_k, b * c_b + k * c_k
            y_route = b * tokens if merged else (b * routes + k) * tokens
            order = (b * routes + k) * steps if orders_per_image else k * steps
            route = (b * routes + k) * tokens
            to_x = route if x_per_route else b * tokens
            partial = ((block * batch + b) * routes + k) * tokens
            for chunk in range(chunks - 1, -1, -1):
                t0 = chunk * CHUNK
                length = min(CHUNK, steps - t0)
                for t in range(length):
                    # The chunk that comes next: an order table hides it from the cache.
                    soon = np.int64(orders[order + max(t0 + t - CHUNK, 0)])
                    prefetch(B, b_route + soon * b_step)
                    prefetch(C, c_route + soon * c_step)
                    for c in range(0, width, LANES):
                        prefetch(delta, d_route + soon * d_step + c)
                        prefetch(x, x_route + soon * x_step + c)
                        prefetch(grad_y, (y_route + soon) * inner + c0 + c)
                    token = np.int64(orders[order + t0 + t])
                    row_d, row_x = d_route + token * d_step, x_route + token * x_step
                    row_y = (y_route + token) * inner + c0
                    for c in range(0, width, LANES):
                        left, at = width - c, t * BLOCK + c
                        raw = load(delta, row_d + c, left) + load(bias, k * inner + c0 + c, left)
                        d = raw
                        if softplus:
                            d, slope_t = softplus_and_slope_lanes(raw)
                            write(slope, at, slope_t)
                        else:
                            write(slope, at, splat(ONE))
                        write(d2, at, d * splat(LOG2_E))
                        write(du, at, d * load(x, row_x + c, left))
                        write(g, at, load(grad_y, row_y + c, left) * splat(scale))
                        write(to_drive, at, splat(ZERO))
                        write(to_step, at, splat(ZERO))
                saved = ((b * routes + k) * chunks + chunk) * state
                for n in range(state):
                    for c in range(0, width, LANES):
                        write(h, c, load(states, (saved + n) * inner + c0 + c, width - c))
                    if width == BLOCK:
                        _full_block(
                            n, length, order + t0, b_route, b_step, c_route, c_step, partial, state,
                            B, C, orders, grad_B, grad_C,
                            A_block, sum_A, carried, h, decay, d2, du, g, to_drive, to_step,
                        )  # fmt: skip
                        continue
                    for t in range(length):
                        token = np.int64(orders[order + t0 + t])
                        b_n = splat(B[b_route + token * b_step + n])
                        total = splat(ZERO)
                        for c in range(0, width, LANES):
                            at = t * BLOCK + c
                            rate = read(A_block, n * BLOCK + c)
                            _, share = _advance(rate, b_n, read(h, at), at, h, decay, d2, du, g)
                            total = total + share
                        grad_C[(partial + token) * state + n] = lane_sum(total)
                    for t in range(length - 1, -1, -1):
                        token = np.int64(orders[order + t0 + t])
                        b_n = splat(B[b_route + token * b_step + n])
                        c_n = splat(C[c_route + token * c_step + n])
                        total = splat(ZERO)
                        for c in range(0, width, LANES):
                            at, at_n = t * BLOCK + c, n * BLOCK + c
                            rate = read(A_block, at_n)
                            back, sum_t, share = _retreat(
                                rate, b_n, c_n, read(carried, at_n), read(sum_A, at_n), at,
                                h, decay, d2, du, g, to_drive, to_step,
                            )  # fmt: skip
                            write(carried, at_n, back)
                            write(sum_A, at_n, sum_t)
                            total = total + share
                        grad_B[(partial + token) * state + n] = lane_sum(total)
                for t in range(length - 1, -1, -1):
                    token = np.int64(orders[order + t0 + t])
                    row_x = x_route + token * x_step
                    to_row, out_d = (to_x + token) * inner + c0, (route + token) * inner + c0
                    for c in range(0, width, LANES):
                        left, at = width - c, t * BLOCK + c
                        u, g_t, d_t = load(x, row_x + c, left), read(g, at), read(d2, at)
                        from_u = read(to_drive, at)
                        skip = load(D, k * inner + c0 + c, left)
                        to_u = from_u * (d_t * splat(LN_2)) + skip * g_t
                        if not x_per_route and (adds or k > 0):
                            to_u = to_u + load(grad_x, to_row + c, left)
                        store(grad_x, to_row + c, to_u, left)
                        to_d = (read(to_step, at) + from_u * u) * read(slope, at)
                        store(grad_delta, out_d + c, to_d, left)
                        write(sum_D, c, read(sum_D, c) + g_t * u)
                        write(sum_bias, c, read(sum_bias, c) + to_d)
            for c in range(0, width, LANES):
                left, at = width - c, (b * routes + k) * inner + c0 + c
                store(grad_D, at, read(sum_D, c), left)
                store(grad_bias, at, read(sum_bias, c), left)
                for n in range(state):
                    at = ((b * routes + k) * state + n) * inner + c0 + c
                    store(grad_A, at, read(sum_A, n * BLOCK + c) * splat(LN_2), left)

"""The backward scan on the CPU, compiled by numba.

Same tasks as the forward. A chunk of tokens is re-run from its saved state, one state index n
at a time, so that decays and states of the chunk stay in the L1 cache; then the gradient runs
back through it. Gradients that cross channels (B, C) or images (A, D, bias) are written as one
partial result a task and added by the caller in a fixed order.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from kernels.cpu_forward import BLOCK, CHUNK, LOG2_E
from kernels.lanes import (
    LANES,
    exp2_lanes,
    lane_sum,
    load,
    read,
    sigmoid_lanes,
    softplus_lanes,
    splat,
    store,
    write,
)

LN_2 = np.float32(0.6931471805599453)
ZERO, ONE = np.float32(0.0), np.float32(1.0)


@njit(nogil=True, cache=True)
def ungate_rows(start, stop, grad_y, ungated, z, grad, grad_z, rows, tokens, inner):  # type: ignore[no-untyped-def]
    """Take the gate out of the gradients of images start..stop - 1: y = ungated * silu(z).

    Not left to torch, whose bits depend on where a thread's share of a tensor ends.

    Shapes, flattened: z, grad_z (B, L, D); the others (B, L, D), or (B, K, L, D) where rows,
    their number an image, is K L.
    """
    for b in range(start, stop):
        for t in range(tokens):
            for c in range(0, inner, LANES):
                left, at_z = inner - c, (b * tokens + t) * inner + c
                gate = load(z, at_z, left)
                sigmoid = sigmoid_lanes(gate)
                slope = sigmoid * (splat(ONE) + gate * (splat(ONE) - sigmoid))
                total = splat(ZERO)
                for row in range(t, rows, tokens):
                    at = (b * rows + row) * inner + c
                    g = load(grad_y, at, left)
                    total = total + g * load(ungated, at, left)
                    store(grad, at, g * (gate * sigmoid), left)
                store(grad_z, at_z, total * slope, left)


@njit(nogil=True, cache=True)
def backward_tasks(  # type: ignore[no-untyped-def]
    start, stop, grad_y, x, delta, A, B, C, D, bias, orders, states,
    grad_x, grad_delta, grad_A, grad_B, grad_C, grad_D, grad_bias,
    batch, routes, tokens, inner, state,
    x_per_route, orders_per_image, softplus, merged, scale,
):  # fmt: skip
    """Run the tasks start..stop - 1.

    Shapes, flattened: inputs as in the forward; grad_y as y before its gate; grad_x as x,
    grad_delta as delta; grad_A (B, K, N, D); grad_B, grad_C (blocks, B, K, L, N); grad_D and
    grad_bias (B, K, D).
    """
    blocks = (inner + BLOCK - 1) // BLOCK
    chunks = (tokens + CHUNK - 1) // CHUNK
    A_block = np.empty(state * BLOCK, np.float32)
    sum_A = np.empty(state * BLOCK, np.float32)
    carried = np.empty(state * BLOCK, np.float32)
    sum_D, sum_bias = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32)
    h = np.empty((CHUNK + 1) * BLOCK, np.float32)
    decay = np.empty(CHUNK * BLOCK, np.float32)
    d2 = np.empty(CHUNK * BLOCK, np.float32)
    du = np.empty(CHUNK * BLOCK, np.float32)
    g = np.empty(CHUNK * BLOCK, np.float32)
    slope = np.empty(CHUNK * BLOCK, np.float32)
    to_drive = np.empty(CHUNK * BLOCK, np.float32)
    to_step = np.empty(CHUNK * BLOCK, np.float32)
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
            x_route = (b * routes + k) * tokens if x_per_route else b * tokens
            y_route = b * tokens if merged else (b * routes + k) * tokens
            order = (b * routes + k) * tokens if orders_per_image else k * tokens
            route = (b * routes + k) * tokens
            partial = ((block * batch + b) * routes + k) * tokens
            for chunk in range(chunks - 1, -1, -1):
                t0 = chunk * CHUNK
                length = min(CHUNK, tokens - t0)
                for t in range(length):
                    token = np.int64(orders[order + t0 + t])
                    row_d = (route + token) * inner + c0
                    row_x = (x_route + token) * inner + c0
                    row_y = (y_route + token) * inner + c0
                    for c in range(0, width, LANES):
                        left, at = width - c, t * BLOCK + c
                        raw = load(delta, row_d + c, left) + load(bias, k * inner + c0 + c, left)
                        d = raw
                        if softplus:
                            d = softplus_lanes(raw)
                            write(slope, at, sigmoid_lanes(raw))
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
                    for t in range(length):
                        token = np.int64(orders[order + t0 + t])
                        b_n = splat(B[(route + token) * state + n])
                        total = splat(ZERO)
                        for c in range(0, width, LANES):
                            at = t * BLOCK + c
                            a = exp2_lanes(read(d2, at) * read(A_block, n * BLOCK + c))
                            h_t = read(du, at) * b_n + a * read(h, at)
                            write(decay, at, a)
                            write(h, at + BLOCK, h_t)
                            total = total + read(g, at) * h_t
                        grad_C[(partial + token) * state + n] = lane_sum(total)
                    for t in range(length - 1, -1, -1):
                        token = np.int64(orders[order + t0 + t])
                        b_n = splat(B[(route + token) * state + n])
                        c_n = splat(C[(route + token) * state + n])
                        total = splat(ZERO)
                        for c in range(0, width, LANES):
                            at, at_n = t * BLOCK + c, n * BLOCK + c
                            grad_h = read(carried, at_n) + read(g, at) * c_n
                            total = total + grad_h * read(du, at)
                            write(to_drive, at, read(to_drive, at) + grad_h * b_n)
                            through = grad_h * read(decay, at)
                            write(carried, at_n, through)
                            through = through * read(h, at)
                            write(to_step, at, read(to_step, at) + through * read(A_block, at_n))
                            write(sum_A, at_n, read(sum_A, at_n) + through * read(d2, at))
                        grad_B[(partial + token) * state + n] = lane_sum(total)
                for t in range(length - 1, -1, -1):
                    token = np.int64(orders[order + t0 + t])
                    row_d = (route + token) * inner + c0
                    row_x = (x_route + token) * inner + c0
                    for c in range(0, width, LANES):
                        left, at = width - c, t * BLOCK + c
                        u, g_t, d_t = load(x, row_x + c, left), read(g, at), read(d2, at)
                        from_u = read(to_drive, at)
                        skip = load(D, k * inner + c0 + c, left)
                        to_u = from_u * (d_t * splat(LN_2)) + skip * g_t
                        if k > 0 and not x_per_route:
                            to_u = to_u + load(grad_x, row_x + c, left)
                        store(grad_x, row_x + c, to_u, left)
                        to_d = (read(to_step, at) + from_u * u) * read(slope, at)
                        store(grad_delta, row_d + c, to_d, left)
                        write(sum_D, c, read(sum_D, c) + g_t * u)
                        write(sum_bias, c, read(sum_bias, c) + to_d)
            for c in range(0, width, LANES):
                left, at = width - c, (b * routes + k) * inner + c0 + c
                store(grad_D, at, read(sum_D, c), left)
                store(grad_bias, at, read(sum_bias, c), left)
                for n in range(state):
                    at = ((b * routes + k) * state + n) * inner + c0 + c
                    store(grad_A, at, read(sum_A, n * BLOCK + c) * splat(LN_2), left)

"""The forward scan on the CPU, compiled by numba.

A task is one image and one block of channels; it runs the routes one after the other and adds
each to its own tile of y. So no two tasks write the same number, and every sum has an order
that depends on the shape of one image alone: neither on the batch nor on the threads.

Arrays are flat float32 and indexed by hand: numba then emits no wrap-around tests.
"""

from __future__ import annotations

import numpy as np

from kernels.common.compiled import kernel
from kernels.common.lane_math import exp2_lanes, sigmoid_lanes, softplus_lanes
from kernels.common.lanes import LANES, load, prefetch, read, scratch, splat, store, write

BLOCK = 64
"""Channels of a task: four vectors, one state of which is 256 bytes."""
CHUNK = 16
"""Tokens between two saved states; the backward's working set of a chunk fits the L1 cache."""
AHEAD = 3
"""Tokens between asking for a row and reading it: an order table hides rows from the cache's own
prediction, and a token takes some 100 ns."""
LOG2_E = np.float32(1.4426950408889634)


@kernel
def first_bad_order(orders, rows, steps, tokens):  # type: ignore[no-untyped-def]
    """Return the first row of a flat order table that visits a token twice or none, or -1."""
    seen = np.full(tokens, -1, np.int64)
    for row in range(rows):
        for t in range(steps):
            token = orders[row * steps + t]
            if token < 0 or token >= tokens or seen[token] == row:
                return row
            seen[token] = row
    return -1


@kernel
def forward_tasks(  # type: ignore[no-untyped-def]
    start, stop, x, delta, A, B, C, D, bias, z, orders, y, ungated, states, strides,
    routes, tokens, inner, state, steps,
    orders_per_image, softplus, merged, scale, gated, save,
):  # fmt: skip
    """Run the tasks start..stop - 1.

    Shapes, flattened: A (K, N, D), states outermost; D, bias (K, D); orders (K, M) or (B, K, M);
    y and ungated (B, L, D) merged or (B, K, L, D), zero where routes leave tokens out; states
    (B, K, M / CHUNK, N, D), kept where `save`. x, delta, B, C and z are rows of any memory:
    strides (5, 3) says how far apart those of images, routes and tokens lie.
    """
    blocks = (inner + BLOCK - 1) // BLOCK
    chunks = (steps + CHUNK - 1) // CHUNK
    x_b, x_k, x_step = strides[0], strides[1], strides[2]
    d_b, d_k, d_step = strides[3], strides[4], strides[5]
    b_b, b_k, b_step = strides[6], strides[7], strides[8]
    c_b, c_k, c_step = strides[9], strides[10], strides[11]
    z_b, z_t = strides[12], strides[14]
    adds = merged and steps < tokens
    h = scratch(state * BLOCK)
    A_block = scratch(state * BLOCK)
    for task in range(start, stop):
        b, c0 = task // blocks, task % blocks * BLOCK
        width = min(BLOCK, inner - c0)
        for k in range(routes):
            h[:] = np.float32(0.0)
            for n in range(state):
                for c in range(0, width, LANES):
                    row = load(A, (k * state + n) * inner + c0 + c, width - c)
                    write(A_block, n * BLOCK + c, row)
            x_route, d_route = b * x_b + k * x_k + c0, b * d_b + k * d_k + c0
            b_route, c_route = b * b_b + k * b_k, b * c_b + k * c_k
            y_route = b * tokens if merged else (b * routes + k) * tokens
            order = (b * routes + k) * steps if orders_per_image else k * steps
            for t in range(steps):
                token = np.int64(orders[order + t])
                if save and t % CHUNK == 0:
                    saved = ((b * routes + k) * chunks + t // CHUNK) * state
                    for n in range(state):
                        for c in range(0, width, LANES):
                            at = (saved + n) * inner + c0 + c
                            store(states, at, read(h, n * BLOCK + c), width - c)
                soon = np.int64(orders[order + min(t + AHEAD, steps - 1)])
                prefetch(B, b_route + soon * b_step)
                prefetch(C, c_route + soon * c_step)
                for c in range(0, width, LANES):
                    prefetch(x, x_route + soon * x_step + c)
                    prefetch(delta, d_route + soon * d_step + c)
                row_x, row_d = x_route + token * x_step, d_route + token * d_step
                row_b, row_c = b_route + token * b_step, c_route + token * c_step
                row_y = (y_route + token) * inner + c0
                for c in range(0, width, LANES):
                    left = width - c
                    u = load(x, row_x + c, left)
                    d = load(delta, row_d + c, left) + load(bias, k * inner + c0 + c, left)
                    if softplus:
                        d = softplus_lanes(d)
                    du, d2 = d * u, d * splat(LOG2_E)
                    total = load(D, k * inner + c0 + c, left) * u
                    for n in range(state):
                        decay = exp2_lanes(d2 * read(A_block, n * BLOCK + c))
                        drive = du * splat(B[row_b + n])
                        h_n = drive + decay * read(h, n * BLOCK + c)
                        write(h, n * BLOCK + c, h_n)
                        total = total + h_n * splat(C[row_c + n])
                    if adds or (merged and k > 0):
                        total = total + load(y, row_y + c, left)
                    store(y, row_y + c, total, left)
        if gated or scale != np.float32(1.0):
            for row in range(tokens if merged else routes * tokens):
                row_y = (row + b * (tokens if merged else routes * tokens)) * inner + c0
                row_z = b * z_b + row % tokens * z_t + c0
                for c in range(0, width, LANES):
                    left = width - c
                    value = load(y, row_y + c, left) * splat(scale)
                    if gated:
                        if save:
                            store(ungated, row_y + c, value, left)
                        gate = load(z, row_z + c, left)
                        value = value * gate * sigmoid_lanes(gate)
                    store(y, row_y + c, value, left)

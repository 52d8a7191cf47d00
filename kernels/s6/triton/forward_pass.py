"""The forward scan as Triton kernels.

One warp owns a block of channels of one route and walks its tokens; the states of a channel
are registers of the thread that owns it (a tuple of N vectors), so the recurrence needs no
shuffle and no shared memory. Loads of U tokens are issued together, before any is used.

Where there are too few such warps for the device, the tokens are cut into segments that run
at the same time: `summary_kernel` finds where each segment would end from a state of zero,
`carry_kernel` chains these, and `forward_kernel` runs every segment from its true state.
"""

# ruff: noqa: RUF005 - Triton compiles these functions, and knows no star in a tuple.
from __future__ import annotations

import triton
import triton.language as tl

from kernels.common.triton_math import LOG2_E, exp2, sigmoid, step_size

CHECKPOINT_EVERY = 32
"""Tokens between two saved states: 1/8 byte of float32 per token-state."""
EVERY = tl.constexpr(CHECKPOINT_EVERY)


@triton.jit
def forward_kernel(  # type: ignore[no-untyped-def]
    x, delta, A, B, C, D, bias, z, orders, y, partial, ungated, states, starts,
    x_b, x_k, x_step, d_b, d_k, d_step, b_b, b_k, b_step, c_b, c_k, c_step, z_b, z_step,
    routes, tokens, steps, inner, blocks, segments, segment_tokens, scale,
    N: tl.constexpr, BD: tl.constexpr, U: tl.constexpr,
    ROWS: tl.constexpr, PAIRS: tl.constexpr, ORDERS_PER_IMAGE: tl.constexpr, SOFTPLUS: tl.constexpr,
    HAS_D: tl.constexpr, HAS_BIAS: tl.constexpr, GATED: tl.constexpr,
    LOOP: tl.constexpr, MERGE_LATER: tl.constexpr, MERGED: tl.constexpr,
    SEGMENTED: tl.constexpr, SAVE: tl.constexpr, FAST: tl.constexpr,
):  # fmt: skip
    """Scan one block of channels of one route, or of all routes one after the other (LOOP).

    Shapes: x, delta, B, C, z: rows of channels or states, by the strides of images (x_b), routes
    (x_k, zero where they share) and tokens (x_step); A (K, N, D); D, bias (K, D); orders (K, M) or
    (B, K, M), int32, M being steps; y (B, L, D) or (B, K, L, D); partial, float32: (B, L, D)
    where routes add up in it, (B, K, L, D) where they merge later; ungated as y; states
    (B, K, M / 32, N, D); starts (B, K, segments, N, D).
    ROWS: x and delta have rows of D numbers; PAIRS: rows of B and C lie equally far apart.
    Grid: blocks * segments * routes * B, or blocks * B with LOOP.
    """
    if ROWS:  # Products with a step that two rows share are computed once.
        x_step = inner
        d_step = inner
    if PAIRS:
        c_step = b_step
    pid = tl.program_id(0)
    block = pid % blocks
    segment = pid // blocks % segments
    if LOOP:
        b = (pid // blocks).to(tl.int64)
        first, last = 0, routes
    else:
        first = pid // (blocks * segments) % routes
        b = (pid // (blocks * segments) // routes).to(tl.int64)
        last = first + 1
    channel = block * BD + tl.arange(0, BD)
    inside = channel < inner
    begin = segment * segment_tokens
    end = tl.minimum(begin + segment_tokens, steps)
    checkpoints = (steps + EVERY - 1) // EVERY

    for k in range(first, last):
        route = b * routes + k
        k_wide = route - b * routes
        x_rows = x + b * x_b + k_wide * x_k + channel
        d_rows = delta + b * d_b + k_wide * d_k + channel
        b_rows = B + b * b_b + k_wide * b_k
        c_rows = C + b * c_b + k_wide * c_k
        order = orders + (route if ORDERS_PER_IMAGE else k) * steps
        y_rows = y + (b if MERGED else route) * tokens * inner
        kept_rows = ungated + (b if MERGED else route) * tokens * inner
        route_rows = partial + route * tokens * inner
        image_rows = partial + b * tokens * inner
        z_rows = z + b * z_b + channel
        shift = tl.zeros([BD], tl.float32)
        skip = tl.zeros([BD], tl.float32)
        if HAS_BIAS:
            shift = tl.load(bias + k * inner + channel, mask=inside, other=0.0)
        if HAS_D:
            skip = tl.load(D + k * inner + channel, mask=inside, other=0.0)
        decay_rate = ()
        h = ()
        for n in tl.static_range(N):
            rate_n = tl.load(A + (k * N + n) * inner + channel, mask=inside, other=0.0)
            decay_rate = decay_rate + (rate_n * LOG2_E,)
            if SEGMENTED:
                start_n = starts + ((route * segments + segment) * N + n) * inner
                h = h + (tl.load(start_n + channel, mask=inside, other=0.0),)
            else:
                h = h + (tl.zeros([BD], tl.float32),)

        for chunk in range(begin // EVERY, (end + EVERY - 1) // EVERY):
            if SAVE:
                saved = (route * checkpoints + chunk) * N * inner
                for n in tl.static_range(N):
                    tl.store(states + saved + n * inner + channel, h[n], mask=inside)
            for t0 in range(chunk * EVERY, tl.minimum(chunk * EVERY + EVERY, end), U):
                token = ()
                u = ()
                raw = ()
                for i in tl.static_range(U):
                    # Past the end the last token is read again, with a step of zero.
                    token = token + (tl.load(order + tl.minimum(t0 + i, end - 1)),)
                for i in tl.static_range(U):
                    x_row = tl.load(x_rows + token[i] * x_step, mask=inside, other=0.0)
                    d_row = tl.load(d_rows + token[i] * d_step, mask=inside, other=0.0)
                    u = u + (x_row.to(tl.float32),)
                    raw = raw + (d_row.to(tl.float32),)
                for i in tl.static_range(U):
                    valid = (tl.zeros([BD], tl.int32) + t0 + i) < end
                    d = step_size(raw[i] + shift, valid, SOFTPLUS, FAST)
                    du = d * u[i]
                    total = skip * u[i]
                    after = ()
                    for n in tl.static_range(N):
                        b_n = tl.load(b_rows + token[i] * b_step + n).to(tl.float32)
                        c_n = tl.load(c_rows + token[i] * c_step + n).to(tl.float32)
                        h_n = exp2(d * decay_rate[n], FAST) * h[n] + du * b_n
                        total += h_n * c_n
                        after = after + (h_n,)
                    h = after
                    here = valid & inside
                    row = token[i] * inner + channel
                    if MERGE_LATER:
                        tl.store(route_rows + row, total, mask=here)
                    else:
                        if LOOP:
                            if k > 0:
                                total += tl.load(image_rows + row, mask=here, other=0.0)
                            if k < routes - 1:
                                tl.store(image_rows + row, total, mask=here)
                        if k == last - 1:
                            total = total * scale
                            if GATED:
                                if SAVE:
                                    tl.store(kept_rows + row, total, mask=here)
                                gate = tl.load(z_rows + token[i] * z_step, mask=inside, other=0.0)
                                gate = gate.to(tl.float32)
                                total = total * gate * sigmoid(gate, FAST)
                            tl.store(y_rows + row, total, mask=here)
        if LOOP:
            tl.debug_barrier()  # The next route reads what this one has added up.


@triton.jit
def summary_kernel(  # type: ignore[no-untyped-def]
    source, delta, A, weights, bias, orders, ends, sums,
    s_b, s_k, s_step, d_b, d_k, d_step, w_b, w_k, w_step,
    routes, steps, inner, blocks, segments, segment_tokens, scale,
    N: tl.constexpr, BD: tl.constexpr, U: tl.constexpr,
    ORDERS_PER_IMAGE: tl.constexpr, SOFTPLUS: tl.constexpr,
    HAS_BIAS: tl.constexpr, REVERSE: tl.constexpr, FAST: tl.constexpr,
):  # fmt: skip
    """Find where a segment ends from a state of zero, and the sum of its steps.

    Forward h = a h + d u B from first to last token; REVERSE, for the gradient of the state,
    h = a (h + C g) from last to first.

    Shapes: source is x, or the gradient of y; weights is B or C, by their strides;
    ends (B, K, segments, N, D); sums (B, K, segments, D).
    Grid: blocks * segments * routes * B.
    """
    pid = tl.program_id(0)
    block = pid % blocks
    segment = pid // blocks % segments
    k = pid // (blocks * segments) % routes
    b = (pid // (blocks * segments) // routes).to(tl.int64)
    route = b * routes + k
    channel = block * BD + tl.arange(0, BD)
    inside = channel < inner
    begin = segment * segment_tokens
    end = tl.minimum(begin + segment_tokens, steps)
    k_wide = route - b * routes
    rows = source + b * s_b + k_wide * s_k + channel
    d_rows = delta + b * d_b + k_wide * d_k + channel
    w_rows = weights + b * w_b + k_wide * w_k
    order = orders + (route if ORDERS_PER_IMAGE else k) * steps
    shift = tl.zeros([BD], tl.float32)
    if HAS_BIAS:
        shift = tl.load(bias + k * inner + channel, mask=inside, other=0.0)
    decay_rate = ()
    h = ()
    for n in tl.static_range(N):
        rate_n = tl.load(A + (k * N + n) * inner + channel, mask=inside, other=0.0)
        decay_rate = decay_rate + (rate_n * LOG2_E,)
        h = h + (tl.zeros([BD], tl.float32),)
    time = tl.zeros([BD], tl.float32)
    for step in range(0, end - begin, U):
        token = ()
        value = ()
        raw = ()
        for i in tl.static_range(U):
            ahead = tl.minimum(step + i, end - begin - 1)
            here = tl.load(order + (end - 1 - ahead if REVERSE else begin + ahead))
            token = token + (here,)
        for i in tl.static_range(U):
            row = tl.load(rows + token[i] * s_step, mask=inside, other=0.0)
            d_row = tl.load(d_rows + token[i] * d_step, mask=inside, other=0.0)
            value = value + (row.to(tl.float32),)
            raw = raw + (d_row.to(tl.float32),)
        for i in tl.static_range(U):
            valid = (tl.zeros([BD], tl.int32) + step + i) < end - begin
            d = step_size(raw[i] + shift, valid, SOFTPLUS, FAST)
            time += d
            drive = value[i] * scale
            drive = tl.where(valid, drive, 0.0) if REVERSE else drive * d
            after = ()
            for n in tl.static_range(N):
                w_n = tl.load(w_rows + token[i] * w_step + n).to(tl.float32)
                decay = exp2(d * decay_rate[n], FAST)
                if REVERSE:
                    after = after + (decay * (h[n] + drive * w_n),)
                else:
                    after = after + (decay * h[n] + drive * w_n,)
            h = after
    at = route * segments + segment
    for n in tl.static_range(N):
        tl.store(ends + (at * N + n) * inner + channel, h[n], mask=inside)
    tl.store(sums + at * inner + channel, time, mask=inside)


@triton.jit
def carry_kernel(  # type: ignore[no-untyped-def]
    A, ends, sums, starts, routes, inner, segments, states, blocks,
    BD: tl.constexpr, REVERSE: tl.constexpr, FAST: tl.constexpr,
):  # fmt: skip
    """Chain the segments of one state: start[s + 1] = exp(A time[s]) start[s] + end[s].

    Shapes: A (K, N, D); ends, starts (B, K, segments, N, D); sums (B, K, segments, D).
    Grid: blocks * N * B * K.
    """
    pid = tl.program_id(0)
    n = pid // blocks % states
    route = (pid // blocks // states).to(tl.int64)
    channel = pid % blocks * BD + tl.arange(0, BD)
    inside = channel < inner
    k = route % routes
    rate = tl.load(A + (k * states + n) * inner + channel, mask=inside, other=0.0) * LOG2_E
    h = tl.zeros([BD], tl.float32)
    for i in range(segments):
        at = route * segments + (segments - 1 - i if REVERSE else i)
        row = (at * states + n) * inner + channel
        tl.store(starts + row, h, mask=inside)
        time = tl.load(sums + at * inner + channel, mask=inside, other=0.0)
        h = exp2(time * rate, FAST) * h + tl.load(ends + row, mask=inside, other=0.0)

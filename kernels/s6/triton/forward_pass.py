"""The forward scan as Triton kernels.

One warp owns a block of channels and walks the tokens of a route; the states of a channel are
registers of the thread that owns it (a tuple of N vectors), so the recurrence needs no shuffle
and no shared memory. Routes that are merged are walked one after the other by the same warp, which
adds each to what the earlier ones left of a token: no result of a single route is ever stored.

Loads of U tokens are issued together, before any is used, and what is stored of them comes last:
a load cannot pass an earlier store. A chunk ahead of its use, rows are fetched into the L2 cache.

Where there are too few warps for the device, the tokens are cut into segments that run at the
same time: `summary_kernel` finds where each segment would end from a state of zero, `carry_kernel`
chains these, and `forward_kernel` runs every segment from its true state, one route a launch.
"""

# ruff: noqa: RUF005 - Triton compiles these functions, and knows no star in a tuple.
from __future__ import annotations

import triton
import triton.language as tl

from kernels.common.triton_math import (
    LN_2,
    LOG2_E,
    exp2,
    fetch_rows,
    sigmoid,
    softplus2,
    step_size,
)

CHECKPOINT_EVERY = 32
"""Tokens between two saved states: 1/8 byte of float32 per token-state."""
EVERY = tl.constexpr(CHECKPOINT_EVERY)


@triton.jit
def _scan_tokens(  # type: ignore[no-untyped-def]
    h, rate, shift, skip, order, x_rows, d_rows, b_rows, c_rows, z_rows, sum_rows, y_rows,
    kept_rows, x_step, d_step, b_step, c_step, z_step, inner, inside, earlier, gated, last, scale,
    N: tl.constexpr, U: tl.constexpr, SOFTPLUS: tl.constexpr, GATED: tl.constexpr,
    ADDS: tl.constexpr, SAVE: tl.constexpr, FAST: tl.constexpr,
):  # fmt: skip
    """Carry the state over the next U tokens of a route; return it.

    earlier: where routes before this one have left a sum. gated: where the gate is due. last: no
    route comes after this one.
    """
    token, u, raw, total, gate, bs, cs = (), (), (), (), (), (), ()
    for i in tl.static_range(U):
        token = token + (tl.load(order + i),)
    for i in tl.static_range(U):
        u = u + (tl.load(x_rows + token[i] * x_step, mask=inside, other=0.0).to(tl.float32),)
        raw = raw + (tl.load(d_rows + token[i] * d_step, mask=inside, other=0.0).to(tl.float32),)
        if ADDS:
            total = total + (tl.load(sum_rows + token[i] * inner, mask=earlier, other=0.0),)
        if GATED:
            z_row = tl.load(z_rows + token[i] * z_step, mask=gated, other=0.0)
            gate = gate + (z_row.to(tl.float32),)
        if N <= 2:  # More would take more registers than they save time.
            for n in tl.static_range(N):
                bs = bs + (tl.load(b_rows + token[i] * b_step + n).to(tl.float32),)
                cs = cs + (tl.load(c_rows + token[i] * c_step + n).to(tl.float32),)
    results = ()
    for i in tl.static_range(U):
        if SOFTPLUS:  # In units of 1 / log2(e), and so is the state: it saves a product.
            d = softplus2(raw[i] * LOG2_E + shift, FAST)
        else:
            d = raw[i] + shift
        du = d * u[i]
        y = skip * u[i]
        if ADDS:
            y += total[i]
        after = ()
        for n in tl.static_range(N):
            if N <= 2:
                b_n, c_n = bs[i * N + n], cs[i * N + n]
            else:
                b_n = tl.load(b_rows + token[i] * b_step + n).to(tl.float32)
                c_n = tl.load(c_rows + token[i] * c_step + n).to(tl.float32)
            h_n = exp2(d * rate[n], FAST) * h[n] + du * b_n
            y += h_n * c_n
            after = after + (h_n,)
        h = after
        results = results + (y,)
    if ADDS:
        if last:
            for i in tl.static_range(U):
                _finish(results[i], gate[i] if GATED else 0.0, token[i] * inner, y_rows, kept_rows,
                        inside, scale, GATED, SAVE, FAST)  # fmt: skip
        else:
            for i in tl.static_range(U):
                tl.store(sum_rows + token[i] * inner, results[i], mask=inside)
    else:
        for i in tl.static_range(U):
            _finish(results[i], gate[i] if GATED else 0.0, token[i] * inner, y_rows, kept_rows,
                    inside, scale, GATED, SAVE, FAST)  # fmt: skip
    return h


@triton.jit
def _finish(  # type: ignore[no-untyped-def]
    y, gate, row, y_rows, kept_rows, inside, scale,
    GATED: tl.constexpr, SAVE: tl.constexpr, FAST: tl.constexpr,
):  # fmt: skip
    """Scale, gate and store what all routes made of a token."""
    y = y * scale
    if GATED:
        if SAVE:
            tl.store(kept_rows + row, y, mask=inside)
        y = y * gate * sigmoid(gate, FAST)
    tl.store(y_rows + row, y, mask=inside)


@triton.jit
def forward_kernel(  # type: ignore[no-untyped-def]
    x, delta, A, B, C, D, bias, z, orders, y, sums, ungated, states, starts,
    x_b, x_k, x_step, d_b, d_k, d_step, b_b, b_k, b_step, c_b, c_k, c_step, z_b, z_step,
    routes, from_route, to_route, tokens, steps, inner, blocks, segments, segment_tokens, scale,
    N: tl.constexpr, BD: tl.constexpr, U: tl.constexpr, EXACT: tl.constexpr,
    ROWS: tl.constexpr, PAIRS: tl.constexpr, ORDERS_PER_IMAGE: tl.constexpr, SOFTPLUS: tl.constexpr,
    HAS_D: tl.constexpr, HAS_BIAS: tl.constexpr, GATED: tl.constexpr,
    ADDS: tl.constexpr, PARTIAL: tl.constexpr, MERGED: tl.constexpr,
    SEGMENTED: tl.constexpr, SAVE: tl.constexpr, FAST: tl.constexpr,
):  # fmt: skip
    """Scan one block of channels: of one route, or (ADDS) of several that are added up in turn.

    Shapes: x, delta, B, C, z: rows of channels or states, by the strides of images (x_b), routes
    (x_k, zero where they share) and tokens (x_step); A (K, N, D); D, bias (K, D); orders (K, M) or
    (B, K, M), int32, M being steps; y (B, L, D) or (B, K, L, D); sums (B, L, D), float32, zeros
    if PARTIAL, when it is the result and y is not written; ungated as y; states
    (B, K, M / 32, N, D); starts (B, K, segments, N, D).
    EXACT: blocks divide D. ROWS: x and delta have rows of D numbers; PAIRS: rows of B and C lie
    equally far apart. PARTIAL: routes leave tokens out.
    Grid: blocks * segments * B with ADDS, which walks from_route to to_route; * routes without.
    """
    if ROWS:  # Products with a step that two rows share are computed once.
        x_step = inner
        d_step = inner
    if PAIRS:
        c_step = b_step
    pid = tl.program_id(0)
    block = pid % blocks
    segment = pid // blocks % segments
    if ADDS:
        b = (pid // (blocks * segments)).to(tl.int64)
        first, stop_at = from_route, to_route
    else:
        first = pid // (blocks * segments) % routes
        b = (pid // (blocks * segments) // routes).to(tl.int64)
        stop_at = first + 1
    channel = block * BD + tl.arange(0, BD)
    if EXACT:
        inside = tl.full([BD], True, tl.int1)
    else:
        inside = channel < inner
    begin = segment * segment_tokens
    end = tl.minimum(begin + segment_tokens, steps)
    checkpoints = (steps + EVERY - 1) // EVERY
    lane = tl.arange(0, EVERY)

    for k in range(first, stop_at):
        route = b * routes + k
        k_wide = route - b * routes
        x_rows = x + b * x_b + k_wide * x_k + channel
        d_rows = delta + b * d_b + k_wide * d_k + channel
        b_rows = B + b * b_b + k_wide * b_k
        c_rows = C + b * c_b + k_wide * c_k
        order = orders + (route if ORDERS_PER_IMAGE else k) * steps
        y_rows = y + (b if MERGED else route) * tokens * inner + channel
        kept_rows = ungated + (b if MERGED else route) * tokens * inner + channel
        sum_rows = sums + b * tokens * inner + channel
        z_rows = z + b * z_b + channel
        earlier, gated = inside, inside
        last = False
        if ADDS and not PARTIAL:
            route_here = tl.zeros([BD], tl.int32) + k
            earlier = inside & (route_here > 0)
            gated = inside & (route_here == routes - 1)
            last = k == routes - 1
        shift = tl.zeros([BD], tl.float32)
        skip = tl.zeros([BD], tl.float32)
        if HAS_BIAS:
            shift = tl.load(bias + k * inner + channel, mask=inside, other=0.0)
        if HAS_D:
            skip = tl.load(D + k * inner + channel, mask=inside, other=0.0)
        if SOFTPLUS:
            shift = shift * LOG2_E
            skip = skip * LOG2_E
        rate = ()
        h = ()
        for n in tl.static_range(N):
            rate_n = tl.load(A + (k * N + n) * inner + channel, mask=inside, other=0.0)
            rate = rate + (rate_n if SOFTPLUS else rate_n * LOG2_E,)
            if SEGMENTED:
                start_n = starts + ((route * segments + segment) * N + n) * inner
                h_n = tl.load(start_n + channel, mask=inside, other=0.0)
                h = h + (h_n * LOG2_E if SOFTPLUS else h_n,)
            else:
                h = h + (tl.zeros([BD], tl.float32),)

        ahead = tl.load(order + tl.minimum(begin + EVERY + lane, end - 1))
        for chunk in range(begin // EVERY, (end + EVERY - 1) // EVERY):
            if SAVE:
                saved = (route * checkpoints + chunk) * N * inner
                for n in tl.static_range(N):
                    kept = h[n] * LN_2 if SOFTPLUS else h[n]
                    tl.store(states + saved + n * inner + channel, kept, mask=inside)
            if FAST:
                fetch_rows(x + b * x_b + k_wide * x_k + block * BD + ahead * x_step, BD)
                fetch_rows(delta + b * d_b + k_wide * d_k + block * BD + ahead * d_step, BD)
                ahead = tl.load(order + tl.minimum((chunk + 2) * EVERY + lane, end - 1))
            stop = tl.minimum(chunk * EVERY + EVERY, end)
            whole = stop - (stop - chunk * EVERY) % U
            for t in range(chunk * EVERY, whole, U):
                h = _scan_tokens(
                    h, rate, shift, skip, order + t, x_rows, d_rows, b_rows, c_rows, z_rows,
                    sum_rows, y_rows, kept_rows, x_step, d_step, b_step, c_step, z_step, inner,
                    inside, earlier, gated, last, scale, N, U, SOFTPLUS, GATED, ADDS, SAVE, FAST,
                )  # fmt: skip
            for t in range(whole, stop):
                h = _scan_tokens(
                    h, rate, shift, skip, order + t, x_rows, d_rows, b_rows, c_rows, z_rows,
                    sum_rows, y_rows, kept_rows, x_step, d_step, b_step, c_step, z_step, inner,
                    inside, earlier, gated, last, scale, N, 1, SOFTPLUS, GATED, ADDS, SAVE, FAST,
                )  # fmt: skip
        if ADDS:
            tl.debug_barrier()  # What one lane has added up, another may read for the next route.


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

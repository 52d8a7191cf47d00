"""The backward scan as a Triton kernel.

One warp owns a block of channels of one route and walks it backwards, 32 tokens at a time from
a state that the forward saved. It first re-runs the 32 tokens, leaving the state before every
fourth in scratch memory (L2 holds it); then, four tokens at a time, it re-runs them once more
in registers and sends the gradient back through them. States are never read from where the
forward computed them, and nothing is divided by a decay.

States of a block are a tile (N, BD) whose lanes split both axes: the sums over channels for
the gradients of B and C, which are what costs here, then take a few shuffles for a whole tile.
Each block writes its own share of those sums; adding the shares afterwards has a fixed order.
"""

# ruff: noqa: RUF005 - Triton compiles these functions, and knows no star in a tuple.
from __future__ import annotations

import triton
import triton.language as tl

from kernels.common.triton_math import LN_2, LOG2_E, exp2, sigmoid, step_size
from kernels.s6.triton.forward_pass import EVERY


@triton.jit
def backward_kernel(  # type: ignore[no-untyped-def]
    grad_y, x, delta, A, B, C, D, bias, orders, states, starts, scratch,
    grad_x, sums, grad_delta, grad_A, grad_B, grad_C, grad_D, grad_bias,
    x_b, x_k, x_step, d_b, d_k, d_step, b_b, b_k, b_step, c_b, c_k, c_step,
    batch, routes, from_route, to_route, tokens, steps, inner, state, programs, blocks, segments,
    segment_tokens, scale,
    N: tl.constexpr, BD: tl.constexpr, U: tl.constexpr, EXACT: tl.constexpr,
    ROWS: tl.constexpr, PAIRS: tl.constexpr, Y_PER_ROUTE: tl.constexpr,
    ORDERS_PER_IMAGE: tl.constexpr,
    SOFTPLUS: tl.constexpr, HAS_D: tl.constexpr, HAS_BIAS: tl.constexpr,
    ADDS: tl.constexpr, PARTIAL: tl.constexpr, SEGMENTED: tl.constexpr, FAST: tl.constexpr,
):  # fmt: skip
    """Send the gradient back through a block of channels of one route, or of several (ADDS).

    Shapes: as the forward, with N padded to a power of two over `state` real ones;
    grad_y (B, L, D) or (B, K, L, D); grad_x as x; sums (B, L, D) float32, with ADDS, zeros if
    PARTIAL, when they are the result and grad_x is not written; grad_delta (B, K, L, D);
    grad_A (B, segments, K, state, D), grad_D and grad_bias (B, segments, K, D), float32;
    grad_B, grad_C (blocks, B, K, L, state), float32; starts (B, K, segments, state, D), the
    gradient of the state that comes from behind a segment; scratch (grid, 32 / U, N, BD).
    Grid: at most `programs`, which are those of the forward: fewer take several in turn, so that
    the scratch memory is that of the warps that run at once.
    """
    if ROWS:  # Products with a step that two rows share are computed once.
        x_step = inner
        d_step = inner
    if PAIRS:
        c_step = b_step
    lane = tl.arange(0, BD)
    n = tl.arange(0, N)
    if EXACT:
        real = tl.full([N], True, tl.int1)
    else:
        real = n < state
    checkpoints = (steps + EVERY - 1) // EVERY
    mine = scratch + tl.program_id(0).to(tl.int64) * (EVERY // U) * N * BD
    mine = mine + n[:, None] * BD + lane[None, :]
    for pid in range(tl.program_id(0), programs, tl.num_programs(0)):
        block = pid % blocks
        segment = pid // blocks % segments
        if ADDS:
            b = (pid // (blocks * segments)).to(tl.int64)
            first, stop_at = from_route, to_route
        else:
            first = pid // (blocks * segments) % routes
            b = (pid // (blocks * segments) // routes).to(tl.int64)
            stop_at = first + 1
        channel = block * BD + lane
        if EXACT:
            inside = tl.full([BD], True, tl.int1)
        else:
            inside = channel < inner
        tile = n[:, None] * inner + channel[None, :]
        in_tile = real[:, None] & inside[None, :]
        begin = segment * segment_tokens
        end = tl.minimum(begin + segment_tokens, steps)

        for k in range(first, stop_at):
            route = b * routes + k
            k_wide = route - b * routes
            x_rows = x + b * x_b + k_wide * x_k
            y_rows = grad_y + (route if Y_PER_ROUTE else b) * tokens * inner
            d_base = route * tokens * inner
            d_rows = delta + b * d_b + k_wide * d_k
            b_rows = B + b * b_b + k_wide * b_k + n
            c_rows = C + b * c_b + k_wide * c_k + n
            order = orders + (route if ORDERS_PER_IMAGE else k) * steps
            share = ((block.to(tl.int64) * batch + b) * routes + k) * tokens * state
            b_share = grad_B + share + n
            c_share = grad_C + share + n
            to_delta = grad_delta + d_base
            x_of_route = grad_x + d_base
            x_of_image = grad_x + b * tokens * inner
            image_sum = sums + b * tokens * inner
            earlier = inside
            last = False
            if ADDS and not PARTIAL:
                earlier = inside & ((tl.zeros([BD], tl.int32) + k) > 0)
                last = k == routes - 1
            shift = tl.zeros([BD], tl.float32)
            skip = tl.zeros([BD], tl.float32)
            if HAS_BIAS:
                shift = tl.load(bias + k * inner + channel, mask=inside, other=0.0)
            if HAS_D:
                skip = tl.load(D + k * inner + channel, mask=inside, other=0.0)
            rate = tl.load(A + k * state * inner + tile, mask=in_tile, other=0.0) * LOG2_E
            sum_A = tl.zeros([N, BD], tl.float32)
            sum_D = tl.zeros([BD], tl.float32)
            sum_bias = tl.zeros([BD], tl.float32)
            if SEGMENTED:
                behind = starts + (route * segments + segment) * state * inner
                carried = tl.load(behind + tile, mask=in_tile, other=0.0)
            else:
                carried = tl.zeros([N, BD], tl.float32)
            final = (end + EVERY - 1) // EVERY - 1
            for back in range(0, final - begin // EVERY + 1):
                chunk = final - back
                stop = tl.minimum(chunk * EVERY + EVERY, end)
                saved = (route * checkpoints + chunk) * state * inner
                h = tl.load(states + saved + tile, mask=in_tile, other=0.0)
                groups = (stop - chunk * EVERY + U - 1) // U
                for group in range(0, groups):
                    tl.store(mine + group * N * BD, h)
                    for i in tl.static_range(U):
                        t = chunk * EVERY + group * U + i
                        valid = (tl.zeros([BD], tl.int32) + t) < stop
                        token = tl.load(order + tl.minimum(t, end - 1))
                        u = tl.load(x_rows + (token * x_step + channel), mask=inside, other=0.0).to(
                            tl.float32
                        )
                        raw = tl.load(
                            d_rows + (token * d_step + channel), mask=inside, other=0.0
                        ).to(tl.float32)
                        b_t = tl.load(b_rows + token * b_step, mask=real, other=0.0).to(tl.float32)
                        d = step_size(raw + shift, valid, SOFTPLUS, FAST)
                        h = exp2(d[None, :] * rate, FAST) * h + (d * u)[None, :] * b_t[:, None]
                tl.debug_barrier()  # What one lane left in scratch another may read.
                for group_back in range(0, groups):
                    group = groups - 1 - group_back
                    t0 = chunk * EVERY + group * U
                    h = tl.load(mine + group * N * BD)
                    before, decay, ds, us, gs, bs, cs, at = (), (), (), (), (), (), (), ()
                    raws, sums_before, to_xs = (), (), ()
                    for i in tl.static_range(U):
                        valid = (tl.zeros([BD], tl.int32) + t0 + i) < stop
                        token = tl.load(order + tl.minimum(t0 + i, end - 1))
                        g = tl.load(
                            y_rows + (token * inner + channel), mask=valid & inside, other=0.0
                        )
                        u = tl.load(x_rows + (token * x_step + channel), mask=inside, other=0.0)
                        raw = tl.load(d_rows + (token * d_step + channel), mask=inside, other=0.0)
                        b_t = tl.load(b_rows + token * b_step, mask=real, other=0.0)
                        c_t = tl.load(c_rows + token * c_step, mask=real, other=0.0)
                        if ADDS:
                            x_sum = image_sum + (token * inner + channel)
                            x_sum = tl.load(x_sum, mask=valid & earlier, other=0.0)
                            sums_before = sums_before + (x_sum,)
                        at = at + (token,)
                        gs = gs + (g.to(tl.float32) * scale,)
                        us = us + (u.to(tl.float32),)
                        raws = raws + (raw.to(tl.float32) + shift,)
                        bs = bs + (b_t.to(tl.float32),)
                        cs = cs + (c_t.to(tl.float32),)
                    for i in tl.static_range(U):
                        valid = (tl.zeros([BD], tl.int32) + t0 + i) < stop
                        d = step_size(raws[i], valid, SOFTPLUS, FAST)
                        ds = ds + (d,)
                        before = before + (h,)
                        a = exp2(d[None, :] * rate, FAST)
                        decay = decay + (a,)
                        h = a * h + (d * us[i])[None, :] * bs[i][:, None]
                    for i in tl.static_range(U - 1, -1, -1):
                        valid = (tl.zeros([BD], tl.int32) + t0 + i) < stop
                        present = (tl.zeros([N], tl.int32) + t0 + i) < stop
                        to_c = tl.sum(h * gs[i][None, :], axis=1)
                        grad_h = carried + cs[i][:, None] * gs[i][None, :]
                        to_b = tl.sum(grad_h * (ds[i] * us[i])[None, :], axis=1)
                        from_drive = tl.sum(grad_h * bs[i][:, None], axis=0)
                        carried = grad_h * decay[i]
                        through = carried * before[i]
                        to_step = tl.sum(through * rate, axis=0) * LN_2
                        sum_A += through * ds[i][None, :]
                        h = before[i]
                        to_x = from_drive * ds[i] + skip * gs[i]
                        to_d = to_step + from_drive * us[i]
                        if SOFTPLUS:
                            to_d = to_d * sigmoid(raws[i], FAST)
                        to_d = tl.where(valid, to_d, 0.0)
                        sum_D += gs[i] * us[i]
                        sum_bias += to_d
                        row = at[i] * inner + channel
                        here = valid & inside
                        tl.store(to_delta + row, to_d, mask=here)
                        tl.store(b_share + at[i] * state, to_b, mask=present & real)
                        tl.store(c_share + at[i] * state, to_c, mask=present & real)
                        to_xs = to_xs + (to_x,)
                    for i in tl.static_range(U):
                        here = ((tl.zeros([BD], tl.int32) + t0 + i) < stop) & inside
                        to_x = to_xs[U - 1 - i]
                        row = at[i] * inner + channel
                        if ADDS:
                            to_x += sums_before[i]
                            if last:
                                tl.store(x_of_image + row, to_x, mask=here)
                            else:
                                tl.store(image_sum + row, to_x, mask=here)
                        else:
                            tl.store(x_of_route + row, to_x, mask=here)
                tl.debug_barrier()
            at_route = (b * segments + segment) * routes + k
            tl.store(grad_A + at_route * state * inner + tile, sum_A, mask=in_tile)
            tl.store(grad_D + at_route * inner + channel, sum_D, mask=inside)
            tl.store(grad_bias + at_route * inner + channel, sum_bias, mask=inside)

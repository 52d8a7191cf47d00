"""The `chunked` backend: matrix products of PyTorch, on the CPU and on any other device.

Tokens of a route are cut into chunks of Q. With s the sum of the log decays d A up to and with
a token, in its chunk, and U = d u, the result of a chunk that a state H (N, P) enters is

    Y  = (C B^T o exp(s_i - s_j), j <= i) U + exp(s_i) C H
    H' = exp(s_Q) H + (exp(s_Q - s_j) B)^T U

which needs Q products a token-channel beside those of the states, and no loop over tokens. No
exponent is positive where A is negative, and nothing is divided by a decay.

Source: Dao and Gu, Mamba-2, arXiv 2405.21060, section 6; the gradients are written out here.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from kernels.common.calls import result_shape
from kernels.common.dispatch import allocate
from kernels.common.orders import (
    full_orders,
    gate_tokens,
    merge_routes,
    ungate_and_spread,
    unvisit,
    visit,
)
from kernels.ssd.call import SsdCall

CHUNK = 32
"""Q: of 32, 64 and 128 the quickest on a CPU, forward and backward, at N = 16 and N = 64."""


class _Chunks(NamedTuple):
    """A scan cut into chunks.

    Shapes: u, drive (B, K, c, Q, H, P); step, raw, cumulated (B, K, c, Q, H), cumulated being
    the sum of log decays; B, C (B, K, c, Q, N); order (B, K, M).
    """

    order: Tensor
    u: Tensor
    drive: Tensor
    raw: Tensor
    step: Tensor
    cumulated: Tensor
    B: Tensor
    C: Tensor

    @property
    def decays(self) -> Tensor:
        """Return exp(s_i - s_j), zero for j > i. Shapes: (B, K, c, H, Q, Q)."""
        s = self.cumulated.transpose(3, 4)
        later = torch.ones(s.shape[-1], s.shape[-1], dtype=torch.bool, device=s.device).triu(1)
        return (s.unsqueeze(-1) - s.unsqueeze(-2)).masked_fill_(later, -torch.inf).exp_()

    @property
    def to_end(self) -> Tensor:
        """Return exp(s_Q - s_j), with an axis for the channels."""
        return (self.cumulated[:, :, :, -1:] - self.cumulated).exp().unsqueeze(-1)

    @property
    def from_start(self) -> Tensor:
        """Return exp(s_i), with an axis for the channels."""
        return self.cumulated.exp().unsqueeze(-1)

    @property
    def whole(self) -> Tensor:
        """Return exp(s_Q), what is left of a state. Shapes: (B, K, c, 1, H, 1)."""
        return self.cumulated[:, :, :, -1:].exp().unsqueeze(-1)


def _by_head(tensor: Tensor) -> Tensor:
    """Turn (B, K, c, Q, H, P) into (B, K, c, H, Q, P), or back."""
    return tensor.transpose(3, 4)


def _product(left: Tensor, right: Tensor) -> Tensor:
    """Multiply what all heads share (.., I, J) with all heads at once, (.., J, H, P)."""
    return (left @ right.flatten(-2)).unflatten(-1, right.shape[-2:])


def _cut(tensor: Tensor) -> Tensor:
    """Cut visited tokens (B, K, M, F) into (B, K, c, Q, F), the last chunk filled with zeros."""
    length = min(CHUNK, tensor.shape[2])
    return F.pad(tensor, (0, 0, 0, -tensor.shape[2] % length)).unflatten(2, (-1, length))


def _prepare(call: SsdCall) -> _Chunks:
    order = full_orders(call.orders, call.delta)
    dtype = torch.float64 if call.x.dtype == torch.float64 else torch.float32
    routes, _, heads = call.delta.shape[1:]
    x = (call.x if call.x_per_route else call.x.unsqueeze(1)).expand(-1, routes, -1, -1)
    u, raw, b, c = (visit(t.to(dtype), order) for t in (x, call.delta, call.B, call.C))
    if call.delta_bias is not None:
        raw = raw + call.delta_bias.to(dtype).unsqueeze(1)
    step = F.softplus(raw) if call.delta_softplus else raw
    decay = step * call.A.to(dtype).unsqueeze(1)
    u, raw, step, decay, b, c = map(_cut, (u, raw, step, decay, b, c))
    u = u.unflatten(-1, (heads, -1))
    return _Chunks(order, u, step.unsqueeze(-1) * u, raw, step, decay.cumsum(3), b, c)


def _chain(whole: Tensor, ends: Tensor, reverse: bool) -> Tensor:
    """Return the state that enters each chunk; from behind, of its gradient, with reverse.

    Shapes: whole (B, K, c, 1, H, 1), ends and the result (B, K, c, N, H, P).
    """
    starts = torch.zeros_like(ends)
    h = starts[:, :, 0]
    chunks = range(ends.shape[2])
    for i in reversed(chunks) if reverse else chunks:
        starts[:, :, i] = h
        h = torch.addcmul(ends[:, :, i], whole[:, :, i], h)
    return starts


def _uncut(tensor: Tensor, chunks: _Chunks, tokens: int) -> Tensor:
    """Put (B, K, c, Q, F) back into raster order (B, K, L, F)."""
    return unvisit(tensor.flatten(2, 3)[:, :, : chunks.order.shape[2]], chunks.order, tokens)


def kept(call: SsdCall) -> list[tuple[tuple[int, ...], torch.dtype]]:
    """Return what the forward leaves: the state that enters each chunk, and y before its gate."""
    batch, routes, tokens, heads = call.delta.shape
    steps = tokens if call.orders is None else call.orders.shape[-1]
    count = -(-steps // min(CHUNK, steps))
    states = (batch, routes, count, call.B.shape[-1], heads, call.head)
    dtype = torch.float64 if call.x.dtype == torch.float64 else torch.float32
    return [(states, dtype), (result_shape(call) if call.z is not None else (0,), call.x.dtype)]


def forward(call: SsdCall, save: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Run the scan; return y, the states kept for the backward, and y before its gate.

    Raises: KernelError when a row of orders visits a token twice.
    """
    s = _prepare(call)
    starts = _chain(s.whole, _product(s.B.mT, s.to_end * s.drive), reverse=False)
    mixed = (s.C @ s.B.mT).unsqueeze(3) * s.decays
    y = _by_head(mixed @ _by_head(s.drive)) + s.from_start * _product(s.C, starts)
    if call.D is not None:
        y = y + call.D.to(y.dtype)[:, None, None, :, None] * s.u
    y = _uncut(y.flatten(4), s, call.delta.shape[2])
    ungated = merge_routes(y, call.merge)
    states, before_gate = allocate(kept(call), save, y.device)
    if save:
        states = starts
        before_gate = ungated.to(call.x.dtype) if call.z is not None else before_gate
    y = gate_tokens(ungated, call.z).to(call.x.dtype)
    return (y.clone() if y is ungated or y is before_gate else y).contiguous(), states, before_gate


def backward(
    call: SsdCall, grad_y: Tensor, states: Tensor, ungated: Tensor
) -> dict[str, Tensor | None]:
    """Return the gradients of the scan from the states that the forward kept."""
    s = _prepare(call)
    routes, tokens, heads = call.delta.shape[1:]
    grad, grad_z = ungate_and_spread(grad_y.to(s.u.dtype), ungated, call.z, call.merge, routes)
    g = _cut(visit(grad, s.order)).unflatten(-1, (heads, -1))
    decays = s.decays
    g_start, drive_end = g * s.from_start, s.drive * s.to_end
    behind = _chain(s.whole, _product(s.C.mT, g_start), reverse=True)
    mixed = (s.C @ s.B.mT).unsqueeze(3) * decays
    to_end = _product(s.B, behind)
    grad_drive = _by_head(mixed.mT @ _by_head(g)) + s.to_end * to_end
    to_mixed = _by_head(g) @ _by_head(s.drive).mT
    products = (to_mixed * decays).sum(3)
    grad_C = products @ s.B + g_start.flatten(-2) @ states.flatten(-2).mT
    grad_B = products.mT @ s.C + drive_end.flatten(-2) @ behind.flatten(-2).mT
    entered = (g_start * _product(s.C, states)).sum(-1)
    left, passed = (drive_end * to_end).sum(-1), (s.whole * behind * states).sum((3, 5))
    grad_decay = _through_decays(to_mixed.mul_(mixed), entered, left, passed)
    grad_step = grad_decay * call.A.to(g.dtype)[:, None, None] + (grad_drive * s.u).sum(-1)
    if call.delta_softplus:
        grad_step = grad_step * torch.sigmoid(s.raw)
    grad_u = grad_drive * s.step.unsqueeze(-1)
    if call.D is not None:
        grad_u = grad_u + call.D.to(g.dtype)[:, None, None, :, None] * g
    grad_x = _uncut(grad_u.flatten(4), s, tokens)
    grad_delta = _uncut(grad_step, s, tokens)
    return {
        "x": grad_x if call.x_per_route else grad_x.sum(1),
        "delta": grad_delta,
        "A": (grad_decay * s.step).sum((0, 2, 3)),
        "B": _uncut(grad_B, s, tokens),
        "C": _uncut(grad_C, s, tokens),
        "D": None if call.D is None else (g * s.u).sum((0, 2, 3, 5)),
        "z": grad_z,
        "delta_bias": None if call.delta_bias is None else grad_delta.sum((0, 2)),
    }


def _through_decays(mixed: Tensor, entered: Tensor, left: Tensor, passed: Tensor) -> Tensor:
    """Return the gradients of the log decays, as sums of what passes through each token.

    Not as differences of sums of the cumulated ones, which would cancel to 4e-5 in float32.

    Shapes: of each product, whose derivative by its own exponent is itself: mixed, token i from
    token j, (B, K, c, H, Q, Q); entered, token i from the chunk's state, and left, the chunk's
    end from token j, (B, K, c, Q, H), as the result; passed, state to state, (B, K, c, H).
    """
    ones = torch.ones(mixed.shape[-2:], dtype=mixed.dtype, device=mixed.device)
    from_behind = (ones.triu() @ mixed).mul_(ones.tril(-1)).sum(-1).transpose(3, 4)
    entering = entered.flip(3).cumsum(3).flip(3)
    leaving = F.pad(left, (0, 0, 1, 0)).cumsum(3)[:, :, :, :-1]
    return from_behind + entering + leaving + passed.unsqueeze(3)

"""The scan in plain PyTorch: the specification that every backend is tested against.

One route k of one image visits tokens in the order p = orders[k], all or some, each once. With a
step size d_t = softplus(delta[p_t] + bias), a state h (D, N) and h_0 = 0:

    h_t    = exp(d_t A) h_{t-1} + d_t u[p_t] B[p_t]
    y[p_t] = C[p_t] . h_t + D u[p_t]

y is zero where the route does not come. The routes are then summed or averaged per raster token,
and gated by silu(z). The state is
float32, or float64 where the input is. Never divides by a decay, so no exponent overflows.

Source: selective SSM (S6) of Gu and Dao, Mamba, arXiv 2312.00752, algorithm 2, with the
simplified (Euler) discretization of B that its released code uses; the routes are the
cross-scan of Liu et al., VMamba, arXiv 2401.10166.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from kernels.common.orders import (
    full_orders,
    gate_tokens,
    merge_routes,
    ungate_and_spread,
    unvisit,
    visit,
)
from kernels.s6.call import ScanCall


def _in_visit_order(call: ScanCall, order: Tensor) -> list[Tensor]:
    """Return u, delta + bias, B and C of every route in the order of its visits."""
    dtype = torch.float64 if call.x.dtype == torch.float64 else torch.float32
    u = (call.x if call.x_per_route else call.x.unsqueeze(1).expand_as(call.delta)).to(dtype)
    delta = call.delta.to(dtype)
    if call.delta_bias is not None:
        delta = delta + call.delta_bias.to(dtype).unsqueeze(1)
    return [visit(tensor, order) for tensor in (u, delta, call.B.to(dtype), call.C.to(dtype))]


def scan(call: ScanCall) -> Tensor:
    """Run the scan one token at a time; differentiable by autograd.

    Raises: KernelError when a row of orders visits a token twice.
    """
    order = full_orders(call.orders, call.delta)
    u, d, b, c = _in_visit_order(call, order)
    d = F.softplus(d) if call.delta_softplus else d
    A = call.A.to(d.dtype)
    h = torch.zeros(*d.shape[:2], *A.shape[1:], dtype=d.dtype, device=d.device)
    steps = []
    for u_t, d_t, b_t, c_t in zip(u.unbind(2), d.unbind(2), b.unbind(2), c.unbind(2)):
        h = torch.exp(d_t.unsqueeze(-1) * A) * h + (d_t * u_t).unsqueeze(-1) * b_t.unsqueeze(-2)
        steps.append((h * c_t.unsqueeze(-2)).sum(-1))
    y = torch.stack(steps, dim=2)
    if call.D is not None:
        y = y + call.D.to(d.dtype).unsqueeze(1) * u
    y = merge_routes(unvisit(y, order, call.delta.shape[2]), call.merge)
    return gate_tokens(y, call.z).to(call.x.dtype)


def kept(call: ScanCall) -> list[tuple[tuple[int, ...], torch.dtype]]:
    """Return what the forward leaves for the backward: nothing."""
    return [((0,), torch.float32), ((0,), call.x.dtype)]


def forward(call: ScanCall, save: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Run the scan; the backward needs nothing but the inputs again."""
    nothing = call.x.new_empty(0)
    return scan(call).contiguous(), nothing.float().clone(), nothing


def backward(
    call: ScanCall, grad_y: Tensor, states: Tensor, ungated: Tensor
) -> dict[str, Tensor | None]:
    """Return the gradients of `scan` by the reverse recurrence, written out.

    With g_t the gradient of the route's y at step t and G_t that of its state:
    G_t = C_t g_t + exp(d_{t+1} A) G_{t+1}. Gradcheck proves it against `scan` in float64.
    """
    order = full_orders(call.orders, call.delta)
    u, raw, b, c = _in_visit_order(call, order)
    d = F.softplus(raw) if call.delta_softplus else raw
    before_gate = None
    if call.z is not None:
        before_gate = scan(call._replace(x=call.x.to(d.dtype), z=None))
    grad, grad_z = ungate_and_spread(
        grad_y.to(d.dtype), before_gate, call.z, call.merge, d.shape[1]
    )
    g = visit(grad, order)
    A = call.A.to(d.dtype)
    grad_u, grad_d, grad_A, grad_b, grad_c = _reverse(u, d, A, b, c, g)
    grad_D = None
    if call.D is not None:
        grad_D = (g * u).sum((0, 2))
        grad_u = torch.addcmul(grad_u, g, call.D.to(d.dtype).unsqueeze(1))
    if call.delta_softplus:
        grad_d = grad_d * torch.sigmoid(raw)
    tokens = call.delta.shape[2]
    grad_x = unvisit(grad_u, order, tokens)
    return {
        "x": grad_x if call.x_per_route else grad_x.sum(1),
        "delta": unvisit(grad_d, order, tokens),
        "A": grad_A,
        "B": unvisit(grad_b, order, tokens),
        "C": unvisit(grad_c, order, tokens),
        "D": grad_D,
        "z": grad_z,
        "delta_bias": grad_d.sum((0, 2)),
    }


def _reverse(
    u: Tensor, d: Tensor, A: Tensor, b: Tensor, c: Tensor, g: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of u, d, A, B and C of routes in the order of their visits.

    Shapes: u, d, g (B, K, L, D); A (K, D, N); b, c (B, K, L, N).
    """
    states = [torch.zeros(*d.shape[:2], *A.shape[1:], dtype=d.dtype, device=d.device)]
    for t in range(d.shape[2]):
        decay = torch.exp(d[:, :, t, :, None] * A)
        drive = (d[:, :, t] * u[:, :, t]).unsqueeze(-1) * b[:, :, t, None, :]
        states.append(torch.addcmul(drive, decay, states[-1]))

    grad_u, grad_d = torch.zeros_like(u), torch.zeros_like(d)
    grad_b, grad_c = torch.zeros_like(b), torch.zeros_like(c)
    grad_A = torch.zeros_like(states[0])
    carried = torch.zeros_like(states[0])
    for t in reversed(range(d.shape[2])):
        u_t, d_t, b_t, g_t = u[:, :, t], d[:, :, t], b[:, :, t], g[:, :, t]
        decay = torch.exp(d_t.unsqueeze(-1) * A)
        grad_h = torch.addcmul(carried, g_t.unsqueeze(-1), c[:, :, t].unsqueeze(-2))
        carried = grad_h * decay
        through_decay = carried * states[t]
        from_drive = (grad_h * b_t.unsqueeze(-2)).sum(-1)
        grad_u[:, :, t] = from_drive * d_t
        grad_d[:, :, t] = from_drive * u_t + (through_decay * A).sum(-1)
        grad_A += through_decay * d_t.unsqueeze(-1)
        grad_b[:, :, t] = (grad_h * (d_t * u_t).unsqueeze(-1)).sum(-2)
        grad_c[:, :, t] = (states[t + 1] * g_t.unsqueeze(-1)).sum(-2)
    return grad_u, grad_d, grad_A.sum(0), grad_b, grad_c

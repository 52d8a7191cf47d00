"""The scan in plain PyTorch: the specification that every backend is tested against.

One route k of one image visits its tokens in the order p = orders[k]. With a step size
d_t = softplus(delta[p_t] + bias), a state h (D, N) and h_0 = 0:

    h_t    = exp(d_t A) h_{t-1} + d_t u[p_t] B[p_t]
    y[p_t] = C[p_t] . h_t + D u[p_t]

The routes are then summed or averaged per raster token, and gated by silu(z). The state is
float32, or float64 where the input is. Never divides by a decay, so no exponent overflows.

Source: selective SSM (S6) of Gu and Dao, Mamba, arXiv 2312.00752, algorithm 2, with the
simplified (Euler) discretization of B that its released code uses; the routes are the
cross-scan of Liu et al., VMamba, arXiv 2401.10166.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from kernels.shapes import check_orders


class ScanGradients(NamedTuple):
    """Gradients of a scan, in the order of its inputs; None where the input is absent."""

    x: Tensor
    delta: Tensor
    A: Tensor
    B: Tensor
    C: Tensor
    D: Tensor | None
    z: Tensor | None
    delta_bias: Tensor | None


def _compute_dtype(x: Tensor) -> torch.dtype:
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def _full_orders(orders: Tensor | None, delta: Tensor) -> Tensor:
    """Expand an order table to (B, K, L), int64; raster order where there is none."""
    batch, routes, tokens, _ = delta.shape
    if orders is None:
        return torch.arange(tokens, device=delta.device).expand(batch, routes, tokens)
    check_orders(orders)
    return orders.to(torch.int64).expand(batch, routes, tokens)


def _visit(tensor: Tensor, order: Tensor) -> Tensor:
    """Put raster tokens (B, K, L, F) into the order (B, K, L) in which a route visits them."""
    return tensor.gather(2, order.unsqueeze(-1).expand_as(tensor))


def _unvisit(tensor: Tensor, order: Tensor) -> Tensor:
    """Put tokens (B, K, L, F) in the order of a route back into raster order."""
    return torch.zeros_like(tensor).scatter(2, order.unsqueeze(-1).expand_as(tensor), tensor)


def _merge(y: Tensor, merge: str) -> Tensor:
    """Merge routes (B, K, L, D) into (B, L, D), or keep them."""
    return {"sum": y.sum, "mean": y.mean}[merge](1) if merge != "none" else y


def _in_visit_order(
    x: Tensor, delta: Tensor, B: Tensor, C: Tensor, delta_bias: Tensor | None, order: Tensor
) -> list[Tensor]:
    """Return u, delta + bias, B and C of every route in the order of its visits."""
    dtype = _compute_dtype(x)
    u = (x if x.dim() == 4 else x.unsqueeze(1).expand_as(delta)).to(dtype)
    delta = delta.to(dtype)
    if delta_bias is not None:
        delta = delta + delta_bias.to(dtype).unsqueeze(1)
    return [_visit(tensor, order) for tensor in (u, delta, B.to(dtype), C.to(dtype))]


def scan(
    x: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    orders: Tensor | None = None,
    delta_softplus: bool = False,
    merge: str = "sum",
) -> Tensor:
    """Run the scan one token at a time; differentiable by autograd.

    Shapes: as `kernels.dispatch.cross_scan`.
    Raises: KernelError when a row of orders is not a permutation.
    """
    order = _full_orders(orders, delta)
    u, d, b, c = _in_visit_order(x, delta, B, C, delta_bias, order)
    d = F.softplus(d) if delta_softplus else d
    A = A.to(d.dtype)
    h = torch.zeros(*d.shape[:2], *A.shape[1:], dtype=d.dtype, device=d.device)
    steps = []
    for u_t, d_t, b_t, c_t in zip(u.unbind(2), d.unbind(2), b.unbind(2), c.unbind(2)):
        h = torch.exp(d_t.unsqueeze(-1) * A) * h + (d_t * u_t).unsqueeze(-1) * b_t.unsqueeze(-2)
        steps.append((h * c_t.unsqueeze(-2)).sum(-1))
    y = torch.stack(steps, dim=2)
    if D is not None:
        y = y + D.to(d.dtype).unsqueeze(1) * u
    y = _merge(_unvisit(y, order), merge)
    if z is not None:
        gate = F.silu(z.to(d.dtype))
        y = y * (gate.unsqueeze(1) if merge == "none" else gate)
    return y.to(x.dtype)


def scan_backward(
    grad_y: Tensor,
    x: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    orders: Tensor | None,
    delta_softplus: bool,
    merge: str,
) -> ScanGradients:
    """Return the gradients of `scan` by the reverse recurrence, written out.

    With g_t the gradient of the route's y at step t and G_t that of its state:
    G_t = C_t g_t + exp(d_{t+1} A) G_{t+1}. Gradcheck proves it against `scan` in float64.

    Shapes: grad_y as y; gradients as their inputs.
    """
    order = _full_orders(orders, delta)
    u, raw, b, c = _in_visit_order(x, delta, B, C, delta_bias, order)
    d = F.softplus(raw) if delta_softplus else raw
    A_ = A.to(d.dtype)
    routes, tokens = d.shape[1:3]
    grad, grad_z = grad_y.to(d.dtype), None
    if z is not None:
        gate = z.to(d.dtype)
        sigmoid = torch.sigmoid(gate)
        wide = x.to(d.dtype)
        product = grad * scan(
            wide, delta, A, B, C, D, None, delta_bias, orders, delta_softplus, merge
        )
        product = product.sum(1) if merge == "none" else product
        grad_z = product * sigmoid * (1 + gate * (1 - sigmoid))
        silu = gate * sigmoid
        grad = grad * (silu.unsqueeze(1) if merge == "none" else silu)
    if merge != "none":
        grad = (grad / routes if merge == "mean" else grad).unsqueeze(1).expand_as(d)
    g = _visit(grad, order)

    states = [torch.zeros(*d.shape[:2], *A.shape[1:], dtype=d.dtype, device=d.device)]
    for t in range(tokens):
        decay = torch.exp(d[:, :, t, :, None] * A_)
        drive = (d[:, :, t] * u[:, :, t]).unsqueeze(-1) * b[:, :, t, None, :]
        states.append(torch.addcmul(drive, decay, states[-1]))

    grad_u, grad_d = torch.zeros_like(u), torch.zeros_like(d)
    grad_b, grad_c = torch.zeros_like(b), torch.zeros_like(c)
    grad_A = torch.zeros_like(states[0])
    carried = torch.zeros_like(states[0])
    for t in reversed(range(tokens)):
        u_t, d_t, b_t, g_t = u[:, :, t], d[:, :, t], b[:, :, t], g[:, :, t]
        decay = torch.exp(d_t.unsqueeze(-1) * A_)
        grad_h = torch.addcmul(carried, g_t.unsqueeze(-1), c[:, :, t].unsqueeze(-2))
        carried = grad_h * decay
        through_decay = carried * states[t]
        from_drive = (grad_h * b_t.unsqueeze(-2)).sum(-1)
        grad_u[:, :, t] = from_drive * d_t
        grad_d[:, :, t] = from_drive * u_t + (through_decay * A_).sum(-1)
        grad_A += through_decay * d_t.unsqueeze(-1)
        grad_b[:, :, t] = (grad_h * (d_t * u_t).unsqueeze(-1)).sum(-2)
        grad_c[:, :, t] = (states[t + 1] * g_t.unsqueeze(-1)).sum(-2)

    grad_D = None if D is None else (g * u).sum((0, 2))
    if D is not None:
        grad_u = torch.addcmul(grad_u, g, D.to(d.dtype).unsqueeze(1))
    if delta_softplus:
        grad_d = grad_d * torch.sigmoid(raw)
    grad_x = _unvisit(grad_u, order)
    return ScanGradients(
        x=grad_x if x.dim() == 4 else grad_x.sum(1),
        delta=_unvisit(grad_d, order),
        A=grad_A.sum(0),
        B=_unvisit(grad_b, order),
        C=_unvisit(grad_c, order),
        D=grad_D,
        z=grad_z,
        delta_bias=None if delta_bias is None else grad_d.sum((0, 2)),
    )


def states_shape(delta: Tensor, state: int) -> tuple[int, ...]:
    """Return the shape of what the forward keeps for the backward: nothing."""
    return (0,)


def forward(
    x: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    orders: Tensor | None,
    delta_softplus: bool,
    merge: str,
    save: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Run the scan for the custom op; the backward needs nothing but the inputs again."""
    y = scan(x, delta, A, B, C, D, z, delta_bias, orders, delta_softplus, merge)
    return y.contiguous(), x.new_empty(0, dtype=torch.float32), x.new_empty(0)


def backward(
    grad_y: Tensor,
    x: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    orders: Tensor | None,
    states: Tensor,
    ungated: Tensor,
    delta_softplus: bool,
    merge: str,
) -> ScanGradients:
    """Return the gradients for the custom op."""
    return scan_backward(grad_y, x, delta, A, B, C, D, z, delta_bias, orders, delta_softplus, merge)

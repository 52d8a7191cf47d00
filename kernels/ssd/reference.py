"""SSD in plain PyTorch: the specification that every backend is tested against.

As S6 (`kernels.s6.reference`), but that the channels of a head share one decay, for all states,
and one step. With d_t = softplus(delta[p_t] + bias) of a head and its state h (P, N):

    h_t    = exp(d_t A) h_{t-1} + d_t u[p_t] B[p_t]
    y[p_t] = C[p_t] . h_t + D u[p_t]

Source: Dao and Gu, Mamba-2, arXiv 2405.21060, section 6, with one group of B and C; A = 0 is the
linear attention of Katharopoulos et al., arXiv 2006.16236, without its normalization.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from kernels.common.orders import full_orders, gate_tokens, merge_routes, unvisit, visit
from kernels.s6 import reference as s6
from kernels.ssd.call import SsdCall


def scan(call: SsdCall) -> Tensor:
    """Run the scan one token at a time; differentiable by autograd.

    Raises: KernelError when a row of orders visits a token twice.
    """
    order = full_orders(call.orders, call.delta)
    dtype = torch.float64 if call.x.dtype == torch.float64 else torch.float32
    routes, tokens, heads = call.delta.shape[1:]
    x = (call.x if call.x_per_route else call.x.unsqueeze(1)).to(dtype)
    u = visit(x.expand(-1, routes, -1, -1), order).unflatten(-1, (heads, call.head))
    d, b, c = (visit(t.to(dtype), order) for t in (call.delta, call.B, call.C))
    if call.delta_bias is not None:
        d = d + call.delta_bias.to(dtype).unsqueeze(1)
    d = F.softplus(d) if call.delta_softplus else d
    decay = torch.exp(d * call.A.to(dtype).unsqueeze(1))
    h = u.new_zeros(*u.shape[:2], heads, call.head, b.shape[-1])
    steps = []
    for t in range(order.shape[2]):
        drive = (d[:, :, t, :, None] * u[:, :, t]).unsqueeze(-1) * b[:, :, t, None, None]
        h = decay[:, :, t, :, None, None] * h + drive
        steps.append((h * c[:, :, t, None, None]).sum(-1))
    y = torch.stack(steps, dim=2)
    if call.D is not None:
        y = y + call.D.to(dtype).view(routes, 1, heads, 1) * u
    y = merge_routes(unvisit(y.flatten(3), order, tokens), call.merge)
    return gate_tokens(y, call.z).to(call.x.dtype)


def kept(call: SsdCall) -> list[tuple[tuple[int, ...], torch.dtype]]:
    """Return what the forward leaves for the backward: nothing."""
    return [((0,), torch.float32), ((0,), call.x.dtype)]


def forward(call: SsdCall, save: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Run the scan; the backward needs nothing but the inputs again."""
    nothing = call.x.new_empty(0)
    return scan(call).contiguous(), nothing.float().clone(), nothing


def backward(
    call: SsdCall, grad_y: Tensor, states: Tensor, ungated: Tensor
) -> dict[str, Tensor | None]:
    """Return the gradients: those of S6, summed over what the channels of a head share."""
    found = s6.backward(call.as_s6(), grad_y, states, ungated)

    def per_head(gradient: Tensor | None) -> Tensor | None:
        return None if gradient is None else gradient.unflatten(-1, (-1, call.head)).sum(-1)

    shared = {name: per_head(found[name]) for name in ("delta", "D", "delta_bias")}
    A = found["A"]
    return found | shared | {"A": None if A is None else per_head(A.sum(-1))}

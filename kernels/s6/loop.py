"""The scan as a loop over tokens that exporters know: `higher_order.scan`, in ONNX a `Scan`.

The graph does not grow with the number of tokens, and no decay is divided by, as in the reference.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch._higher_order_ops.scan import scan_op

from kernels.common.orders import gate_tokens, merge_routes, unvisit, visit
from kernels.s6.call import ScanCall


def plain(call: ScanCall) -> Tensor:
    """Run the scan in float32, tables unchecked: a graph has no values to look at.

    Source: `kernels.s6.reference`, step by step.
    """
    batch, routes, tokens, inner = call.delta.shape
    state = call.A.shape[2]
    order = torch.arange(tokens, device=call.x.device) if call.orders is None else call.orders
    order = order.to(torch.int64).expand(batch, routes, -1)
    u = call.x if call.x_per_route else call.x.unsqueeze(1).expand_as(call.delta)
    delta = call.delta if call.delta_bias is None else call.delta + call.delta_bias.unsqueeze(1)
    delta = F.softplus(delta) if call.delta_softplus else delta
    # Laid out together, and the time first: what the loop runs over.
    inputs = torch.cat([t.float() for t in (u, delta, call.B, call.C)], dim=-1)
    inputs = visit(inputs, order).permute(2, 0, 1, 3).contiguous()
    steps = list(inputs.split((inner, inner, state, state), dim=-1))
    weights = (call.A,) if call.D is None else (call.A, call.D)
    start = inputs.new_zeros(batch, routes, inner, state)
    _, y = scan_op(_step, [start], steps, weights)
    y = merge_routes(unvisit(y.permute(1, 2, 0, 3), order, tokens), call.merge)
    return gate_tokens(y, call.z).to(call.x.dtype)


def _step(
    h: Tensor, u: Tensor, d: Tensor, b: Tensor, c: Tensor, A: Tensor, D: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return the next state and its y. Shapes: h (B, K, D, N); u, d (B, K, D); b, c (B, K, N)."""
    h = torch.exp(d.unsqueeze(-1) * A) * h + (d * u).unsqueeze(-1) * b.unsqueeze(-2)
    y = (h * c.unsqueeze(-2)).sum(-1)
    return h, y if D is None else y + D * u

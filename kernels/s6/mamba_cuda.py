"""The `mamba_ssm` backend: the CUDA extension of state-spaces/mamba, where it is installed.

For comparison, and for those who have it built. The extension wants channels first and knows
no token order, so every route is permuted, transposed and copied before and after: this is the
pipeline that the Triton backend does without. Its sums for B and C use atomics: gradients may
differ in their last bits from run to run.

Source: state-spaces/mamba, csrc/selective_scan/selective_scan.cpp, signatures of fwd and bwd.
"""

from __future__ import annotations

import selective_scan_cuda
import torch
from torch import Tensor

from kernels.common.calls import result_shape
from kernels.common.orders import (
    full_orders,
    gate_tokens,
    merge_routes,
    ungate_and_spread,
    unvisit,
    visit,
)
from kernels.s6.call import ScanCall

EXTENSION_CHUNK = 2048
"""Tokens between two states that the extension keeps, as pairs of decay and state."""


def kept(call: ScanCall) -> list[tuple[tuple[int, ...], torch.dtype]]:
    """Return what the extension keeps for its backward, and y before its gate."""
    batch, (routes, _, inner, state) = len(call.delta), call.sizes
    states = (batch, routes * inner, -(-call.steps // EXTENSION_CHUNK), 2 * state)
    ungated = result_shape(call) if call.z is not None else (0,)
    return [(states, torch.float32), (ungated, call.x.dtype)]


class _ChannelsFirst:
    """The inputs of a scan as the extension takes them: routes as groups of channels."""

    def __init__(self, call: ScanCall) -> None:
        x, delta, D, bias = call.x, call.delta, call.D, call.delta_bias
        self.batch, self.tokens = delta.shape[0], delta.shape[2]
        self.order = full_orders(call.orders, delta)
        self.steps = self.order.shape[2]
        routed = x if call.x_per_route else x.unsqueeze(1).expand_as(delta)
        B, C = self.groups(call.B.to(x.dtype)), self.groups(call.C.to(x.dtype))
        self.arguments = (
            self.channels(routed),
            self.channels(delta.to(x.dtype)),
            call.A.float().flatten(0, 1).contiguous(),
            B,
            C,
            None if D is None else D.float().flatten().contiguous(),
            None,
            None if bias is None else bias.float().flatten().contiguous(),
        )

    def groups(self, tensor: Tensor) -> Tensor:
        """Turn raster tokens (B, K, L, F) into visited ones (B, K, F, L)."""
        return visit(tensor, self.order).transpose(2, 3).contiguous()

    def channels(self, tensor: Tensor) -> Tensor:
        """Turn raster tokens (B, K, L, D) into visited ones (B, K D, L)."""
        return self.groups(tensor).flatten(1, 2)

    def tokens_of(self, tensor: Tensor, routes: int) -> Tensor:
        """Turn visited tokens (B, K F, L) or (B, K, F, L) back into raster ones (B, K, L, F)."""
        visited = tensor.reshape(self.batch, routes, -1, self.steps).transpose(2, 3)
        return unvisit(visited.contiguous(), self.order, self.tokens)


def forward(call: ScanCall, save: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Run the scan; return y, the states kept for the backward, and y before its gate."""
    s = _ChannelsFirst(call)
    out, states, *_ = selective_scan_cuda.fwd(*s.arguments, call.delta_softplus)
    ungated = merge_routes(s.tokens_of(out, call.sizes[0]).float(), call.merge)
    return (
        gate_tokens(ungated, call.z).to(call.x.dtype).clone(),
        states if save else call.x.new_empty(0, dtype=torch.float32),
        (ungated.clone() if save and call.z is not None else ungated.new_empty(0)).to(call.x.dtype),
    )


def backward(
    call: ScanCall, grad_y: Tensor, states: Tensor, ungated: Tensor
) -> dict[str, Tensor | None]:
    """Return the gradients of the scan from the states that the forward kept."""
    s, (routes, _, inner, _) = _ChannelsFirst(call), call.sizes
    grad, grad_z = ungate_and_spread(grad_y.float(), ungated, call.z, call.merge, routes)
    du, ddelta, dA, dB, dC, dD, dbias, *_ = selective_scan_cuda.bwd(
        *s.arguments, s.channels(grad.to(call.x.dtype)), states,
        None, None, call.delta_softplus, False,
    )  # fmt: skip
    grad_x = s.tokens_of(du, routes)
    return {
        "x": grad_x if call.x_per_route else grad_x.float().sum(1),
        "delta": s.tokens_of(ddelta, routes),
        "A": dA.view(routes, inner, -1),
        "B": s.tokens_of(dB, routes),
        "C": s.tokens_of(dC, routes),
        "D": None if dD is None else dD.view(routes, inner),
        "z": grad_z,
        "delta_bias": None if dbias is None else dbias.view(routes, inner),
    }

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
import torch.nn.functional as F
from torch import Tensor

from kernels.reference import ScanGradients

EXTENSION_CHUNK = 2048
"""Tokens between two states that the extension keeps, as pairs of decay and state."""


def states_shape(delta: Tensor, state: int) -> tuple[int, ...]:
    """Return the shape of what the extension keeps for its backward."""
    batch, routes, tokens, inner = delta.shape
    return batch, routes * inner, -(-tokens // EXTENSION_CHUNK), 2 * state


class _ChannelsFirst:
    """The inputs of a scan as the extension takes them: routes as groups of channels."""

    def __init__(
        self,
        x: Tensor,
        delta: Tensor,
        A: Tensor,
        B: Tensor,
        C: Tensor,
        D: Tensor | None,
        delta_bias: Tensor | None,
        orders: Tensor | None,
    ) -> None:
        self.batch, self.routes, self.tokens, self.inner = delta.shape
        if orders is None:
            raster = torch.arange(self.tokens, device=x.device)
            orders = raster.expand(self.routes, -1)
        self.order = orders.long().expand(self.batch, self.routes, self.tokens)
        routed = x if x.dim() == 4 else x.unsqueeze(1).expand_as(delta)
        self.u, self.delta = self.channels(routed), self.channels(delta.to(x.dtype))
        self.A = A.float().flatten(0, 1).contiguous()
        self.B, self.C = self.groups(B.to(x.dtype)), self.groups(C.to(x.dtype))
        self.D = None if D is None else D.float().flatten().contiguous()
        self.bias = None if delta_bias is None else delta_bias.float().flatten().contiguous()

    def groups(self, tensor: Tensor) -> Tensor:
        """Turn raster tokens (B, K, L, F) into visited ones (B, K, F, L)."""
        index = self.order.unsqueeze(-1).expand_as(tensor)
        return tensor.gather(2, index).transpose(2, 3).contiguous()

    def channels(self, tensor: Tensor) -> Tensor:
        """Turn raster tokens (B, K, L, D) into visited ones (B, K D, L)."""
        return self.groups(tensor).flatten(1, 2)

    def tokens_of(self, tensor: Tensor) -> Tensor:
        """Turn visited tokens (B, K F, L) or (B, K, F, L) back into raster ones (B, K, L, F)."""
        visited = tensor.reshape(self.batch, self.routes, -1, self.tokens).transpose(2, 3)
        index = self.order.unsqueeze(-1).expand_as(visited)
        return torch.empty_like(visited, memory_format=torch.contiguous_format).scatter_(
            2, index, visited
        )


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
    """Run the scan; return y, the states kept for the backward, and y before its gate."""
    s = _ChannelsFirst(x, delta, A, B, C, D, delta_bias, orders)
    out, states, *_ = selective_scan_cuda.fwd(
        s.u, s.delta, s.A, s.B, s.C, s.D, None, s.bias, delta_softplus
    )
    routes = s.tokens_of(out).float()
    ungated = {"sum": routes.sum, "mean": routes.mean}[merge](1) if merge != "none" else routes
    y = ungated
    if z is not None:
        gate = F.silu(z.float())
        y = ungated * (gate.unsqueeze(1) if merge == "none" else gate)
    keeps_y = save and z is not None
    return (
        y.to(x.dtype).clone(),
        states if save else x.new_empty(0, dtype=torch.float32),
        ungated.to(x.dtype).clone() if keeps_y else x.new_empty(0),
    )


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
    """Return the gradients of the scan from the states that the forward kept."""
    s = _ChannelsFirst(x, delta, A, B, C, D, delta_bias, orders)
    grad, grad_z = grad_y.float(), None
    if z is not None:
        gate = z.float()
        sigmoid = torch.sigmoid(gate)
        product = grad * ungated.float()
        product = product.sum(1) if merge == "none" else product
        grad_z = product * sigmoid * (1 + gate * (1 - sigmoid))
        silu = gate * sigmoid
        grad = grad * (silu.unsqueeze(1) if merge == "none" else silu)
    if merge != "none":
        grad = (grad / s.routes if merge == "mean" else grad).unsqueeze(1).expand(delta.shape)
    du, ddelta, dA, dB, dC, dD, dbias, *_ = selective_scan_cuda.bwd(
        s.u, s.delta, s.A, s.B, s.C, s.D, None, s.bias, s.channels(grad.to(x.dtype)), states,
        None, None, delta_softplus, False,
    )  # fmt: skip
    grad_x = s.tokens_of(du)
    return ScanGradients(
        x=grad_x if x.dim() == 4 else grad_x.float().sum(1),
        delta=s.tokens_of(ddelta),
        A=dA.view(s.routes, s.inner, -1),
        B=s.tokens_of(dB),
        C=s.tokens_of(dC),
        D=None if D is None else dD.view(s.routes, s.inner),
        z=grad_z,
        delta_bias=None if delta_bias is None else dbias.view(s.routes, s.inner),
    )

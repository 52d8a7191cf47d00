"""Gated convolution: a state-space block without the state space (MambaOut)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from timm.layers import trunc_normal_
from torch import Tensor, nn

from backbones.initialization import linear
from backbones.mixers.gated_conv import GatedConvConfig


class GatedConv(nn.Module):
    """fc2(GELU(g) * [i, conv(v)]) with [g, i, v] = fc1(x).

    Source: MambaOut, arXiv 2405.07992, algorithm 1; yuweihao/MambaOut @ 9f2f234.
    """

    def __init__(self, config: GatedConvConfig, width: int, **place: object) -> None:
        super().__init__()
        hidden, convolved = config.hidden(width), config.convolved(width)
        self.split = (hidden, hidden - convolved, convolved)
        self.fc1 = linear(width, 2 * hidden)
        self.conv = nn.Conv2d(
            convolved, convolved, config.kernel, padding=config.kernel // 2, groups=convolved
        )
        self.fc2 = linear(hidden, width)
        trunc_normal_(self.conv.weight, std=0.02)
        nn.init.zeros_(self.conv.bias)

    def forward(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        """Mix tokens. Shapes: (B, L, C) in and out, L = H * W."""
        gate, plain, value = self.fc1(x).split(self.split, dim=-1)
        value = value.unflatten(1, grid).permute(0, 3, 1, 2)
        value = self.conv(value).permute(0, 2, 3, 1).flatten(1, 2)
        gate = F.gelu(gate)
        if torch.is_grad_enabled():
            return self.fc2(gate * torch.cat((plain, value), dim=-1))
        kept = plain.shape[-1]  # without gradients the gate is free to hold the product
        gate[..., :kept].mul_(plain)
        gate[..., kept:].mul_(value)
        return self.fc2(gate)

"""Normalization over the last axis, and the channel attention built on it."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from backbones.initialization import linear
from backbones.language import NormConfig


def make_norm(config: NormConfig | None, width: int) -> nn.Module:
    """Build the norm that a config describes; the identity for null."""
    if config is None:
        return nn.Identity()
    kind = nn.LayerNorm if config.kind == "layernorm" else nn.RMSNorm
    return kind(width, eps=config.eps)


class ChannelAttention(nn.Module):
    """Gates channels by their normalized mean over all tokens.

    Source: LocalMamba, arXiv 2403.09338, section 3.3; the spatial branch of the paper is
    disabled in hunto/LocalMamba @ 75e5d1f, and EfficientVMamba uses the same module.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.reduce = linear(width, width // 8)
        self.select = linear(width // 8, width)

    def forward(self, x: Tensor) -> Tensor:
        """Gate a map. Shapes: (..., L, C) in and out."""
        pooled = self.norm(x).mean(-2, keepdim=True)
        return x * self.select(F.gelu(self.reduce(pooled))).sigmoid()

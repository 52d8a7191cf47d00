"""Softmax attention by torch's fused kernel."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from backbones.initialization import linear, normal
from backbones.language import Grid
from backbones.mixers.attention import AttentionConfig
from backbones.tables import table


def seen(height: int, width: int, window: int) -> np.ndarray:
    """Return which tokens of each window are no padding. Shapes: (windows, window ** 2)."""
    padded = [-(-n // window) * window for n in (height, width)]
    real = np.zeros(padded, dtype=bool)
    real[:height, :width] = True
    parts = real.reshape(padded[0] // window, window, padded[1] // window, window)
    return parts.transpose(0, 2, 1, 3).reshape(-1, window**2)


def offsets(window: int) -> np.ndarray:
    """Return which offset lies between two tokens of a window. Shapes: (window ** 2,) * 2."""
    rows, cols = np.divmod(np.arange(window**2), window)
    down, right = (at[:, None] - at[None, :] + window - 1 for at in (rows, cols))
    return down * (2 * window - 1) + right


class Attention(nn.Module):
    """softmax(Q K^T / sqrt(d) + bias) V, between projections with biases."""

    def __init__(self, config: AttentionConfig, width: int, **place: object) -> None:
        super().__init__()
        self.window, self.head_dim = config.window, config.head_dim
        self.qkv = linear(width, 3 * width)
        self.proj = linear(width, width)
        self.bias = None
        if config.position == "relative" and config.window is not None:
            self.bias = normal((2 * config.window - 1) ** 2, width // config.head_dim)

    def forward(self, x: Tensor, grid: Grid) -> Tensor:
        """Mix tokens. Shapes: (B, L, C) in and out."""
        qkv, mask, window = self.qkv(x), None, self.window
        if window is not None:
            bottom, right = (-n % window for n in grid)
            height, width = grid[0] + bottom, grid[1] + right
            qkv = F.pad(qkv.unflatten(1, grid), (0, 0, 0, right, 0, bottom))
            qkv = qkv.unflatten(2, (-1, window)).unflatten(1, (-1, window)).transpose(2, 3)
            qkv = qkv.reshape(x.shape[0], -1, window**2, qkv.shape[-1])
            if bottom or right:
                mask = table(seen, x.device, torch.bool, *grid, window)[:, None, None]
        else:
            qkv = qkv.unsqueeze(1)
        # (B, windows, heads, tokens, head_dim) each
        q, k, v = qkv.unflatten(-1, (3, -1, self.head_dim)).permute(3, 0, 1, 4, 2, 5)
        if self.bias is not None:
            at = table(offsets, x.device, torch.int64, window)
            bias = self.bias.index_select(0, at.flatten()).unflatten(0, at.shape)
            bias = bias.permute(2, 0, 1).to(q.dtype)
            mask = bias if mask is None else bias.masked_fill(~mask, -torch.inf)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        y = y.transpose(2, 3).flatten(3)
        if window is not None:
            y = y.unflatten(2, (window, window)).unflatten(1, (-1, width // window))
            y = y.transpose(2, 3).reshape(x.shape[0], height, width, -1)
            y = y[:, : grid[0], : grid[1]].flatten(1, 2)
        return self.proj(y.reshape(x.shape))

"""Layers that work on a map, as a mixer of tokens."""

from __future__ import annotations

from torch import Tensor, nn


class OnMap(nn.Sequential):
    """Layers for (B, C, H, W), given tokens."""

    def forward(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        """Mix tokens. Shapes: (B, L, C) in and out, L = H * W."""
        x = super().forward(x.unflatten(1, grid).permute(0, 3, 1, 2))
        return x.permute(0, 2, 3, 1).flatten(1, 2)


class Unmixed(nn.Module):
    """Leaves tokens as they are."""

    def forward(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        """Return the tokens. Shapes: (B, L, C) in and out."""
        return x

"""Inverted residual with squeeze-excite: EfficientVMamba's convolutional block."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from backbones.mixers.inverted_residual import InvertedResidualConfig


class InvertedResidual(nn.Module):
    """1x1, depthwise 3x3, squeeze-excite, 1x1; BatchNorm after each convolution.

    Source: TerryPei/EfficientVMamba @ 0bc5ee2.
    """

    def __init__(self, config: InvertedResidualConfig, width: int, **place: object) -> None:
        super().__init__()
        hidden, squeezed = config.hidden(width), config.squeezed(width)
        self.expand = nn.Conv2d(width, hidden, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(hidden)
        self.conv = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden, bias=False)
        self.norm2 = nn.BatchNorm2d(hidden)
        self.reduce = nn.Conv2d(hidden, squeezed, 1)
        self.excite = nn.Conv2d(squeezed, hidden, 1)
        self.project = nn.Conv2d(hidden, width, 1, bias=False)
        self.norm3 = nn.BatchNorm2d(width)

    def forward(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        """Mix tokens. Shapes: (B, L, C) in and out, L = H * W."""
        x = x.unflatten(1, grid).permute(0, 3, 1, 2)
        x = F.relu(self.norm1(self.expand(x)))
        x = F.relu(self.norm2(self.conv(x)))
        scale = F.relu(self.reduce(x.mean((2, 3), keepdim=True)))
        x = x * self.excite(scale).sigmoid()
        return self.norm3(self.project(x)).permute(0, 2, 3, 1).flatten(1, 2)

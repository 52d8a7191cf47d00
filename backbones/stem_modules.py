"""How an image becomes a map, and how a map is halved. Maps are (B, H, W, C)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from backbones.initialization import linear
from backbones.norms import make_norm
from backbones.stems import Conv3x3, ConvStem, OverlapStem, PatchifyStem, PatchMerging


def _channels_last(image: Tensor) -> Tensor:
    return image.contiguous(memory_format=torch.channels_last)


class Overlap(nn.Module):
    """conv 3 x 3, norm, GELU, conv 3 x 3, norm."""

    def __init__(self, config: OverlapStem, inputs: int, width: int) -> None:
        super().__init__()
        first, second = config.strides
        self.conv1 = nn.Conv2d(inputs, width // 2, 3, stride=first, padding=1)
        self.norm1 = make_norm(config.norm, width // 2)
        self.conv2 = nn.Conv2d(width // 2, width, 3, stride=second, padding=1)
        self.norm2 = make_norm(config.norm, width)

    def forward(self, image: Tensor) -> Tensor:
        """Shapes: (B, in_chans, H, W) -> (B, H', W', C)."""
        x = self.norm1(self.conv1(_channels_last(image)).permute(0, 2, 3, 1))
        x = self.conv2(F.gelu(x).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return self.norm2(x)


class Patchify(nn.Module):
    """One convolution over patches, then a norm if there is one."""

    def __init__(self, config: PatchifyStem, inputs: int, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, width, config.patch, stride=config.step)
        self.norm = make_norm(config.norm, width)

    def forward(self, image: Tensor) -> Tensor:
        """Shapes: (B, in_chans, H, W) -> (B, H', W', C)."""
        return self.norm(self.conv(_channels_last(image)).permute(0, 2, 3, 1))


class Convolutional(nn.Module):
    """conv 7 x 7 stride 2 and conv 3 x 3 with BN and ReLU, then a patch projection.

    Source: PlainMamba, arXiv 2403.17695, section 3.
    """

    def __init__(self, config: ConvStem, inputs: int, width: int) -> None:
        super().__init__()
        hidden, half = config.hidden, config.patch // 2
        convs = [nn.Conv2d(inputs, hidden, 7, stride=2, padding=3, bias=False)]
        for _ in range(config.convs):
            convs.append(nn.Conv2d(hidden, hidden, 3, padding=1, bias=False))
        self.convs = nn.ModuleList(convs)
        self.norms = nn.ModuleList(nn.BatchNorm2d(hidden) for _ in convs)
        self.project = nn.Conv2d(hidden, width, half, stride=half)

    def forward(self, image: Tensor) -> Tensor:
        """Shapes: (B, in_chans, H, W) -> (B, H', W', C)."""
        x = _channels_last(image)
        for conv, norm in zip(self.convs, self.norms):
            x = F.relu(norm(conv(x)))
        return self.project(x).permute(0, 2, 3, 1)


class Conv(nn.Module):
    """One strided convolution and a norm."""

    def __init__(self, config: Conv3x3, inputs: int, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, width, config.kernel, stride=2, padding=config.padding)
        self.norm = make_norm(config.norm, width)

    def forward(self, x: Tensor) -> Tensor:
        """Shapes: (B, H, W, C) -> (B, ceil(H / 2), ceil(W / 2), C'); 2 x 2 rounds down."""
        return self.norm(self.conv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))


class Merging(nn.Module):
    """Stacks the pixels of 2 x 2 squares, norm, projection (Swin).

    Pixels (row, column) come as (0, 0), (1, 0), (0, 1), (1, 1); an odd side is padded with zeros.
    """

    def __init__(self, config: PatchMerging, inputs: int, width: int) -> None:
        super().__init__()
        self.norm = make_norm(config.norm, 4 * inputs)
        self.reduction = linear(4 * inputs, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Shapes: (B, H, W, C) -> (B, ceil(H / 2), ceil(W / 2), C')."""
        x = F.pad(x, (0, 0, 0, x.shape[2] % 2, 0, x.shape[1] % 2))
        parts = [x[:, row::2, col::2] for col in (0, 1) for row in (0, 1)]
        return self.reduction(self.norm(torch.cat(parts, dim=-1)))

"""Residual blocks."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from timm.layers import DropPath, LayerScale, Mlp
from torch import Tensor, nn

from backbones.config import PlacedBlock
from backbones.initialization import LINEAR_STD
from backbones.language import Grid, NormConfig
from backbones.mixers.base import MixerConfig
from backbones.mixers.on_map import OnMap
from backbones.norms import ChannelAttention, make_norm
from backbones.parts import BlockConfig


class Beside(nn.Module):
    """A second mixer beside the first, each gated by one shared channel attention.

    Source: EfficientVMamba, arXiv 2403.09977, section 3.3 (EVSS block).
    """

    def __init__(self, config: MixerConfig, width: int, **place: Any) -> None:
        super().__init__()
        self.mixer = config.build(width, **place)
        self.attention = ChannelAttention(width)

    def forward(self, x: Tensor, mixed: Tensor, grid: Grid) -> Tensor:
        """Join the first mixer's output with the second's. Shapes: (B, L, C) each."""
        return self.attention(mixed) + self.attention(self.mixer(x, grid))


def post_conv(width: int) -> OnMap:
    """Return GELU(BN(depthwise 3 x 3)), without a skip, after PlainMamba-L1's first block."""
    conv = nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False)
    return OnMap(OrderedDict(conv=conv, norm=nn.BatchNorm2d(width), act=nn.GELU()))


class Block(nn.Module):
    """x + mixer(norm(x)), then x + ffn(norm(x)), as far as and in the order the config has them.

    depth: blocks of the network, which some initializations scale by.
    """

    def __init__(
        self, placed: PlacedBlock, *, depth: int, drop_path: float, class_token: int
    ) -> None:
        super().__init__()
        config: BlockConfig = placed.block
        width = placed.width
        self.norm1 = make_norm(config.norm, width)
        place: dict[str, Any] = {"class_token": class_token, "depth": depth}
        self.mixer = config.mixer.build(width, shift=placed.shift, **place)
        beside = config.beside
        self.beside = None if beside is None else Beside(beside, width, **place)
        if config.ffn is not None:
            self.norm2 = make_norm(config.norm or NormConfig(), width)
            self.mlp = Mlp(width, config.ffn.hidden(width))
            for layer in (self.mlp.fc1, self.mlp.fc2):
                nn.init.trunc_normal_(layer.weight, std=LINEAR_STD)
                nn.init.zeros_(layer.bias)
        else:
            self.norm2, self.mlp = None, None
        start = config.layer_scale
        scales = [nn.Identity() if start is None else LayerScale(width, start) for _ in range(2)]
        self.ls1, self.ls2 = scales[0], scales[1] if config.ffn else None
        self.norm_last = config.norm_at == "output"
        self.conv_position = None
        if config.conv_position:
            self.conv_position = OnMap(nn.Conv2d(width, width, 3, padding=1, groups=width))
        self.drop_path = DropPath(drop_path) if drop_path else nn.Identity()
        self.post_conv = post_conv(width) if config.post_conv else None

    def forward(self, x: Tensor, grid: Grid) -> Tensor:
        """Refine tokens. Shapes: (B, L, C) in and out."""
        if self.conv_position is not None:
            x = x + self.conv_position(x, grid)
        mixed = self._mix(x if self.norm_last else self.norm1(x), grid)
        x = x + self.drop_path(self.ls1(self.norm1(mixed) if self.norm_last else mixed))
        if self.mlp is not None:
            fed = self.mlp(x if self.norm_last else self.norm2(x))
            x = x + self.drop_path(self.ls2(self.norm2(fed) if self.norm_last else fed))
        return x if self.post_conv is None else self.post_conv(x, grid)

    def _mix(self, x: Tensor, grid: Grid) -> Tensor:
        mixed = self.mixer(x, grid)
        return mixed if self.beside is None else self.beside(x, mixed, grid)

"""EfficientVMamba's convolutional branch, which stands beside a scan."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, Literal

from backbones.language import Grid
from backbones.mixers.base import MixerConfig
from backbones.tally import Tally


class LocalConvConfig(MixerConfig):
    """Depthwise 3x3, BN, GELU, 1x1.

    Source: EfficientVMamba, arXiv 2403.09977, section 3.3 (EVSS block).
    """

    kind: Literal["local_conv"] = "local_conv"

    def canonical(self, width: int, *place: object) -> dict[str, Any]:
        return {"kind": self.kind}

    def cost(self, tally: Tally, width: int, grid: Grid, extra: int) -> None:
        positions = grid[0] * grid[1]
        tally.conv("mixer.conv", 9 * width, width, positions)
        tally.batch_norm("mixer.norm", width, positions)
        tally.conv("mixer.projections", width * width, width, positions)

    def build(self, width: int, **place: Any) -> Any:
        from torch import nn

        from backbones.mixers.on_map import OnMap

        return OnMap(
            OrderedDict(
                conv=nn.Conv2d(width, width, 3, padding=1, groups=width),
                norm=nn.BatchNorm2d(width),
                act=nn.GELU(),
                project=nn.Conv2d(width, width, 1),
            )
        )

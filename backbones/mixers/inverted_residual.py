"""Inverted residual with squeeze-excite: EfficientVMamba's convolutional block."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from backbones.language import Grid
from backbones.mixers.base import MixerConfig
from backbones.tally import Tally


class InvertedResidualConfig(MixerConfig):
    """1x1, depthwise 3x3, squeeze-excite, 1x1, all with BN.

    expand: channels of the depthwise convolution / width. se_ratio: squeezed / those.
    Source: TerryPei/EfficientVMamba @ 0bc5ee2.
    """

    module: ClassVar[str] = "backbones.mixers.inverted_residual_module:InvertedResidual"

    kind: Literal["inverted_residual"] = "inverted_residual"
    expand: Annotated[float, Field(gt=0)] = 4.0
    se_ratio: Annotated[float, Field(gt=0, le=1)] = 0.125

    def hidden(self, width: int) -> int:
        """Return the width of the depthwise convolution."""
        return int(self.expand * width)

    def squeezed(self, width: int) -> int:
        """Return the width of the squeeze-excite bottleneck."""
        return int(self.se_ratio * self.hidden(width))

    def check_width(self, width: int) -> None:
        if self.squeezed(width) < 1:
            raise ValueError(
                f"width {width} x expand {self.expand} x se_ratio {self.se_ratio} leaves no channel"
            )

    def canonical(self, width: int, *place: object) -> dict[str, Any]:
        hidden, squeezed = self.hidden(width), self.squeezed(width)
        return {"kind": self.kind, "hidden": hidden, "squeezed": squeezed}

    def cost(self, tally: Tally, width: int, grid: Grid, extra: int) -> None:
        positions, hidden, squeezed = grid[0] * grid[1], self.hidden(width), self.squeezed(width)
        tally.conv("mixer.projections", width * hidden, 0, positions)
        tally.batch_norm("mixer.norm", hidden, positions)
        tally.conv("mixer.conv", 9 * hidden, 0, positions)
        tally.batch_norm("mixer.norm", hidden, positions)
        tally.conv("mixer.attention", hidden * squeezed, squeezed, 1)
        tally.conv("mixer.attention", squeezed * hidden, hidden, 1)
        tally.conv("mixer.projections", hidden * width, 0, positions)
        tally.batch_norm("mixer.norm", width, positions)

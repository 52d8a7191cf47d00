"""MambaOut's gated CNN: an SSM block without the SSM."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, PositiveInt, model_validator

from backbones.language import Grid, require_odd
from backbones.mixers.base import MixerConfig
from backbones.tally import Tally


class GatedConvConfig(MixerConfig):
    """Gated convolution.

    expand: hidden / width. conv_ratio: convolved channels / width. kernel: depthwise kernel.
    Source: MambaOut, arXiv 2405.07992, section 3.
    """

    module: ClassVar[str] = "backbones.mixers.gated_conv_module:GatedConv"

    kind: Literal["gated_conv"] = "gated_conv"
    expand: Annotated[float, Field(gt=0)] = 8 / 3
    conv_ratio: Annotated[float, Field(gt=0)] = 1.0
    kernel: PositiveInt = 7

    @model_validator(mode="after")
    def _fits(self) -> GatedConvConfig:
        if self.conv_ratio > self.expand:
            raise ValueError(
                f"conv_ratio {self.conv_ratio} exceeds expand {self.expand}; lower it to at most "
                "expand"
            )
        require_odd(self.kernel)
        return self

    def hidden(self, width: int) -> int:
        """Return the width of the gate and of the gated channels."""
        return int(self.expand * width)

    def convolved(self, width: int) -> int:
        """Return how many of the gated channels are convolved."""
        return int(self.conv_ratio * width)

    def check_width(self, width: int) -> None:
        if self.convolved(width) < 1:
            raise ValueError(
                f"width {width} x conv_ratio {self.conv_ratio} leaves no channel to convolve"
            )

    def canonical(self, width: int, *place: object) -> dict[str, Any]:
        hidden, convolved = self.hidden(width), self.convolved(width)
        return {
            "kind": self.kind, "hidden": hidden, "convolved": convolved, "kernel": self.kernel
        }  # fmt: skip

    def cost(self, tally: Tally, width: int, grid: Grid, extra: int) -> None:
        tokens, hidden, convolved = grid[0] * grid[1], self.hidden(width), self.convolved(width)
        tally.linear("mixer.projections", width, 2 * hidden, tokens)
        tally.conv("mixer.conv", convolved * self.kernel**2, convolved, tokens)
        tally.linear("mixer.projections", hidden, width, tokens)

"""MetaFormer controls: what is left of a block without its scan."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import PositiveInt, field_validator

from backbones.language import Grid, require_odd
from backbones.mixers.base import MixerConfig
from backbones.tally import Tally


class IdentityConfig(MixerConfig):
    """No exchange between tokens.

    Source: MetaFormer Baselines, arXiv 2210.13452, section 3 (IdentityFormer).
    """

    kind: Literal["identity"] = "identity"

    def canonical(self, width: int, *place: object) -> dict[str, Any]:
        return {"kind": self.kind}

    def cost(self, tally: Tally, width: int, grid: Grid, extra: int) -> None:
        tally.add("mixer")

    def build(self, width: int, **place: Any) -> Any:
        from backbones.mixers.on_map import Unmixed

        return Unmixed()

    @property
    def takes_class_token(self) -> bool:
        return True


class ConvMixerConfig(MixerConfig):
    """One depthwise convolution with bias. kernel: its side, odd."""

    kind: Literal["conv"] = "conv"
    kernel: PositiveInt = 7

    @field_validator("kernel")
    @classmethod
    def _centered(cls, kernel: int) -> int:
        require_odd(kernel)
        return kernel

    def canonical(self, width: int, *place: object) -> dict[str, Any]:
        return {"kind": self.kind, "kernel": self.kernel}

    def cost(self, tally: Tally, width: int, grid: Grid, extra: int) -> None:
        tally.conv("mixer.conv", self.kernel**2 * width, width, grid[0] * grid[1])

    def build(self, width: int, **place: Any) -> Any:
        from torch import nn

        from backbones.mixers.on_map import OnMap

        pad = self.kernel // 2
        return OnMap(nn.Conv2d(width, width, self.kernel, padding=pad, groups=width))

"""Softmax attention, over the whole map or inside windows."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import PositiveInt

from backbones.language import Grid
from backbones.mixers.base import MixerConfig
from backbones.tally import Tally


class AttentionConfig(MixerConfig):
    """Multi-head self-attention without position terms.

    head_dim: channels of a head; the width must be a multiple of it. window: tokens a side of the
    windows inside which tokens see each other, null for the whole map. Maps that are no multiple
    of the window are padded, and padding is seen by none.
    Source: ViT, arXiv 2010.11929; windows: Swin, arXiv 2103.14030, section 3.2.
    """

    module: ClassVar[str] = "backbones.mixers.attention_module:Attention"

    kind: Literal["attention"] = "attention"
    head_dim: PositiveInt = 32
    window: PositiveInt | None = None

    @property
    def takes_class_token(self) -> bool:
        return self.window is None

    def check_width(self, width: int) -> None:
        if width % self.head_dim:
            raise ValueError(
                f"width {width} is no multiple of head_dim {self.head_dim}; choose a divisor"
            )

    def adapts_to(self, side: int) -> tuple[MixerConfig, list[str]]:
        if self.window is None or side > self.window:
            return self, []
        return self, [f"attention windows of {self.window} hold the whole map"]

    def canonical(self, width: int, *place: object) -> dict[str, Any]:
        return {"kind": self.kind, "head_dim": self.head_dim, "window": self.window}

    def cost(self, tally: Tally, width: int, grid: Grid, extra: int) -> None:
        tokens = grid[0] * grid[1] + extra
        tally.linear("mixer.projections", width, 3 * width, tokens)
        pairs = tokens**2
        if self.window is not None:
            rows, cols = (-(-n // self.window) for n in grid)
            pairs = rows * cols * self.window**4
        tally.add("mixer.attention", 0, 2 * pairs * width)
        tally.linear("mixer.projections", width, width, tokens)

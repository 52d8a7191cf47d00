"""Softmax attention, over the whole map or inside windows."""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

from pydantic import PositiveInt, model_validator

from backbones.language import Grid
from backbones.mixers.base import MixerConfig
from backbones.tally import Tally


class AttentionConfig(MixerConfig):
    """Multi-head self-attention.

    head_dim: channels of a head; the width must be a multiple of it. window: tokens a side of the
    windows inside which tokens see each other, null for the whole map. Maps that are no multiple
    of the window are padded, and padding is seen by none. position: "relative" adds a learned
    bias for each offset inside a window, by head; "none" adds nothing.
    Source: ViT, arXiv 2010.11929; windows and biases: Swin, arXiv 2103.14030, section 3.2.
    """

    module: ClassVar[str] = "backbones.mixers.attention_module:Attention"

    kind: Literal["attention"] = "attention"
    head_dim: PositiveInt = 32
    window: PositiveInt | None = None
    position: Literal["none", "relative"] = "none"

    @model_validator(mode="after")
    def _offsets_end(self) -> AttentionConfig:
        if self.position == "relative" and self.window is None:
            raise ValueError(
                "position relative counts offsets inside a window; set window, or none"
            )
        return self

    @property
    def width_step(self) -> int:
        return self.head_dim

    def at_step(self, step: int) -> MixerConfig:
        return self.model_copy(update={"head_dim": math.gcd(self.head_dim, step)})

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
        more = {"position": self.position} if self.position != "none" else {}
        return {"kind": self.kind, "head_dim": self.head_dim, "window": self.window, **more}

    def cost(self, tally: Tally, width: int, grid: Grid, extra: int) -> None:
        tokens = grid[0] * grid[1] + extra
        tally.linear("mixer.projections", width, 3 * width, tokens)
        pairs = tokens**2
        if self.window is not None:
            rows, cols = (-(-n // self.window) for n in grid)
            pairs = rows * cols * self.window**4
        tally.add("mixer.attention", 0, 2 * pairs * width)
        if self.position == "relative" and self.window is not None:
            tally.add("mixer.position", (2 * self.window - 1) ** 2 * (width // self.head_dim))
        tally.linear("mixer.projections", width, width, tokens)

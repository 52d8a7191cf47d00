"""Skip sampling: interleaved sub-grids."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import model_validator

from backbones.language import Grid
from backbones.orders.base import GridOrder, Places, raster

STEP = 2
"""Tokens from one of a sub-grid to its next, as published."""


class AtrousOrder(GridOrder):
    """The four interleaved sub-grids, one route each, placed back, not summed.

    Sub-grids (row parity, column parity) come as (0, 0), (1, 0), (0, 1), (1, 1); those of odd
    rows are walked by columns, the others by rows. Odd sides are padded at the bottom and right.
    Source: EfficientVMamba, arXiv 2403.09977, section 3.2; TerryPei/EfficientVMamba @ 0bc5ee2.
    """

    kind: Literal["atrous"] = "atrous"
    num_routes: ClassVar[int] = STEP**2
    visits_all: ClassVar[bool] = False
    parts: ClassVar[bool] = True
    layout: ClassVar[str] = "backbones.orders.layouts:Gathered"

    @model_validator(mode="before")
    @classmethod
    def _written_step(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("step") == STEP:  # the only one there ever was
            return {key: value for key, value in data.items() if key != "step"}
        return data

    def sequences(self, height: int, width: int, token: Places) -> list[np.ndarray]:
        """Return the tokens of each sub-grid."""
        grid = np.full([-(-n // STEP) * STEP for n in (height, width)], -1)
        grid[:height, :width] = raster(height, width).reshape(height, width)
        parts = (grid[row::STEP, col::STEP] for col in range(STEP) for row in range(STEP))
        return [(part.T if i % STEP else part).ravel() for i, part in enumerate(parts)]

    def spare(self, grid: Grid) -> int:
        return STEP**2 * self.length(grid) - grid[0] * grid[1]

    def length(self, grid: Grid) -> int:
        return -(-grid[0] // STEP) * -(-grid[1] // STEP)

    def canonical(self, class_token: bool) -> Any:
        return {"kind": self.kind, "step": STEP}

    def adapts_to(self, side: int) -> tuple[AtrousOrder, list[str]]:
        few = (-(-side // STEP)) ** 2
        return self, [f"atrous sub-grids hold {few} token(s)"] if 1 < side < 2 * STEP else []

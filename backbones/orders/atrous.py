"""Skip sampling: interleaved sub-grids."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import model_validator

from backbones.language import Grid
from backbones.orders.base import ScanOrder, raster

STEP = 2
"""Tokens from one of a sub-grid to its next, as published."""


class AtrousOrder(ScanOrder):
    """The four interleaved sub-grids, one route each, placed back, not summed.

    Source: EfficientVMamba, arXiv 2403.09977, section 3.2.
    """

    kind: Literal["atrous"] = "atrous"
    num_routes: ClassVar[int] = STEP**2
    visits_all: ClassVar[bool] = False
    parts: ClassVar[bool] = True
    layout: ClassVar[str] = "backbones.orders.layouts:Subgrids"

    @model_validator(mode="before")
    @classmethod
    def _written_step(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("step") == STEP:  # the only one there ever was
            return {key: value for key, value in data.items() if key != "step"}
        return data

    def length(self, grid: Grid) -> int:
        return -(-grid[0] // STEP) * -(-grid[1] // STEP)

    def canonical(self, class_token: bool) -> Any:
        return {"kind": self.kind, "step": STEP}

    def adapts_to(self, side: int) -> tuple[AtrousOrder, list[str]]:
        few = (-(-side // STEP)) ** 2
        return self, [f"atrous sub-grids hold {few} token(s)"] if 1 < side < 2 * STEP else []


def subgrid_table(height: int, width: int) -> np.ndarray:
    """Return the tokens of each interleaved sub-grid in the order of its route.

    Sub-grids (row parity, column parity) come as (0, 0), (1, 0), (0, 1), (1, 1); those of odd
    rows are walked by columns, the others by rows.
    Shapes: (K, L / K) over the grid padded to even sides, L tokens in its own raster.
    Source: TerryPei/EfficientVMamba @ 0bc5ee2.
    """
    padded_height, padded_width = (-(-n // STEP) * STEP for n in (height, width))
    grid = raster(padded_height, padded_width).reshape(padded_height, padded_width)
    routes = []
    for col in range(STEP):
        for row in range(STEP):
            part = grid[row::STEP, col::STEP]
            routes.append((part.T if row % 2 else part).ravel())
    return np.stack(routes)

"""Rows from the top, alternating in direction."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np

from backbones.orders.base import CurveOrder, raster


class SnakeOrder(CurveOrder):
    """Continuous boustrophedon rows, columns and their reverses.

    Source: PlainMamba, arXiv 2403.17695, section 3.2.
    """

    kind: Literal["snake"] = "snake"
    adjacent: ClassVar[bool] = True

    @staticmethod
    def curve(height: int, width: int) -> np.ndarray:
        """Visit rows from the top, alternating in direction. Shape (H * W,)."""
        grid = raster(height, width).reshape(height, width).copy()
        grid[1::2] = grid[1::2, ::-1]
        return grid.ravel()

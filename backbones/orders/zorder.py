"""Interleaved bits of row and column (Morton)."""

from __future__ import annotations

from typing import Literal

import numpy as np

from backbones.orders.base import CurveOrder, raster


class ZOrder(CurveOrder):
    """The Z-order curve (ours; the curve is G. M. Morton's, 1966)."""

    kind: Literal["zorder"] = "zorder"

    @staticmethod
    def curve(height: int, width: int) -> np.ndarray:
        """Visit by interleaved bits of row and column. Shape (H * W,)."""
        rows, cols = np.divmod(raster(height, width), width)
        key = np.zeros(height * width, dtype=np.int64)
        for bit in range(max(height, width).bit_length()):
            key |= ((cols >> bit) & 1) << (2 * bit) | ((rows >> bit) & 1) << (2 * bit + 1)
        return np.argsort(key, kind="stable")

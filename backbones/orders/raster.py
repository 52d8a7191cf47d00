"""Rows from the top, each from the left; with their reverses; with the columns too."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np

from backbones.orders.base import GridOrder, Places, insert, raster, transposed


class RasterOrder(GridOrder):
    """Rows (K = 1)."""

    kind: Literal["raster"] = "raster"
    num_routes: ClassVar[int] = 1
    routes: ClassVar[tuple[str, ...]] = ("h",)  # what a window order calls the same routes

    def sequences(self, height: int, width: int, token: Places) -> list[np.ndarray]:
        """Return the rows with their class tokens."""
        return [insert(raster(height, width), height * width // 2, token)]

    def canonical(self, class_token: bool) -> Any:
        """Return the list of routes; a class token is reversed with its sequence, unlike there."""
        return super().canonical(class_token) if class_token else list(self.routes)


class BidirectionalOrder(RasterOrder):
    """Rows and their reverse (K = 2): Vim, arXiv 2401.09417."""

    kind: Literal["bidirectional"] = "bidirectional"  # type: ignore[assignment]
    num_routes: ClassVar[int] = 2
    routes: ClassVar[tuple[str, ...]] = ("h", "h_flip")

    def sequences(self, height: int, width: int, token: Places) -> list[np.ndarray]:
        (rows,) = super().sequences(height, width, token)
        return [rows, rows[::-1]]


class CrossOrder(RasterOrder):
    """Rows, columns and their reverses (K = 4): VMamba, arXiv 2401.10166."""

    kind: Literal["cross"] = "cross"  # type: ignore[assignment]
    num_routes: ClassVar[int] = 4
    routes: ClassVar[tuple[str, ...]] = ("h", "h_flip", "v", "v_flip")

    def sequences(self, height: int, width: int, token: Places) -> list[np.ndarray]:
        (rows,) = super().sequences(height, width, token)
        columns = insert(transposed(raster, height, width), height * width // 2, token)
        return [rows, columns, rows[::-1], columns[::-1]]

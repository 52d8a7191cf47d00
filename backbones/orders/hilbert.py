"""A Hilbert curve for any rectangle."""

from __future__ import annotations

from typing import Literal

import numpy as np

from backbones.orders.base import CurveOrder


class HilbertOrder(CurveOrder):
    """The Hilbert curve (ours)."""

    kind: Literal["hilbert"] = "hilbert"

    @staticmethod
    def curve(height: int, width: int) -> np.ndarray:
        """Visit along a Hilbert curve: steps go to one of the 8 neighbors. Shape (H * W,).

        A rectangle is cut in two along its long side, or in three around the bend of the curve,
        halves being kept even so that the pieces join; the last piece is a line.
        Source: J. Cerveny's generalization of the Hilbert curve to rectangles.
        """
        visited: list[int] = []

        def walk(at: np.ndarray, along: np.ndarray, across: np.ndarray) -> None:
            length, breadth = abs(along.sum()), abs(across.sum())
            step, side = np.sign(along), np.sign(across)
            if breadth == 1 or length == 1:
                line, count = (step, length) if breadth == 1 else (side, breadth)
                visited.extend(int(r * width + c) for r, c in (at + i * line for i in range(count)))
                return
            half, side_half = along // 2, across // 2
            if 2 * length > 3 * breadth:
                if abs(half.sum()) % 2 and length > 2:
                    half = half + step
                walk(at, half, across)
                walk(at + half, along - half, across)
                return
            if abs(side_half.sum()) % 2 and breadth > 2:
                side_half = side_half + side
            walk(at, side_half, half)
            walk(at + side_half, along, across - side_half)
            walk(at + along - step + side_half - side, -side_half, half - along)

        down, right = np.array([height, 0]), np.array([0, width])
        first, second = (right, down) if width >= height else (down, right)
        walk(np.array([0, 0]), first, second)
        return np.array(visited)

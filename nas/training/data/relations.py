"""Relations: colored marks on a sparse grid, and for every token what lies around it.

One token a cell. For each token the color of the nearest mark to its left in its row, to its
right, above and below in its column, of the nearest of all (Euclid), of the first mark of its
4 x 4 window in reading order, and of the nearest to its left if at least a quarter of the side
lies between (carry across a gap). A token itself is none of its neighbors. Where there is no such
mark, or two of different colors are nearest alike, the token has no label.

What a scan can carry shows here: rows need a route along rows, columns one along columns.
"""

from __future__ import annotations

import functools

import numpy as np
import torch
from torch import Tensor

from nas.training.data.draws import IGNORE, Draw

COLORS = 6
RELATIONS = ("left", "right", "above", "below", "nearest", "window", "carry")
WINDOW = 4
_STREAM = 16
_CHUNK_PIXELS = 2**20

_PALETTE = np.array(
    [
        (40, 40, 40),  # no mark
        (230, 50, 50),
        (60, 200, 60),
        (70, 90, 240),
        (240, 220, 60),
        (220, 70, 220),
        (60, 220, 220),
    ],
    dtype=np.uint8,
)


def draw(ask: Draw) -> tuple[Tensor, Tensor]:
    """Return boards: uint8 (n, 3, S, S) and labels int16 (n, 7, grid, grid), colors 0 to 5."""

    def make(index: np.ndarray) -> tuple[Tensor, Tensor]:
        u = ask.uniforms(_STREAM, index, ask.grid**2).reshape(-1, ask.grid, ask.grid)
        color = np.minimum(u * (COLORS / ask.density), COLORS - 1).astype(np.int8)
        cells = np.where(u < ask.density, color, IGNORE).astype(np.int8)
        return _image(cells, ask.side // ask.grid), torch.from_numpy(label(cells))

    return ask.chunked(_CHUNK_PIXELS, make)


def label(cells: np.ndarray) -> np.ndarray:
    """Return all labels of boards.

    Shapes: cells (n, g, g), a color or -1 for no mark -> int16 (n, 7, g, g).
    """
    turned = cells.transpose(0, 2, 1)
    left, gap = _left(cells)
    grid = cells.shape[1]
    return np.stack(
        [
            left,
            _left(cells[:, :, ::-1])[0][:, :, ::-1],
            _left(turned)[0].transpose(0, 2, 1),
            _left(turned[:, :, ::-1])[0][:, :, ::-1].transpose(0, 2, 1),
            _nearest(cells),
            _first(cells),
            np.where(gap > grid // 4, left, IGNORE),
        ],
        axis=1,
    ).astype(np.int16)


def _left(cells: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the color of the nearest mark to the left, and how many tokens away it is."""
    columns = np.arange(cells.shape[2], dtype=np.int16)
    last = np.maximum.accumulate(np.where(cells >= 0, columns, np.int16(-1)), axis=2)
    last = np.concatenate([np.full_like(last[:, :, :1], -1), last[:, :, :-1]], axis=2)
    found = np.take_along_axis(cells, np.maximum(last, 0).astype(np.intp), axis=2)
    return np.where(last >= 0, found, IGNORE), np.where(last >= 0, columns - last, 0)


def _first(cells: np.ndarray) -> np.ndarray:
    """Return the color of the first mark of each token's window; windows at the edge are cut."""
    n, grid, _ = cells.shape
    count = -(-grid // WINDOW)
    room = count * WINDOW - grid
    padded = np.pad(cells, ((0, 0), (0, room), (0, room)), constant_values=IGNORE)
    windows = padded.reshape(n, count, WINDOW, count, WINDOW).transpose(0, 1, 3, 2, 4)
    windows = windows.reshape(n, count, count, WINDOW**2)
    at = (windows >= 0).argmax(3)[..., None]
    first = np.take_along_axis(windows, at, axis=3)[..., 0]
    return first.repeat(WINDOW, axis=1).repeat(WINDOW, axis=2)[:, :grid, :grid]


def _nearest(cells: np.ndarray) -> np.ndarray:
    """Return the color of the nearest other mark, by walking outward until all tokens have one."""
    grid = cells.shape[1]
    # Marks are sets of colors here: a tie of two colors is two bits.
    bits = np.where(cells >= 0, 1 << np.maximum(cells, 0), 0).astype(np.uint8)
    found = np.zeros_like(bits)
    for offsets in _rings(grid):
        ring = np.zeros_like(bits)
        for dy, dx in offsets:
            to_y, from_y = _overlap(dy, grid)
            to_x, from_x = _overlap(dx, grid)
            ring[:, to_y, to_x] |= bits[:, from_y, from_x]
        np.copyto(found, ring, where=found == 0)
        if found.all():
            break
    names = np.full(2**COLORS, IGNORE, dtype=np.int8)
    names[1 << np.arange(COLORS)] = np.arange(COLORS)
    return names[found]


@functools.lru_cache(maxsize=4)
def _rings(grid: int) -> tuple[tuple[tuple[int, int], ...], ...]:
    """Return the offsets of other tokens, those at one distance together, the nearest first."""
    steps = range(1 - grid, grid)
    by_distance: dict[int, list[tuple[int, int]]] = {}
    for dy in steps:
        for dx in steps:
            by_distance.setdefault(dy * dy + dx * dx, []).append((dy, dx))
    del by_distance[0]
    return tuple(tuple(by_distance[d]) for d in sorted(by_distance))


def _overlap(step: int, grid: int) -> tuple[slice, slice]:
    """Return the places that a shift by `step` fills, and those that it reads."""
    if step >= 0:
        return slice(0, grid - step), slice(step, grid)
    return slice(-step, grid), slice(0, grid + step)


def _image(cells: np.ndarray, token: int) -> Tensor:
    """Return boards as images, `token` pixels a cell: uint8 (n, 3, S, S)."""
    planes = _PALETTE.T[:, cells + 1].transpose(1, 0, 2, 3)
    return torch.from_numpy(planes.repeat(token, axis=2).repeat(token, axis=3))

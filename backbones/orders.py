"""Scan orders as index tables: which token each route visits at each step.

Tokens are numbered in memory: the H x W map row by row, then the class token if there is one,
then padding tokens if a window order needs any. A table row is a permutation of all of them.
Tables depend on the grid alone; `tables` caches them, and `quadtree` makes its own per image.

A cyclic shift of the map is a renaming of tokens, so it is composed into the table.
"""

from __future__ import annotations

import numpy as np

from backbones.config import AtrousOrder, FixedOrder, WindowOrder

# --- curves over a grid ------------------------------------------------------------------------


def raster(height: int, width: int) -> np.ndarray:
    """Visit rows from the top, each from the left. Shape (H * W,)."""
    return np.arange(height * width)


def snake(height: int, width: int) -> np.ndarray:
    """Visit rows from the top, alternating in direction. Shape (H * W,)."""
    grid = raster(height, width).reshape(height, width).copy()
    grid[1::2] = grid[1::2, ::-1]
    return grid.ravel()


def zorder(height: int, width: int) -> np.ndarray:
    """Visit by interleaved bits of row and column (Morton). Shape (H * W,)."""
    rows, cols = np.divmod(raster(height, width), width)
    key = np.zeros(height * width, dtype=np.int64)
    for bit in range(max(height, width).bit_length()):
        key |= ((cols >> bit) & 1) << (2 * bit) | ((rows >> bit) & 1) << (2 * bit + 1)
    return np.argsort(key, kind="stable")


def hilbert(height: int, width: int) -> np.ndarray:
    """Visit along a Hilbert curve for any rectangle: steps go to one of the 8 neighbors.

    A rectangle is cut in two along its long side, or in three around the bend of the curve,
    halves being kept even so that the pieces join; the last piece is a line.
    Shapes: (H * W,).
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


def transposed(curve: np.ndarray, height: int, width: int) -> np.ndarray:
    """Mirror a curve over a W x H grid at the diagonal: one over H x W."""
    rows, cols = np.divmod(curve, height)
    return cols * width + rows


def windows(height: int, width: int, size: int) -> np.ndarray:
    """Visit size x size windows row by row, each row by row, over the padded grid.

    Shapes: (H' * W',), H' and W' being H and W rounded up to multiples of size. Padding at the
    bottom and right appears as -1.
    """
    padded = [-(-n // size) * size for n in (height, width)]
    grid = np.full(padded, -1)
    grid[:height, :width] = raster(height, width).reshape(height, width)
    blocks = grid.reshape(padded[0] // size, size, padded[1] // size, size)
    return blocks.transpose(0, 2, 1, 3).ravel()


_CURVES = {"cross": raster, "snake": snake, "hilbert": hilbert, "zorder": zorder}


# --- tables ------------------------------------------------------------------------------------


def padded_tokens(order: FixedOrder | WindowOrder, height: int, width: int) -> int:
    """Return how many padding tokens the longest route of an order visits."""
    return 0 if isinstance(order, FixedOrder) else window_padding(order.routes, height, width)


def window_padding(routes: tuple[str, ...], height: int, width: int) -> int:
    """Return how many padding tokens the longest of some window routes visits."""
    sizes = {int(route.removesuffix("_flip")[1:]) for route in routes if route[0] == "w"}
    lengths = [(-(-height // s) * s) * (-(-width // s) * s) for s in sizes]
    return max([height * width, *lengths]) - height * width


def route_table(
    order: FixedOrder | WindowOrder,
    height: int,
    width: int,
    class_token: bool = False,
    down: int = 0,
    right: int = 0,
) -> np.ndarray:
    """Return the table of an order: token visited by each route at each step.

    down, right: the routes walk over the map rolled by so many rows and columns.
    Shapes: (K, L) int64, L = H * W + class token + `padded_tokens`. Padding tokens that a route
    does not need come last, where they change nothing. The class token stands in the middle of
    the forward curve; Vim reverses the sequence with it, LocalMamba puts it back in the middle.
    """
    tokens = height * width
    middle = [tokens] if class_token else []
    routes: list[np.ndarray] = []
    if isinstance(order, FixedOrder):
        if order.kind in ("raster", "bidirectional"):
            curves = [raster(height, width)]
        else:
            curve = _CURVES[order.kind]
            curves = [curve(height, width), transposed(curve(width, height), height, width)]
        curves = [np.insert(c, tokens // 2, middle) for c in curves]
        routes = curves if order.kind == "raster" else [*curves, *(c[::-1] for c in curves)]
        if order.kind in ("snake", "hilbert", "zorder"):
            routes = [routes[i] for i in (0, 2, 1, 3)]  # each curve before its own reverse
    else:
        for name in order.routes:
            routes.append(_window_route(name, height, width, middle))
    length = tokens + len(middle) + padded_tokens(order, height, width)
    table = np.empty((len(routes), length), dtype=np.int64)
    for row, route in zip(table, routes):
        spare = np.arange(tokens + len(middle), length)
        holes = route == -1
        route = route.copy()
        route[holes] = spare[: holes.sum()]
        row[:] = np.concatenate([route, spare[holes.sum() :]])
    if down or right:
        table = _unrolled(height, width, (down, right), length)[table]
    table.flags.writeable = False
    return table


def _window_route(name: str, height: int, width: int, middle: list[int]) -> np.ndarray:
    base = name.removesuffix("_flip")
    if base == "h":
        route = raster(height, width)
    elif base == "v":
        route = transposed(raster(width, height), height, width)
    else:
        route = windows(height, width, int(base[1:]))
    if name.endswith("_flip"):
        route = route[::-1]
    return np.insert(route, height * width // 2, middle)


def _unrolled(height: int, width: int, shift: tuple[int, int], length: int) -> np.ndarray:
    """Return for every place of the rolled map the token that lies there."""
    names = np.arange(length)
    grid = raster(height, width).reshape(height, width)
    names[: height * width] = np.roll(grid, shift, axis=(0, 1)).ravel()
    return names


def subgrid_table(order: AtrousOrder, height: int, width: int) -> np.ndarray:
    """Return the tokens of each interleaved sub-grid in the order of its route.

    Sub-grids (row parity, column parity) come as (0, 0), (1, 0), (0, 1), (1, 1); those of odd
    rows are walked by columns, the others by rows.
    Shapes: (K, L / K) over the grid padded to multiples of the step, L tokens in its own raster.
    Source: TerryPei/EfficientVMamba @ 0bc5ee2.
    """
    step = order.step
    padded_height, padded_width = (-(-n // step) * step for n in (height, width))
    grid = raster(padded_height, padded_width).reshape(padded_height, padded_width)
    routes = []
    for col in range(step):
        for row in range(step):
            part = grid[row::step, col::step]
            routes.append((part.T if row % 2 else part).ravel())
    return np.stack(routes)


def move_codes(height: int, width: int) -> np.ndarray:
    """Return which move led each snake route to each step.

    Codes: 0 start, 1 right, 2 left, 3 up, 4 down. Shapes: (4, L) int64.
    Source: PlainMamba, arXiv 2403.17695, section 3.2 (direction-aware updating).
    """
    table = route_table(FixedOrder(kind="snake"), height, width)
    rows, cols = np.divmod(table, width)
    down, right = np.diff(rows, axis=1), np.diff(cols, axis=1)
    codes = np.select([right > 0, right < 0, down < 0, down > 0], [1, 2, 3, 4])
    return np.pad(codes, ((0, 0), (1, 0)))


def inverse_table(order: FixedOrder | WindowOrder, *args: int) -> np.ndarray:
    """Return for every token the step at which each route visits it; args as `route_table`."""
    return np.argsort(route_table(order, *args), axis=1)

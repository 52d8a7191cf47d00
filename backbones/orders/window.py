"""LocalMamba's routes: rows, columns and windows, any of them."""

from __future__ import annotations

import re
from typing import Any, Literal

import numpy as np
from pydantic import field_validator

from backbones.language import Grid
from backbones.orders.base import GridOrder, raster, transposed

ROUTE_NAME = re.compile(r"(h|v|w([2-9]|[1-9]\d))(_flip)?")


class WindowOrder(GridOrder):
    """Any set of LocalMamba's routes: h, v, wK (K x K windows), each with `_flip` for reversed.

    Grids that are no multiple of the window are zero-padded at the bottom and right.
    Source: LocalMamba, arXiv 2403.09338, section 3.2.
    """

    kind: Literal["window"] = "window"
    routes: tuple[str, ...] = ("h", "h_flip", "w2", "w2_flip")

    @field_validator("routes")
    @classmethod
    def _known_routes(cls, routes: tuple[str, ...]) -> tuple[str, ...]:
        bad = [r for r in routes if not ROUTE_NAME.fullmatch(r)]
        if bad:
            raise ValueError(
                f"unknown route {bad[0]!r}; a route is h, v or wK with K from 2 to 99, "
                "with _flip for its reverse"
            )
        if not routes or len(set(routes)) != len(routes):
            raise ValueError(f"routes {list(routes)} must be one or more distinct names")
        return routes

    @property
    def num_routes(self) -> int:
        return len(self.routes)

    def spare(self, grid: Grid) -> int:
        return window_padding(self.routes, grid)

    def sequences(self, height: int, width: int, token: list[int]) -> list[np.ndarray]:
        """Return the routes; the class token stands in the middle of each, flipped or not."""
        out = []
        for name in self.routes:
            base = name.removesuffix("_flip")
            if base == "h":
                route = raster(height, width)
            elif base == "v":
                route = transposed(raster, height, width)
            else:
                route = windows(height, width, int(base[1:]))
            route = route[::-1] if name.endswith("_flip") else route
            out.append(np.insert(route, height * width // 2, token))
        return out

    def canonical(self, class_token: bool) -> Any:
        """Return a set: every merge is commutative and routes own their parameters."""
        return sorted(self.routes, key=route_key)

    def adapts_to(self, side: int) -> tuple[WindowOrder, list[str]]:
        sizes = [size for size in window_sizes(self.routes) if 1 < side <= size]
        return self, [f"windows w{s} hold the whole map: w{s} is h" for s in sizes]

    def with_routes(self, routes: tuple[str, ...]) -> WindowOrder:
        return WindowOrder(routes=routes)

    def routes_key(self, routes: tuple[str, ...], grid: Grid) -> tuple[int, ...]:
        return len(routes), window_padding(routes, grid)


def route_key(name: str) -> tuple[int, int, bool]:
    """Sort key in LocalMamba's canonical order: h, v, windows by size, each before its flip."""
    base = name.removesuffix("_flip")
    kind = {"h": 0, "v": 1}.get(base, 2)
    return kind, int(base[1:]) if kind == 2 else 0, name.endswith("_flip")


def window_sizes(routes: tuple[str, ...]) -> list[int]:
    """Return the sides of the windows among some routes, rising."""
    return sorted({int(r.removesuffix("_flip")[1:]) for r in routes if r[0] == "w"})


def window_padding(routes: tuple[str, ...], grid: Grid) -> int:
    """Return how many padding tokens the longest of some routes visits."""
    height, width = grid
    lengths = [(-(-height // s) * s) * (-(-width // s) * s) for s in window_sizes(routes)]
    return max([height * width, *lengths]) - height * width


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

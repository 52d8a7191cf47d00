"""Orders as lists of routes, each named in one vocabulary: `[t_](h|snake|...|wK)[_flip]`."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from pydantic import field_validator

from backbones.language import Grid
from backbones.orders.base import CurveOrder, GridOrder, Places, insert, raster, transposed
from backbones.registry import ORDERS

WINDOW = re.compile(r"w([2-9]|[1-9]\d)")
RANDOM = re.compile(r"random:(\d{1,9})")
LOCAL_MAMBAS = re.compile(r"(h|v|w([2-9]|[1-9]\d))(_flip)?")


class RoutesOrder(GridOrder):
    """Any list of routes; one may stand in it more than once, as control of the number of routes.

    routes: `[t_]BASE[_flip]`. BASE: h (rows), v (columns), snake, hilbert, zorder, diag or any
    curve registered, wK (K x K windows, row by row), random:SEED (a permutation drawn per map
    size, as control). t_ mirrors the map at its diagonal first, _flip reverses.
    Grids that are no multiple of a window are zero-padded at the bottom and right.
    """

    kind: Literal["routes"] = "routes"
    routes: tuple[str, ...]

    @field_validator("routes")
    @classmethod
    def _known_routes(cls, routes: tuple[str, ...]) -> tuple[str, ...]:
        for name in routes:
            curve_of(base_of(name))
        if not routes:
            raise ValueError("routes [] must be one or more names")
        return routes

    @property
    def num_routes(self) -> int:
        """K, the number of token permutations."""
        return len(self.routes)

    def spare(self, grid: Grid) -> int:
        return window_padding(self.routes, grid)

    def sequences(self, height: int, width: int, token: Places) -> list[np.ndarray]:
        """Return the routes; the class tokens stand alike in each, flipped or not."""
        routes = (route(name, height, width) for name in self.routes)
        return [insert(r, height * width // 2, token) for r in routes]

    def canonical(self, class_token: bool) -> Any:
        """Return a bag: every merge is commutative and routes own their parameters.

        The four routes of a curve that has a name of its own are that name.
        """
        names = [{"t_h": "v", "t_v": "h"}.get(r.removesuffix("_flip"), "") for r in self.routes]
        names = [n + r[3:] if n else r for n, r in zip(names, self.routes)]
        curve = base_of(names[0])
        if sorted(names) == sorted(f"{t}{curve}{f}" for t in ("", "t_") for f in ("", "_flip")):
            if not class_token and curve in ORDERS.places:
                return ORDERS.read(curve).canonical(class_token)
        return sorted(names, key=route_key)

    def adapts_to(self, side: int) -> tuple[GridOrder, list[str]]:
        sizes = [size for size in window_sizes(self.routes) if 1 < side <= size]
        return self, [f"windows w{s} hold the whole map: w{s} is h" for s in sizes]

    def with_routes(self, routes: tuple[str, ...]) -> GridOrder:
        return type(self)(routes=routes)

    def routes_key(self, routes: tuple[str, ...], grid: Grid) -> tuple[int, ...]:
        return len(routes), window_padding(routes, grid)


class WindowOrder(RoutesOrder):
    """Any set of LocalMamba's routes: h, v, wK (K x K windows), each with `_flip` for reversed.

    Source: LocalMamba, arXiv 2403.09338, section 3.2.
    """

    kind: Literal["window"] = "window"  # type: ignore[assignment]
    routes: tuple[str, ...] = ("h", "h_flip", "w2", "w2_flip")

    @field_validator("routes")
    @classmethod
    def _known_routes(cls, routes: tuple[str, ...]) -> tuple[str, ...]:
        bad = [r for r in routes if not LOCAL_MAMBAS.fullmatch(r)]
        if bad:
            raise ValueError(
                f"unknown route {bad[0]!r}; a route is h, v or wK with K from 2 to 99, "
                "with _flip for its reverse"
            )
        if not routes or len(set(routes)) != len(routes):
            raise ValueError(f"routes {list(routes)} must be one or more distinct names")
        return routes


class DiagOrder(CurveOrder):
    """Anti-diagonals from the top left, each from the top (ours)."""

    kind: Literal["diag"] = "diag"

    @staticmethod
    def curve(height: int, width: int) -> np.ndarray:
        """Visit by rising sum of row and column. Shape (H * W,)."""
        rows, cols = np.divmod(raster(height, width), width)
        return np.lexsort([rows, rows + cols])


# --- routes by name ----------------------------------------------------------------------------


def base_of(name: str) -> str:
    """Return the base of a route's name: `hilbert` of `t_hilbert_flip`."""
    return name.removeprefix("t_").removesuffix("_flip")


def curve_of(base: str) -> Callable[[int, int], np.ndarray]:
    """Return (height, width) -> tokens in visiting order, -1 for padding; ValueError for none."""
    if base == "h":
        return raster
    if base == "v":
        return lambda height, width: transposed(raster, height, width)
    if found := WINDOW.fullmatch(base):
        return lambda height, width: windows(height, width, int(found[1]))
    if found := RANDOM.fullmatch(base):
        seed = int(found[1])
        return lambda h, w: np.random.default_rng([seed, h, w]).permutation(h * w)
    named = [k for k in ORDERS.places if issubclass(ORDERS.load(k), CurveOrder)]
    if base not in named:
        raise ValueError(
            f"unknown route {base!r}; a route is [t_]BASE[_flip] with BASE one of h, v, "
            f"{', '.join(named)}, wK with K from 2 to 99, random:SEED"
        )
    return ORDERS.load(base).curve  # type: ignore[no-any-return]


def route(name: str, height: int, width: int) -> np.ndarray:
    """Return the tokens of a route in visiting order, -1 for padding."""
    curve = curve_of(base_of(name))
    if name.startswith("t_"):
        mirrored = transposed(curve, height, width)
        visited = np.where(curve(width, height) < 0, -1, mirrored)
    else:
        visited = curve(height, width)
    return visited[::-1] if name.endswith("_flip") else visited


def route_key(name: str) -> tuple[int, int, str, bool]:
    """Sort key in LocalMamba's canonical order: h, v, windows by size, each before its flip."""
    base = name.removesuffix("_flip")
    kind = {"h": 0, "v": 1}.get(base, 2 if WINDOW.fullmatch(base) else 3)
    size = int(base[1:]) if kind == 2 else 0
    return kind, size, base if kind == 3 else "", name.endswith("_flip")


def window_sizes(routes: tuple[str, ...]) -> list[int]:
    """Return the sides of the windows among some routes, rising."""
    found = (WINDOW.fullmatch(base_of(name)) for name in routes)
    return sorted({int(match[1]) for match in found if match})


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

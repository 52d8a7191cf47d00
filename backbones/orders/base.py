"""What a scan order states of itself, and the index tables of orders that the grid alone gives.

Tokens are numbered in memory: the H x W map row by row, then class tokens if there are any,
then padding tokens if an order needs any. A table row is a permutation of all of them. Tables
depend on the grid alone; `backbones.tables` caches them, and quadtrees make theirs per image.

A cyclic shift of the map is a renaming of tokens, so it is composed into the table.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import BeforeValidator, SerializeAsAny

from backbones.language import CLASS_TOKENS, Grid, Model, plain
from backbones.registry import ORDERS
from backbones.tally import Tally


class ScanOrder(Model, ABC):
    """K routes over the tokens of a map, and what follows from them.

    Facts: num_routes: K. visits_all: each route visits each token of the map once. parts: the
    routes share the tokens out among themselves and are put back, not summed. learned: a module
    chooses the routes of each image. adjacent: each step goes to one of the four neighbors.
    least_channels: the fewest that its module can work on. layout: the module that lays tokens
    out for a scan.
    """

    kind: str
    num_routes: ClassVar[int]
    visits_all: ClassVar[bool] = True
    parts: ClassVar[bool] = False
    learned: ClassVar[bool] = False
    adjacent: ClassVar[bool] = False
    least_channels: ClassVar[int] = 1
    layout: ClassVar[str] = "backbones.orders.layouts:Tabled"

    @property
    def fixed(self) -> bool:
        """Whether the grid alone gives routes over all tokens: such take a class token."""
        return self.visits_all and not self.learned

    def spare(self, grid: Grid) -> int:
        """Return how many padding tokens the longest route visits."""
        return 0

    def length(self, grid: Grid) -> int:
        """Return L, the steps of one route, padding included, without a class token."""
        return grid[0] * grid[1] + self.spare(grid)

    def cost(self, tally: Tally, inner: int, grid: Grid) -> None:
        """Count what chooses the routes; nothing where the grid does."""

    def canonical(self, class_token: bool) -> Any:
        """Return plain data that is equal for equal routes."""
        return plain(self)

    def adapts_to(self, side: int) -> tuple[ScanOrder, list[str]]:
        """Return what stands for this order on a small map, and what cannot act there."""
        return self, []

    def with_routes(self, routes: tuple[str, ...]) -> ScanOrder:
        """Return the order with the routes of a stage's table in place of its own."""
        raise ValueError(f"has order {self.kind}; a route table needs order window")

    def routes_key(self, routes: tuple[str, ...], grid: Grid) -> tuple[int, ...]:
        """Return what of a table's row decides the cost."""
        return ()


Places = tuple[list[int], list[int], list[int]]
"""Class tokens at the head, in the middle and at the tail of a route."""
Order = Annotated[SerializeAsAny[ScanOrder], BeforeValidator(ORDERS.read), ORDERS]


class GridOrder(ScanOrder):
    """An order given by the grid alone."""

    @abstractmethod
    def sequences(self, height: int, width: int, token: Places) -> list[np.ndarray]:
        """Return the tokens of each route in visiting order, -1 for padding.

        token: the class tokens, which `insert` puts into a route.
        """


class CurveOrder(GridOrder):
    """A curve over the grid, its reverse, its transpose and that one's reverse (K = 4)."""

    num_routes: ClassVar[int] = 4

    @staticmethod
    @abstractmethod
    def curve(height: int, width: int) -> np.ndarray:
        """Return the tokens in visiting order. Shape (H * W,)."""

    def sequences(self, height: int, width: int, token: Places) -> list[np.ndarray]:
        """Return each curve with its class tokens before its own reverse."""
        curves = [self.curve(height, width), transposed(self.curve, height, width)]
        curves = [insert(c, height * width // 2, token) for c in curves]
        return [route for curve in curves for route in (curve, curve[::-1])]


def insert(route: np.ndarray, middle: int, token: Places) -> np.ndarray:
    """Put class tokens into a route, its middle being given as a step."""
    head, inside, tail = token
    return np.array([*head, *np.insert(route, middle, inside), *tail], dtype=np.int64)


def raster(height: int, width: int) -> np.ndarray:
    """Visit rows from the top, each from the left. Shape (H * W,)."""
    return np.arange(height * width)


def transposed(curve: Any, height: int, width: int) -> np.ndarray:
    """Mirror a curve over a W x H grid at the diagonal: one over H x W."""
    rows, cols = np.divmod(curve(width, height), height)
    return cols * width + rows


# --- tables ------------------------------------------------------------------------------------


def route_table(
    order: GridOrder,
    height: int,
    width: int,
    class_token: int = 0,
    down: int = 0,
    right: int = 0,
) -> np.ndarray:
    """Return the table of an order: token visited by each route at each step.

    class_token: place of its name in CLASS_TOKENS.
    down, right: the routes walk over the map rolled by so many rows and columns.
    Shapes: (K, L) int64, L = `length` + class tokens. Padding tokens that a route does not
    need come last, where they change nothing. The class token stands in the middle of the
    forward curve, or at its ends; Vim reverses the sequence with it, LocalMamba puts it back in
    the middle.
    """
    tokens = height * width
    where, count = list(CLASS_TOKENS.items())[class_token]
    first, second = list(range(tokens, tokens + count))[:1], [tokens + 1][: count - 1]
    places = ([], first, []) if where == "middle" else (first, [], second)
    routes = order.sequences(height, width, places)
    length = order.length((height, width)) + count
    spares = np.arange(tokens + count, tokens + count + order.spare((height, width)))
    table = np.empty((len(routes), length), dtype=np.int64)
    for row, route in zip(table, routes):
        holes = route == -1
        route = route.copy()
        route[holes] = spares[: holes.sum()]
        row[:] = np.concatenate([route, spares[holes.sum() :]])[:length]
    if down or right:
        names = np.arange(
            tokens + count + len(spares)
        )  # of every place of the rolled map, the token that lies there
        grid = raster(height, width).reshape(height, width)
        names[:tokens] = np.roll(grid, (down, right), axis=(0, 1)).ravel()
        table = names[table]
    table.flags.writeable = False
    return table


def inverse_table(order: GridOrder, *args: int) -> np.ndarray:
    """Return for every token the step at which each route visits it; args as `route_table`."""
    return np.argsort(route_table(order, *args), axis=1)


def steps_of_tokens(order: GridOrder, height: int, width: int) -> np.ndarray:
    """Return for every token the step at which routes that share tokens out visit it.

    Shapes: (H * W,), a step of the routes one after the other.
    """
    return np.argsort(route_table(order, height, width), axis=None)[: height * width]


def move_codes(order: GridOrder, height: int, width: int) -> np.ndarray:
    """Return which move led each route of an order of adjacent steps to each step.

    Codes: 0 start, 1 right, 2 left, 3 up, 4 down. Shapes: (K, L) int64.
    Source: PlainMamba, arXiv 2403.17695, section 3.2 (direction-aware updating).
    """
    rows, cols = np.divmod(route_table(order, height, width), width)
    down, right = np.diff(rows, axis=1), np.diff(cols, axis=1)
    codes = np.select([right > 0, right < 0, down < 0, down > 0], [1, 2, 3, 4])
    return np.pad(codes, ((0, 0), (1, 0)))

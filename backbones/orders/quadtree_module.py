"""Learned quadtree scan orders: where the map deserves finer windows, per image.

A light predictor scores every token; windows with the highest mean score are subdivided, coarse
to fine. `Quadtree` is what the paper describes, `OfficialQuadtree` what its released code does.
Source: QuadMamba, arXiv 2410.06806, section 3.3.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from backbones.initialization import linear
from backbones.language import Grid
from backbones.orders.base import route_table
from backbones.orders.layouts import Laid, Sign
from backbones.orders.quadtree import OFFICIAL_WINDOWS, QuadtreeOfficialOrder, QuadtreeOrder
from backbones.orders.raster import BidirectionalOrder
from backbones.orders.shift import ShiftConfig
from backbones.tables import side, table

BIDIRECTIONAL = BidirectionalOrder().model_dump_json()


class LocalityPredictor(nn.Module):
    """Scores tokens by how much they deserve fine windows.

    context "half_global": half of the channels see the mean of their 2 x 2 quadrant instead.
    """

    def __init__(self, inner: int, context: str) -> None:
        super().__init__()
        self.half = inner // 2 if context == "half_global" else None
        self.norm = nn.LayerNorm(inner)
        self.fc1 = linear(inner, inner)
        self.fc2 = linear(inner, inner // 2)
        self.fc3 = linear(inner // 2, inner // 4)
        self.fc4 = linear(inner // 4, 2)

    def forward(self, x: Tensor, grid: Grid) -> Tensor:
        """Return the log-probability of "select". Shapes: (B, L, E) -> (B, L)."""
        x = F.gelu(self.fc1(self.norm(x)))
        if self.half is not None:
            local, context = x[..., : self.half], x[..., self.half :]
            context = context.unflatten(1, grid).permute(0, 3, 1, 2)
            context = F.interpolate(F.adaptive_avg_pool2d(context, 2), size=grid, mode="nearest")
            x = torch.cat((local, context.permute(0, 2, 3, 1).flatten(1, 2)), dim=-1)
        x = self.fc4(F.gelu(self.fc3(F.gelu(self.fc2(x)))))
        return F.log_softmax(x, dim=-1)[..., 0]


def gumbel_noise(like: Tensor) -> Tensor:
    """Draw standard Gumbel noise from torch's default generator of the device."""
    return -torch.empty_like(like).exponential_().log()


# --- the paper's semantics ---------------------------------------------------------------------


@lru_cache(maxsize=256)
def _layout(
    order: QuadtreeOrder, height: int, width: int, down: int, right: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the static tables of a quadtree over one grid, rolled by so many rows and columns.

    Window borders are those of the grid padded at the bottom and right to a multiple of the
    finest level; padding itself is never visited.
    Shapes: order (levels, L), token visited at each slot when every window is subdivided down
    to that level; slot (levels - 1, L), window of each level that owns a slot of the orders that
    subdivide it; owner (levels, L), window of each level that owns a token.

    A window's slots are the same block in all orders that split it or not: that is why orders
    of different depth can be mixed window by window and stay a permutation.
    """
    finest = order.levels[-1]
    sides = [-(-n // finest) for n in (height, width)]
    rows, cols = np.divmod(np.arange(height * width), width)
    place = [(rows + down) % height, (cols + right) % width]  # where the shift puts a token
    window, orders = [], []
    for level in order.levels:
        row, col = (p // (side * (finest // level)) for p, side in zip(place, sides))
        window.append(row * level + col)
        orders.append(np.lexsort([place[1], place[0], *window[::-1]]))
    slot = [windows[nested] for windows, nested in zip(window[:-1], orders)]
    return np.stack(orders), np.stack(slot), np.stack(window)


def _orders(order: QuadtreeOrder, *args: int) -> np.ndarray:
    return _layout(order, *args)[0]


def _slots(order: QuadtreeOrder, *args: int) -> np.ndarray:
    return _layout(order, *args)[1]


def _owners(order: QuadtreeOrder, *args: int) -> np.ndarray:
    return _layout(order, *args)[2]


def _averages(level: int, order: QuadtreeOrder, *args: int) -> np.ndarray:
    """Return the matrix (L, windows) that averages tokens over the windows of a level."""
    owner = _layout(order, *args)[2][level]
    member = owner[:, None] == np.arange(order.levels[level] ** 2)
    return member / np.maximum(member.sum(0), 1)


def _occupied(level: int, order: QuadtreeOrder, *args: int) -> np.ndarray:
    """Return which windows of a level hold a token: small grids leave some empty."""
    return _averages(level, order, *args).any(0)


def _members(level: int, order: QuadtreeOrder, *args: int) -> np.ndarray:
    """Return the windows of a level by token, one-hot: (windows, L)."""
    return (_averages(level, order, *args) > 0).T


def _parents(level: int, order: QuadtreeOrder) -> np.ndarray:
    """Return for each window of a level the window of the level before that holds it."""
    coarse, fine = order.levels[level - 1 : level + 1]
    rows, cols = np.divmod(np.arange(fine**2), fine) // np.array(fine // coarse)
    return rows * coarse + cols


class Quadtree(nn.Module):
    """Builds per-image orders by subdividing the windows that score highest.

    In training, scores get Gumbel noise and the hard choice passes a gradient straight through:
    every token is multiplied by a gate, before and after the scan, that is exactly 1 but whose
    derivative is that of the soft choice of its window: towards being subdivided for tokens of
    chosen windows, away from it for the others. QuadMamba's Hadamard masks m * x and (1 - m) * x
    have that derivative at the same two places. In evaluation there is neither noise nor gate.
    """

    def __init__(self, order: QuadtreeOrder, inner: int, class_token: int = 0) -> None:
        super().__init__()
        self.order, self.order_json = order, order.model_dump_json()
        self.predictor = LocalityPredictor(inner, order.context)

    def lay_out(self, x: Tensor, grid: Grid, sign: Sign | None, shift: ShiftConfig | None) -> Laid:
        """Gate the tokens; the orders are those of each image."""
        orders, gate = self(x, grid, sign, shift)
        return Laid(x if gate is None else x * gate, orders, lambda y: y, gate)

    def forward(
        self, x: Tensor, grid: Grid, sign: Sign | None, shift: ShiftConfig | None
    ) -> tuple[Tensor, Tensor | None]:
        """Return the orders of a batch, and in training the gate of its tokens.

        Shapes: x (B, L, E); orders (B, 2, L) int32, a permutation and its reverse;
            gate (B, L, 1).
        """
        score = self.predictor(x, grid)
        args = self._table_args(grid, sign, shift)
        orders = table(_orders, x.device, torch.int32, *args)
        slots = table(_slots, x.device, torch.int64, *args)
        order, gate = orders[0].expand(x.shape[0], -1), None
        for level, (soft, chosen) in enumerate(self._subdivided(score, args)):
            order = torch.where(chosen[:, slots[level]], orders[level + 1], order)
            if self.training:
                members = table(_members, x.device, soft.dtype, level, *args)
                change = (soft - soft.detach()) * (2 * chosen.to(soft.dtype) - 1)
                gate = change @ members + (1.0 if gate is None else gate)
        both = torch.stack((order, order.flip(-1)), dim=1)
        return both, None if gate is None else gate.unsqueeze(-1).to(x.dtype)

    def windows(
        self, x: Tensor, grid: Grid, sign: Sign | None, shift: ShiftConfig | None
    ) -> Tensor:
        """Return the finest window that holds each token: what evaluation chooses for a batch.

        Shapes: x (B, L, E) -> (B, L), numbers that differ between windows.
        """
        args = self._table_args(grid, sign, shift)
        owners = table(_owners, x.device, torch.int64, *args)
        found, before = owners[0].expand(x.shape[0], -1), 0
        choices = self._subdivided(self.predictor(x, grid), args)
        for level, (_, chosen) in enumerate(choices):
            before += self.order.levels[level] ** 2
            found = torch.where(chosen[:, owners[level]], before + owners[level + 1], found)
        return found

    def _table_args(self, grid: Grid, sign: Sign | None, shift: ShiftConfig | None) -> Any:
        roll = (0, 0) if sign is None or shift is None else shift.roll(sign, grid)
        return (self.order_json, *grid, *roll)

    def _subdivided(self, score: Tensor, args: Any) -> list[tuple[Tensor, Tensor]]:
        """Return the soft and the hard choice of every level that is subdivided, as `choose`."""
        allowed, choices = None, []
        for level in range(len(self.order.levels) - 1):
            mean = score @ table(_averages, score.device, score.dtype, level, *args)
            holds = table(_occupied, score.device, torch.bool, level, *args)
            soft, chosen = self.choose(mean, holds if allowed is None else allowed & holds)
            choices.append((soft, chosen))
            if level + 2 < len(self.order.levels):
                parents = table(_parents, score.device, torch.int64, level + 1, self.order_json)
                allowed = chosen[:, parents]
        return choices

    def choose(self, mean: Tensor, allowed: Tensor) -> tuple[Tensor, Tensor]:
        """Choose the windows to subdivide by their mean scores.

        Shapes: mean and both results (B, windows): soft probabilities, and the hard choice as
        booleans; allowed (B, windows) or (windows,): windows of subdivided parents that hold a
        token.
        """
        if self.training:
            mean = mean + gumbel_noise(mean)
        mean = mean.masked_fill(~allowed, -torch.inf)
        best = mean.sort(dim=-1, descending=True, stable=True).indices[:, : self.order.refine]
        chosen = torch.zeros_like(mean).scatter(1, best, 1.0) > 0
        return mean.softmax(-1), chosen & allowed


# --- the released code -------------------------------------------------------------------------


def _window_order(windows: int, height: int, width: int) -> np.ndarray:
    """Return tokens by windows x windows equal windows in raster order, raster inside each."""
    grid = np.arange(height * width).reshape(windows, height // windows, windows, width // windows)
    return grid.transpose(0, 2, 1, 3).ravel()


def _window_back(windows: int, height: int, width: int) -> np.ndarray:
    return np.argsort(_window_order(windows, height, width))


class OfficialQuadtree(nn.Module):
    """QuadMamba's sequence as released: tokens of the chosen quadrant overlap others.

    The 2 x 2 quadrants are laid out one after the other without the chosen one, whose tokens
    are added where a raster of 4 x 4 windows over the whole map would put them. Scores are
    taken before the shift and applied after it; the roll is H // fraction along both axes.
    Differs: evaluation takes the best quadrant (the released code draws noise there too); maps
    are padded to multiples of four and cropped (the released code crosses the two amounts and
    does not crop, so it runs on such maps only).
    Source: VISION-SJTU/QuadMamba @ 720ecc3.
    """

    def __init__(self, order: QuadtreeOfficialOrder, inner: int, class_token: int = 0) -> None:
        super().__init__()
        self.predictor = LocalityPredictor(inner, order.context)

    def lay_out(self, x: Tensor, grid: Grid, sign: Sign | None, shift: ShiftConfig | None) -> Laid:
        """Lay the overlapping sequence out, to be walked both ways."""
        sequence, restore = self(x, grid, sign, shift)
        length = side(sequence.shape[1])
        orders = table(route_table, x.device, torch.int32, BIDIRECTIONAL, 1, length)
        return Laid(sequence, orders, restore)

    def forward(
        self, x: Tensor, grid: Grid, sign: Sign | None, shift: ShiftConfig | None
    ) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """Return the sequence to scan and the function that puts a scanned one back.

        Shapes: x (B, L, E); sequence (B, L', E), L' tokens of the padded map.
        """
        x, mask, roll = self._masked(x, grid, sign, shift)
        padded = (side(x.shape[1]), side(x.shape[2]))
        x = x.flatten(1, 2)

        def windows(count: int, back: bool = False) -> Tensor:
            make = _window_back if back else _window_order
            return table(make, x.device, torch.int64, count, *padded)

        sequence = ((1 - mask) * x).index_select(1, windows(2))
        sequence = sequence + (mask * x).index_select(1, windows(4))

        def restore(y: Tensor) -> Tensor:
            y = mask * y.index_select(1, windows(4, back=True)) + (1 - mask) * y.index_select(
                1, windows(2, back=True)
            )
            y = y.unflatten(1, padded)
            if any(roll):
                y = y.roll(tuple(-r for r in roll), (1, 2))
            return y[:, : grid[0], : grid[1]].flatten(1, 2)

        return sequence, restore

    def _masked(
        self, x: Tensor, grid: Grid, sign: Sign | None, shift: ShiftConfig | None
    ) -> tuple[Tensor, Tensor, tuple[int, ...]]:
        """Return the padded map, rolled, the mask of the chosen quadrant, not rolled, the roll.

        Shapes: x (B, L, E); map (B, H', W', E); mask (B, H' * W', 1).
        """
        height, width = (-(-n // OFFICIAL_WINDOWS) * OFFICIAL_WINDOWS for n in grid)
        x = F.pad(x.unflatten(1, grid), (0, 0, 0, width - grid[1], 0, height - grid[0]))
        score = self.predictor(x.flatten(1, 2), (height, width))
        pooled = score.unflatten(1, (2, height // 2, 2, width // 2)).mean((2, 4)).flatten(1)
        mask = self.choose(pooled).unflatten(1, (2, 1, 2, 1)).to(x.dtype)
        mask = mask.expand(-1, 2, height // 2, 2, width // 2).reshape(-1, height * width, 1)
        if sign is None or shift is None:
            return x, mask, (0, 0)
        roll = tuple(s * (height // shift.fraction) for s in sign)
        return x.roll(roll, (1, 2)), mask, roll

    def windows(
        self, x: Tensor, grid: Grid, sign: Sign | None, shift: ShiftConfig | None
    ) -> Tensor:
        """Return the window that holds each token, as `Quadtree.windows` does."""
        x, mask, roll = self._masked(x, grid, sign, shift)
        height, width = side(x.shape[1]), side(x.shape[2])
        rows = torch.arange(height, device=x.device)[:, None]
        cols = torch.arange(width, device=x.device)
        coarse, fine = (
            rows * count // height * count + cols * count // width
            for count in (2, OFFICIAL_WINDOWS)
        )
        found = torch.where(mask.unflatten(1, (height, width))[..., 0] > 0, 4 + fine, coarse)
        found = found.roll(tuple(-r for r in roll), (1, 2))
        return found[:, : grid[0], : grid[1]].flatten(1)

    def choose(self, pooled: Tensor) -> Tensor:
        """Return the chosen quadrant one-hot, straight through in training. Shapes: (B, 4)."""
        if self.training:
            return F.gumbel_softmax(pooled, tau=1.0, hard=True)
        return F.one_hot(pooled.argmax(-1), 4)

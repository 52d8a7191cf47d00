"""How tokens are laid out for a scan, and how a scanned sequence is put back on the map."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from backbones.language import Grid
from backbones.orders.base import GridOrder, route_table, steps_of_tokens
from backbones.orders.shift import ShiftConfig
from backbones.tables import side, table

Sign = tuple[int, int]


class Laid(NamedTuple):
    """Tokens as a scan takes them.

    sequence: (B, L, E), or (B, K, L, E) where each route reads tokens of its own. orders: as
    `kernels.cross_scan` takes them. restore: puts (..., L, E) back on the map. gate: (B, L, 1),
    multiplied to the merged output, or None.
    """

    sequence: Tensor
    orders: Tensor | None
    restore: Callable[[Tensor], Tensor]
    gate: Tensor | None = None


class Tabled(nn.Module):
    """Routes from a table that the grid gives; padding stands after the tokens."""

    def __init__(self, order: GridOrder, inner: int, class_token: int = 0) -> None:
        super().__init__()
        self.class_token = class_token
        self.order, self.order_json = order, order.model_dump_json()

    def lay_out(self, x: Tensor, grid: Grid, sign: Sign | None, shift: ShiftConfig | None) -> Laid:
        """Pad the tokens that the routes walk over; they stay in memory order."""
        tokens, spare = side(x.shape[1]), self.order.spare(grid)
        roll = (0, 0) if sign is None or shift is None else shift.roll(sign, grid)
        args = (self.order_json, *grid, self.class_token, *roll)
        orders = table(route_table, x.device, torch.int32, *args)
        if not spare:
            return Laid(x, orders, lambda y: y)
        # Steps over padding insert nothing but let the state decay, as published.
        return Laid(F.pad(x, (0, 0, 0, spare)), orders, lambda y: y.narrow(-2, 0, tokens))


class Gathered(nn.Module):
    """Routes that share the tokens out, each laid out by itself; padding is zero."""

    def __init__(self, order: GridOrder, inner: int, class_token: int = 0) -> None:
        super().__init__()
        self.order, self.order_json = order, order.model_dump_json()

    def lay_out(self, x: Tensor, grid: Grid, sign: Sign | None, shift: ShiftConfig | None) -> Laid:
        """Give each route its tokens."""
        visits = table(route_table, x.device, torch.int64, self.order_json, *grid)
        back = table(steps_of_tokens, x.device, torch.int64, self.order_json, *grid)
        x = F.pad(x, (0, 0, 0, self.order.spare(grid))).index_select(1, visits.flatten())
        x = x.unflatten(1, (self.order.num_routes, -1))
        return Laid(x, None, lambda y: y.flatten(1, 2).index_select(1, back))

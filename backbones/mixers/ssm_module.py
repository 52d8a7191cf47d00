"""Selective scan over the routes of a scan order: the mixer of every Mamba backbone.

Tokens stay in memory order; the kernel reads them through an order table. Only a causal
convolution along a route, and orders whose routes do not visit every token or add tokens up,
lay tokens out per route.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from backbones import initialization as init
from backbones.language import Grid
from backbones.mixers.ssm import SSMConfig
from backbones.norms import ChannelAttention, make_norm
from backbones.orders.base import inverse_table, move_codes, route_table
from backbones.orders.raster import BidirectionalOrder
from backbones.registry import imported
from backbones.tables import side, table
from kernels import cross_scan

ALL = slice(None)
BIDIRECTIONAL = BidirectionalOrder().model_dump_json()


class SSM(nn.Module):
    """in projection, depthwise conv, SiLU, scans over K routes, merge, gate, out projection.

    depth: blocks of the network. class_token: as `route_table` takes it; the last tokens are no
        part of the map.
    shift: signs of the cyclic shift along (H, W).
    Shapes of the weights: x_proj (P, R + 2N, E) in the order dt, B, C; dt_proj (P, E, R);
    dt_bias, D (P, E); A_log (P, E, N), with P = 1 where routes share, else K; E / K for E where
    routes split the channels.
    Source: VMamba, arXiv 2401.10166, section 4.2, and the papers that `SSMConfig` names.
    """

    def __init__(
        self,
        config: SSMConfig,
        width: int,
        *,
        shift: tuple[int, int] | None = None,
        class_token: int = 0,
        depth: int = 1,
    ) -> None:
        super().__init__()
        inner, rank, state = config.inner(width), config.rank(width), config.d_state
        self.config, self.shift, self.class_token = config, shift, class_token
        self.routes, self.order_json = config.order.num_routes, config.order.model_dump_json()
        self.sizes = (rank, state, state)
        sets = 1 if config.shared else self.routes
        projected = inner if config.gate == "none" else 2 * inner

        self.in_proj = init.linear(width, projected, bias=config.proj_bias)
        conv = config.conv
        if conv is None:
            self.conv = nn.Identity()
        elif config.causal:
            channels = self.routes * inner
            self.conv = nn.Conv1d(channels, channels, conv.kernel, groups=channels, bias=conv.bias)
        else:
            self.conv = nn.Conv2d(
                inner, inner, conv.kernel, padding=conv.kernel // 2, groups=inner, bias=conv.bias
            )
        self.activation = getattr(F, config.activation)
        if config.scan:
            self.layout = imported(config.order.layout)(config.order, inner, class_token)
            each = inner // self.routes if config.split else inner
            for name, start in init.dynamics(config.init, sets, each, rank, state).items():
                setattr(self, name, start)
            if config.direction_bias:
                self.move_bias = init.normal(5, state)
            if config.merge == "attention":
                self.attention = ChannelAttention(inner)
        self.out_norm = make_norm(config.out_norm, inner)
        self.out_proj = init.linear(inner, width, bias=config.proj_bias)
        if config.gate == "scan":  # Mamba's own blocks start their outputs smaller
            init.scale_output(self.out_proj.weight, depth)
            if config.init != "linear":
                self.in_proj.reset_parameters()

    def forward(self, x: Tensor, grid: Grid) -> Tensor:
        """Mix tokens. Shapes: (B, L, C) in and out, L = H * W + class token."""
        x, z = self.in_proj(x), None
        if self.config.gate != "none":
            x, z = x.chunk(2, dim=-1)
        if not self.config.causal:
            x = self.activation(self._conv_on_map(x, grid))
        if not self.config.scan:
            return self._finish(x, z, inside=False)
        if self.config.passes > 1:
            return self._finish(self._cascade(x, grid), z, inside=False)
        laid = self.layout.lay_out(x, grid, self.shift, self.config.shift)
        x = self._conv_on_routes(laid.sequence, grid) if self.config.causal else laid.sequence
        inside = None
        if self.config.gates_in_scan:
            spare = self.config.order.spare(grid)
            inside = F.pad(z, (0, 0, 0, spare)) if spare else z
        if self.config.split:
            x = x.unflatten(-1, (self.routes, -1)).transpose(1, 2)
        y = self._scan(x, laid.orders, inside, grid)
        y = laid.restore(y.transpose(1, 2).flatten(2) if self.config.split else y)
        if self.config.merge == "attention":
            y = self.attention(y).sum(1)
        if laid.gate is not None:
            y = y * laid.gate
        return self._finish(y, z, inside is not None)

    def _cascade(self, x: Tensor, grid: Grid) -> Tensor:
        """Scan the rows, then the columns of the result, each line alone. Shapes: (B, L, E)."""
        for first in (0, 2):
            lines = F.layer_norm(x, x.shape[-1:]).unflatten(1, grid)
            lines = lines.transpose(1, 2) if first else lines
            count, length = side(lines.shape[1]), side(lines.shape[2])
            orders = table(route_table, x.device, torch.int32, BIDIRECTIONAL, 1, length)
            sets = ALL if self.config.shared else slice(first, first + 2)
            y = self._scan(lines.flatten(0, 1), orders, None, grid, sets).unflatten(0, (-1, count))
            x = (y.transpose(1, 2) if first else y).flatten(1, 2)
        return x

    def _finish(self, y: Tensor, z: Tensor | None, inside: bool) -> Tensor:
        """Norm, gate and project merged routes. inside: whether the gate has acted."""
        if self.config.gate == "scan" and not inside:
            y = y * F.silu(z)
        y = self.out_norm(y)
        if self.config.gate == "output":
            y = y * F.silu(z)
        return self.out_proj(y)

    def _conv_on_map(self, x: Tensor, grid: Grid) -> Tensor:
        if isinstance(self.conv, nn.Identity):
            return x
        patches = x.unflatten(1, grid).permute(0, 3, 1, 2)
        return self.conv(patches).permute(0, 2, 3, 1).flatten(1, 2)

    def _table_args(self, grid: Grid) -> tuple[str | int, ...]:
        """Return what `route_table` needs to know."""
        roll = (0, 0) if self.shift is None else self.config.shift.roll(self.shift, grid)
        return self.order_json, *grid, self.class_token, *roll

    def _conv_on_routes(self, x: Tensor, grid: Grid) -> Tensor:
        """Convolve along each route, causally. Shapes: (B, L, E) -> (B, K, L, E)."""
        args = self._table_args(grid)
        visits = table(route_table, x.device, torch.int64, *args)
        back = table(inverse_table, x.device, torch.int64, *args)
        kernel = self.conv.kernel_size[0]
        # One index_select a route: their gradients add up in a fixed order.
        along = torch.stack([x.index_select(1, row) for row in visits.unbind()], dim=2)
        along = F.pad(along.flatten(2), (0, 0, kernel - 1, 0)).unsqueeze(2).permute(0, 3, 1, 2)
        weight = self.conv.weight.unsqueeze(-1)
        along = F.conv2d(along, weight, self.conv.bias, groups=self.conv.groups)
        along = self.activation(along).permute(0, 2, 3, 1).reshape(x.shape[0], -1, x.shape[2])
        steps = back * self.routes + torch.arange(self.routes, device=x.device).unsqueeze(1)
        return along.index_select(1, steps.flatten()).unflatten(1, (self.routes, -1))

    def _scan(
        self, x: Tensor, orders: Tensor | None, z: Tensor | None, grid: Grid, sets: slice = ALL
    ) -> Tensor:
        """Project x to steps, B and C, scan it and merge the routes where that is a sum.

        sets: which weights it takes.
        Shapes: x (B, L, E) or (B, K, L, E); z (B, L, E); result as x, or (B, K, L, E).
        """
        apart = self.config.order.parts or self.config.split or self.config.merge == "attention"
        weights = self.x_proj, self.dt_proj, self.dt_bias, self.A_log, self.D
        x_proj, dt_proj, dt_bias, log, d = (w[sets] for w in weights)
        routes = self.routes // self.config.passes
        if x.dim() == 3:
            steps = F.linear(x, x_proj.flatten(0, 1))
            steps = steps.unflatten(-1, (-1, sum(self.sizes))).transpose(1, 2)
        else:
            steps = torch.matmul(x, x_proj.transpose(1, 2))
        dt, b, c = steps.split(self.sizes, dim=-1)
        delta = torch.matmul(dt, dt_proj.transpose(1, 2))
        bias = 2 * dt_bias if "double_dt_bias" in self.config.compat else dt_bias
        wide = torch.promote_types(log.dtype, torch.float32)
        a = -log.to(wide).exp()
        if self.config.shared and routes > 1:
            delta, b, c = (t.expand(-1, routes, -1, -1) for t in (delta, b, c))
            a, d, bias = (t.expand(routes, *t.shape[1:]) for t in (a, d, bias))
        if "raster_steps" in self.config.compat:
            delta, b, c = self._by_step(delta, b, c, grid)
        elif self.config.direction_bias:
            b = b + self._moves(grid, by_step=False)
        return cross_scan(
            x, delta, a, b, c, d,
            orders=orders, z=z, delta_bias=bias, delta_softplus=True,
            merge="none" if apart else self.config.merge,
        )  # fmt: skip

    def _by_step(self, delta: Tensor, b: Tensor, c: Tensor, grid: Grid) -> tuple[Tensor, ...]:
        """Give step t of a route the delta, B and C of raster token t (PlainMamba's code)."""
        back = table(inverse_table, delta.device, torch.int64, *self._table_args(grid))
        if self.config.direction_bias:
            b = b + self._moves(grid, by_step=True)
        return tuple(
            torch.stack([t[:, k].index_select(1, row) for k, row in enumerate(back)], dim=1)
            for t in (delta, b, c)
        )

    def _moves(self, grid: Grid, by_step: bool) -> Tensor:
        """Return the learned vector of the move into each step. Shapes: (K, L, N)."""
        codes = table(move_codes, self.move_bias.device, torch.int64, self.order_json, *grid)
        if not by_step:
            args = self._table_args(grid)
            codes = codes.gather(1, table(inverse_table, codes.device, torch.int64, *args))
        return self.move_bias[codes]

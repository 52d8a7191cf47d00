"""Selective scan over the routes of a scan order."""

from __future__ import annotations

import math
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, PositiveInt, model_validator

from backbones.language import Grid, Model, Norm, NormConfig, named, plain, require_odd
from backbones.mixers.base import MixerConfig
from backbones.orders.base import Order
from backbones.orders.raster import CrossOrder
from backbones.orders.shift import Shift
from backbones.tally import Tally
from kernels import scan_flops

QUIRKS = ("raster_steps", "double_dt_bias")


class ConvConfig(Model):
    """Depthwise convolution in front of the scan, followed by the activation.

    kind "2d": on the map, shared by the routes (VMamba). "causal": 1-D along each route, with
    parameters of its own per route (Vim, LocalVim).
    """

    kind: Literal["2d", "causal"] = "2d"
    kernel: PositiveInt = 3
    bias: bool = False

    @model_validator(mode="after")
    def _centered(self) -> ConvConfig:
        if self.kind == "2d":
            require_odd(self.kernel)
        return self


class SSMConfig(MixerConfig):
    """Selective scan (S6) over K routes of a scan order.

    scan: false leaves out the scan alone, with all that belongs to it: the projections, the
        convolution, the gate and the norm stay (MambaOut's question, arXiv 2405.07992, section 3).
    order: which routes. d_state: N. expand: inner width / width. dt_rank: R, "auto" is
    ceil(width / 16). conv: depthwise conv before the scan, null for none.
    activation: after the convolution, or in its place; gates stay SiLU (VMamba's ablation).
    gate: "none"; "output" multiplies SiLU(z) after merge and out_norm (VMamba v0, PlainMamba);
        "scan" multiplies it to each route inside the scan (Vim, LocalVim).
    merge: how routes join: "sum", "mean" (Vim's division by two), "attention" (sum after one
        channel attention shared by the routes, LocalMamba).
    out_norm: LayerNorm over the inner width after the merge, null for none.
    split: each route scans its share of the channels, and the shares are put side by side
        (GroupMamba, arXiv 2407.13772, section 3.2, without its channel attention).
    cascade: of order cross, scan each row alone, both ways, then each column of what that gives;
        both read their tokens normalized, without learned factors (VMamba's ablation, cascade2d
        of MzeroMiko/VMamba, classification/models/vmamba.py).
    shared: all routes share x_proj, dt_proj, A and D (PlainMamba).
    proj_bias: bias on the in and out projections (PlainMamba).
    shift: cyclic shift before the scan, null for none.
    init: "mamba" initializes dt so that softplus(bias) is in [1e-3, 1e-1]; "linear" leaves the
        dt projection as any other linear layer, as LocalVim and PlainMamba do in effect;
        "random" draws dt projection, bias and A, "zero" starts A at -1 (VMamba's ablation: its
        v1 and v2).
    direction_bias: adds a learned vector per movement direction to B (PlainMamba).
    compat: quirks of PlainMamba's released code that its weights were trained with.
        "raster_steps": delta, B and C of step t come from raster token t instead of the token
        that step visits; "double_dt_bias": the dt bias enters twice.
    Source: VMamba, arXiv 2401.10166; Mamba, arXiv 2312.00752, algorithm 2.
    """

    module: ClassVar[str] = "backbones.mixers.ssm_module:SSM"

    kind: Literal["ssm"] = "ssm"
    scan: bool = True
    order: Order = CrossOrder()
    d_state: Annotated[int, Field(ge=1, le=64)] = 1
    expand: Annotated[float, Field(gt=0)] = 2.0
    dt_rank: PositiveInt | Literal["auto"] = "auto"
    conv: Annotated[ConvConfig, named("kind")] | None = ConvConfig()
    activation: Literal["silu", "gelu", "relu"] = "silu"
    gate: Literal["none", "output", "scan"] = "none"
    merge: Literal["sum", "mean", "attention"] = "sum"
    out_norm: Norm | None = NormConfig()
    split: bool = False
    cascade: bool = False
    shared: bool = False
    proj_bias: bool = False
    shift: Shift | None = None
    init: Literal["mamba", "linear", "random", "zero"] = "mamba"
    direction_bias: bool = False
    compat: tuple[Literal["raster_steps", "double_dt_bias"], ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _first_spelling(cls, data: Any) -> Any:
        """Read quirks that were once fields of their own."""
        if not isinstance(data, dict) or not any(quirk in data for quirk in QUIRKS):
            return data
        kept = {key: value for key, value in data.items() if key not in QUIRKS}
        meant = [quirk for quirk in QUIRKS if data.get(quirk)]
        bad = next((q for q in QUIRKS if not isinstance(data.get(q, False), bool)), None)
        if bad or sorted(kept.setdefault("compat", meant)) != sorted(meant):
            quirk = bad or QUIRKS[0]
            raise ValueError(f"{quirk} is written `compat: [{quirk}]`, and once")
        return kept

    @model_validator(mode="after")
    def _consistent(self) -> SSMConfig:
        order = self.order
        if not self.scan:
            if self.causal:
                raise ValueError(
                    "scan false leaves no routes for a causal conv to follow; use conv 2d or null"
                )
            return self
        for field in ("direction_bias", "raster_steps"):
            asked = self.direction_bias if field == "direction_bias" else field in self.compat
            if asked and not order.adjacent:
                raise ValueError(
                    f"{field} needs order snake (found {order.kind}); drop one of the two"
                )
        if self.split and (self.causal or self.merge != "sum" or order.parts):
            raise ValueError(
                "split puts routes side by side, each over all tokens; use merge sum, conv 2d or "
                "null, and an order other than atrous"
            )
        if self.cascade and (order.kind != "cross" or self.causal or self.shift or self.split):
            raise ValueError(
                "cascade scans rows, then columns, each alone; use order cross, conv 2d or null, "
                "and neither shift nor split"
            )
        if self.shift and order.parts:
            raise ValueError(f"shift has no meaning for order {order.kind}; remove it")
        if self.causal and not order.fixed:
            raise ValueError(
                f"a causal conv follows fixed routes, not order {order.kind}; use conv 2d"
            )
        if self.merge == "attention" and (self.cascade or not order.visits_all):
            raise ValueError(
                "merge attention needs whole routes, which "
                f"{'a cascade' if self.cascade else f'order {order.kind}'} has not; "
                "use merge sum"
            )
        return self

    @property
    def causal(self) -> bool:
        """Whether the convolution follows the routes."""
        return self.conv is not None and self.conv.kind == "causal"

    @property
    def passes(self) -> int:
        """How many scans follow each other, which share the routes out."""
        return 2 if self.cascade else 1

    @property
    def gates_in_scan(self) -> bool:
        """Whether the kernel applies the gate; orders that rearrange tokens apply it after."""
        return self.gate == "scan" and self.order.visits_all and not (self.split or self.cascade)

    @property
    def takes_class_token(self) -> bool:
        on_map = self.conv is not None and not self.causal
        return self.order.fixed and not (on_map or self.direction_bias or self.cascade)

    @property
    def scan_state(self) -> int:
        return self.d_state if self.scan else 0

    def turn(self, index: int, count: int) -> tuple[int, int] | None:
        return self.shift.resolve(index, count) if self.shift and self.scan else None

    def inner(self, width: int) -> int:
        """E, the number of scanned channels."""
        return int(self.expand * width)

    def rank(self, width: int) -> int:
        """R, the rank of the dt projection."""
        return math.ceil(width / 16) if self.dt_rank == "auto" else self.dt_rank

    def check_width(self, width: int) -> None:
        """Raise ValueError for too few inner channels: predictors and attention divide theirs."""
        if self.scan and self.split and self.inner(width) % self.order.num_routes:
            raise ValueError(
                f"split: {self.inner(width)} inner channels are no multiple of "
                f"{self.order.num_routes} routes; change width or expand"
            )
        least = 8 if self.merge == "attention" else self.order.least_channels
        least = least if self.scan else 1
        if self.inner(width) < least:
            raise ValueError(
                f"width {width} x expand {self.expand} leaves {self.inner(width)} inner channels; "
                f"this mixer needs {least}"
            )

    def adapts_to(self, side: int) -> tuple[SSMConfig, list[str]]:
        if not self.scan:
            return self, []
        alone = [f"order {self.order.kind} cannot act on a single token"] if side == 1 else []
        order, notes = self.order.adapts_to(side)
        shift, more = (None, []) if self.shift is None else self.shift.adapts_to(side)
        return self.model_copy(update={"order": order, "shift": shift}), alone + notes + more

    def with_routes(self, routes: tuple[str, ...]) -> SSMConfig:
        return self.model_copy(update={"order": self.order.with_routes(routes)})

    def routes_key(self, routes: tuple[str, ...], grid: Grid) -> tuple[int, ...]:
        return self.order.routes_key(routes, grid)

    def canonical(
        self, width: int, shift: tuple[int, int] | None = None, class_token: bool = False
    ) -> dict[str, Any]:
        gate, merge = self.gate, self.merge
        if not self.scan:
            return {
                "kind": self.kind,
                "scan": False,
                "inner": self.inner(width),
                "conv": plain(self.conv),
                "gate": "output" if gate == "scan" and self.out_norm is None else gate,
                "out_norm": plain(self.out_norm),
                "proj_bias": self.proj_bias,
                **({"activation": self.activation} if self.activation != "silu" else {}),
            }
        if gate == "scan" and merge != "attention" and self.out_norm is None:
            gate = "output"  # gating each summand or the sum is the same
        if merge == "mean" and (self.order.num_routes == 1 or self.order.parts):
            merge = "sum"  # nothing to average: one route, or routes over parts of the map
        return {
            "kind": self.kind,
            "order": self.order.canonical(class_token),
            "d_state": self.d_state,
            "inner": self.inner(width),
            "rank": self.rank(width),
            "conv": plain(self.conv),
            "gate": gate,
            "merge": merge,
            "out_norm": plain(self.out_norm),
            "shared": self.shared and self.order.num_routes > 1,
            "proj_bias": self.proj_bias,
            "shift": None if not shift or self.shift is None else [*shift, self.shift.fraction],
            "direction_bias": self.direction_bias,
            **{quirk: quirk in self.compat for quirk in QUIRKS},
            **({"activation": self.activation} if self.activation != "silu" else {}),
            **({"cascade": True} if self.cascade else {}),
            **({"split": True} if self.split and self.order.num_routes > 1 else {}),
        }

    def cost(self, tally: Tally, width: int, grid: Grid, extra: int) -> None:
        inner, routes, positions = self.inner(width), self.order.num_routes, grid[0] * grid[1]
        tokens, length = positions + extra, self.order.length(grid) + extra
        gates = 1 if self.gate == "none" else 2
        tally.linear("mixer.projections", width, gates * inner, tokens, bias=self.proj_bias)
        if self.conv is not None and self.causal:
            weight = routes * inner * self.conv.kernel
            tally.conv("mixer.conv", weight, routes * inner * self.conv.bias, length)
        elif self.conv is not None:
            weight = inner * self.conv.kernel**2
            tally.conv("mixer.conv", weight, inner * self.conv.bias, positions)
        if self.scan:
            self._cost_scan(tally, inner, self.rank(width), grid, extra)
        tally.norm("mixer.norm", self.out_norm, inner, tokens)
        tally.linear("mixer.projections", inner, width, tokens, bias=self.proj_bias)

    def _cost_scan(self, tally: Tally, inner: int, rank: int, grid: Grid, extra: int) -> None:
        """Count the scan, what steps it, and what joins its routes."""
        order, state, routes = self.order, self.d_state, self.order.num_routes
        positions = grid[0] * grid[1]
        tokens, length = positions + extra, order.length(grid) + extra
        order.cost(tally, inner, grid)
        if self.cascade:
            tally.bare_norm("mixer.norm", inner, self.passes * positions)
        sets = 1 if self.shared else routes
        # Routes that read their own input project it each, even with shared weights.
        apart = self.causal or order.parts or self.split
        uses = routes if apart else max(sets, self.passes)
        each = inner // routes if self.split else inner
        per_set = each * (rank + 2 * state) + each * rank
        tally.add("mixer.steps", sets * (per_set + each), uses * per_set * length)
        if self.direction_bias:
            tally.add("mixer.steps", 5 * state)
        scan = scan_flops(length, each, state, routes, tally.convention, self.gates_in_scan)
        tally.add("mixer.scan", sets * (each * state + each), scan)
        if self.merge == "attention":
            tally.channel_attention("mixer.attention", inner, tokens, uses=routes)

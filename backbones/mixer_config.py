"""The part of the backbone language that describes what a block computes: mixers and FFN."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field, PositiveInt, model_validator

from backbones.order_config import (
    FixedOrder,
    Model,
    Norm,
    NormConfig,
    ScanOrder,
    Shift,
    WindowOrder,
    named,
)


def _require_odd(kernel: int) -> None:
    if kernel % 2 == 0:
        raise ValueError(f"kernel {kernel} must be odd to keep the map's size; use {kernel + 1}")


class ConvConfig(Model):
    """Depthwise convolution in front of the scan, followed by SiLU.

    kind "2d": on the map, shared by the routes (VMamba). "causal": 1-D along each route, with
    parameters of its own per route (Vim, LocalVim).
    """

    kind: Literal["2d", "causal"] = "2d"
    kernel: PositiveInt = 3
    bias: bool = False

    @model_validator(mode="after")
    def _centered(self) -> ConvConfig:
        if self.kind == "2d":
            _require_odd(self.kernel)
        return self


class SSMConfig(Model):
    """Selective scan (S6) over K routes of a scan order.

    order: which routes. d_state: N. expand: inner width / width. dt_rank: R, "auto" is
    ceil(width / 16). conv: depthwise conv before the scan, null for none (SiLU stays).
    gate: "none"; "output" multiplies SiLU(z) after merge and out_norm (VMamba v0, PlainMamba);
        "scan" multiplies it to each route inside the scan (Vim, LocalVim).
    merge: how routes join: "sum", "mean" (Vim's division by two), "attention" (sum after one
        channel attention shared by the routes, LocalMamba).
    out_norm: LayerNorm over the inner width after the merge, null for none.
    shared: all routes share x_proj, dt_proj, A and D (PlainMamba).
    proj_bias: bias on the in and out projections (PlainMamba).
    shift: cyclic shift before the scan, null for none.
    init: "mamba" initializes dt so that softplus(bias) is in [1e-3, 1e-1]; "linear" leaves the
        dt projection as any other linear layer, as LocalVim and PlainMamba do in effect.
    direction_bias: adds a learned vector per movement direction to B (PlainMamba).
    raster_steps: delta, B and C of step t come from raster token t instead of the token that
        step visits: a quirk of PlainMamba's code that its weights were trained with.
    double_dt_bias: the dt bias enters twice: likewise PlainMamba.
    Source: VMamba, arXiv 2401.10166; Mamba, arXiv 2312.00752, algorithm 2.
    """

    kind: Literal["ssm"] = "ssm"
    order: ScanOrder = FixedOrder(kind="cross")
    d_state: Annotated[int, Field(ge=1, le=64)] = 1
    expand: Annotated[float, Field(gt=0)] = 2.0
    dt_rank: PositiveInt | Literal["auto"] = "auto"
    conv: Annotated[ConvConfig, named("kind")] | None = ConvConfig()
    gate: Literal["none", "output", "scan"] = "none"
    merge: Literal["sum", "mean", "attention"] = "sum"
    out_norm: Norm | None = NormConfig()
    shared: bool = False
    proj_bias: bool = False
    shift: Shift | None = None
    init: Literal["mamba", "linear"] = "mamba"
    direction_bias: bool = False
    raster_steps: bool = False
    double_dt_bias: bool = False

    @model_validator(mode="after")
    def _consistent(self) -> SSMConfig:
        if self.direction_bias and self.order.kind != "snake":
            raise ValueError(
                f"direction_bias needs order snake (found {self.order.kind}); drop one of the two"
            )
        if self.raster_steps and self.order.kind != "snake":
            raise ValueError(
                f"raster_steps needs order snake (found {self.order.kind}); drop one of the two"
            )
        if self.shift and self.order.kind == "atrous":
            raise ValueError("shift has no meaning for order atrous; remove it")
        if self.conv is not None and self.conv.kind == "causal":
            if not isinstance(self.order, (FixedOrder, WindowOrder)):
                raise ValueError(
                    f"a causal conv follows fixed routes, not order {self.order.kind}; use conv 2d"
                )
        if self.merge == "attention" and self.order.kind in ("atrous", "quadtree_official"):
            raise ValueError(
                f"merge attention needs whole routes, which order {self.order.kind} has not; "
                "use merge sum"
            )
        return self

    @property
    def gates_in_scan(self) -> bool:
        """Whether the kernel applies the gate; orders that rearrange tokens apply it after."""
        return self.gate == "scan" and self.order.kind not in ("atrous", "quadtree_official")

    def narrowest(self) -> int:
        """Return the least inner width: predictors and attention divide theirs."""
        least = {"quadtree": 4, "quadtree_official": 4}.get(self.order.kind, 1)
        return 8 if self.merge == "attention" else least

    def check_width(self, width: int) -> None:
        """Raise ValueError for a block width that leaves no inner channels."""
        if self.inner(width) < self.narrowest():
            raise ValueError(
                f"width {width} x expand {self.expand} leaves {self.inner(width)} inner channels; "
                f"this mixer needs {self.narrowest()}"
            )

    def inner(self, width: int) -> int:
        """E, the number of scanned channels."""
        return int(self.expand * width)

    def rank(self, width: int) -> int:
        """R, the rank of the dt projection."""
        return math.ceil(width / 16) if self.dt_rank == "auto" else self.dt_rank


class GatedConvConfig(Model):
    """MambaOut's gated CNN: an SSM block without the SSM.

    expand: hidden / width. conv_ratio: convolved channels / width. kernel: depthwise kernel.
    Source: MambaOut, arXiv 2405.07992, section 3.
    """

    kind: Literal["gated_conv"] = "gated_conv"
    expand: Annotated[float, Field(gt=0)] = 8 / 3
    conv_ratio: Annotated[float, Field(gt=0)] = 1.0
    kernel: PositiveInt = 7

    @model_validator(mode="after")
    def _fits(self) -> GatedConvConfig:
        if self.conv_ratio > self.expand:
            raise ValueError(
                f"conv_ratio {self.conv_ratio} exceeds expand {self.expand}; lower it to at most "
                "expand"
            )
        _require_odd(self.kernel)
        return self

    def check_width(self, width: int) -> None:
        """Raise ValueError for a block width that leaves nothing to convolve."""
        if self.convolved(width) < 1:
            raise ValueError(
                f"width {width} x conv_ratio {self.conv_ratio} leaves no channel to convolve"
            )

    def hidden(self, width: int) -> int:
        """Return the width of the gate and of the gated channels."""
        return int(self.expand * width)

    def convolved(self, width: int) -> int:
        """Return how many of the gated channels are convolved."""
        return int(self.conv_ratio * width)


class InvertedResidualConfig(Model):
    """EfficientVMamba's convolutional block: 1x1, depthwise 3x3, squeeze-excite, 1x1, all BN.

    Source: TerryPei/EfficientVMamba @ 0bc5ee2.
    """

    kind: Literal["inverted_residual"] = "inverted_residual"
    expand: Annotated[float, Field(gt=0)] = 4.0
    se_ratio: Annotated[float, Field(gt=0, le=1)] = 0.125

    def check_width(self, width: int) -> None:
        """Raise ValueError for a block width that leaves no squeezed channel."""
        if self.squeezed(width) < 1:
            raise ValueError(
                f"width {width} x expand {self.expand} x se_ratio {self.se_ratio} leaves no channel"
            )

    def hidden(self, width: int) -> int:
        """Return the width of the depthwise convolution."""
        return int(self.expand * width)

    def squeezed(self, width: int) -> int:
        """Return the width of the squeeze-excite bottleneck."""
        return int(self.se_ratio * self.hidden(width))


Mixer = Annotated[
    SSMConfig | GatedConvConfig | InvertedResidualConfig,
    Field(discriminator="kind"),
    named("kind"),
]


class FFNConfig(Model):
    """Linear, GELU, linear, with biases; hidden = int(width * ratio)."""

    ratio: Annotated[float, Field(gt=0)] = 4.0

    def hidden(self, width: int) -> int:
        """Return the inner width."""
        return int(self.ratio * width)

"""The part of the backbone language that describes scan orders; also what all configs share."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PositiveInt,
    field_validator,
    model_validator,
)


class Model(BaseModel):
    """Base of every config: immutable, unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def named(key: str) -> BeforeValidator:
    """Let a mapping with one telling key be written as the bare value: `norm: rmsnorm`."""
    return BeforeValidator(lambda v: {key: v} if isinstance(v, str) else v)


class NormConfig(Model):
    """Normalization over channels. LayerNorm has weight and bias, RMSNorm weight only."""

    kind: Literal["layernorm", "rmsnorm"] = "layernorm"
    eps: Annotated[float, Field(gt=0)] = 1e-5


Norm = Annotated[NormConfig, named("kind")]

ROUTE_NAME = re.compile(r"(h|v|w([2-9]|[1-9]\d))(_flip)?")


def route_key(name: str) -> tuple[int, int, bool]:
    """Sort key in LocalMamba's canonical order: h, v, windows by size, each before its flip."""
    base = name.removesuffix("_flip")
    kind = {"h": 0, "v": 1}.get(base, 2)
    return kind, int(base[1:]) if kind == 2 else 0, name.endswith("_flip")


class FixedOrder(Model):
    """Orders given by the grid alone.

    raster: rows (K = 1). bidirectional: rows and their reverse (K = 2, Vim). cross: rows,
    columns and their reverses (K = 4, VMamba). snake: continuous boustrophedon rows, columns and
    their reverses (K = 4, PlainMamba). hilbert, zorder: the space-filling curve, its reverse,
    its transpose and that one's reverse (K = 4; ours).
    """

    kind: Literal["raster", "bidirectional", "cross", "snake", "hilbert", "zorder"]

    @property
    def num_routes(self) -> int:
        """K, the number of token permutations."""
        return {"raster": 1, "bidirectional": 2}.get(self.kind, 4)


class WindowOrder(Model):
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
        """K, the number of token permutations."""
        return len(self.routes)


class AtrousOrder(Model):
    """Skip sampling: step x step interleaved sub-grids, one route each, placed back, not summed.

    Source: EfficientVMamba, arXiv 2403.09977, section 3.2.
    """

    kind: Literal["atrous"] = "atrous"
    step: Literal[2] = 2

    @property
    def num_routes(self) -> int:
        """K, the number of token permutations (one per sub-grid)."""
        return self.step**2


class QuadtreeOrder(Model):
    """Learned quadtree: windows with the highest mean locality score are subdivided in place.

    levels: windows per side at each level, coarse to fine; each a multiple of the one before.
    refine: how many windows of a level are subdivided into the next level.
    context: what the score predictor sees; "half_global" pools half of its channels over
        2 x 2 quadrants (the paper's local and global branches), "local" does not.
    Evaluation is deterministic (argmax); training uses straight-through Gumbel-softmax.
    K = 2: the sequence and its reverse.
    Source: QuadMamba, arXiv 2410.06806, section 3.3; two levels there, deeper is ours.
    """

    kind: Literal["quadtree"] = "quadtree"
    levels: tuple[PositiveInt, ...] = (2, 4)
    refine: PositiveInt = 1
    context: Literal["local", "half_global"] = "half_global"

    @model_validator(mode="after")
    def _nested_levels(self) -> QuadtreeOrder:
        if len(self.levels) < 2:
            raise ValueError(f"levels {list(self.levels)} must be two or more, e.g. [2, 4]")
        for coarse, fine in zip(self.levels, self.levels[1:]):
            if fine <= coarse or fine % coarse:
                raise ValueError(
                    f"levels {list(self.levels)}: {fine} must be a larger multiple of {coarse}, "
                    f"e.g. {2 * coarse}"
                )
        if self.refine > self.levels[0] ** 2:
            raise ValueError(
                f"refine {self.refine} exceeds the {self.levels[0] ** 2} windows of the first level"
            )
        return self

    @property
    def num_routes(self) -> int:
        """K, the number of token permutations."""
        return 2


class QuadtreeOfficialOrder(Model):
    """QuadMamba's released code, quirks included, for its checkpoints.

    The refined windows are taken from a raster of 4 x 4 windows over the whole map, so tokens
    of the chosen quadrant are added onto tokens of others and some positions hold zeros.
    Kept because released weights were trained that way; `quadtree` is what the paper describes.
    Source: VISION-SJTU/QuadMamba @ 720ecc3 (context local) and @ 07cd16d (half_global).
    """

    kind: Literal["quadtree_official"] = "quadtree_official"
    context: Literal["local", "half_global"] = "local"

    @property
    def num_routes(self) -> int:
        """K, the number of token permutations."""
        return 2


ScanOrder = Annotated[
    FixedOrder | WindowOrder | AtrousOrder | QuadtreeOrder | QuadtreeOfficialOrder,
    Field(discriminator="kind"),
    named("kind"),
]

DIRECTIONS: dict[str, tuple[int, int]] = {
    # Sign of the roll along (H, W), in the order in which QuadMamba's code cycles through them.
    "down_right": (1, 1),
    "up_left": (-1, -1),
    "down_left": (1, -1),
    "up_right": (-1, 1),
}


class ShiftConfig(Model):
    """Cyclic shift of the map by side // fraction before the scan, undone after it.

    direction: one diagonal, or "omni": the four diagonals in turn over the shifted blocks.
    blocks: "odd" shifts every second block of a stage (as published), "all" every block.
    Source: QuadMamba, section 3.3 (omnidirectional window shifting).
    """

    direction: Literal["down_right", "up_left", "down_left", "up_right", "omni"] = "omni"
    fraction: PositiveInt = 8
    blocks: Literal["odd", "all"] = "odd"

    def resolve(self, block_in_stage: int, global_block: int) -> tuple[int, int] | None:
        """Return the (H, W) signs of the roll for one block, or None where it does not shift."""
        if self.blocks == "odd" and block_in_stage % 2 == 0:
            return None
        if self.direction != "omni":
            return DIRECTIONS[self.direction]
        turn = global_block // 2 if self.blocks == "odd" else global_block
        return tuple(DIRECTIONS.values())[turn % 4]


Shift = Annotated[ShiftConfig, named("direction")]

"""Learned quadtrees: the map is walked window by window, finer where a predictor says so."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import PositiveInt, model_validator

from backbones.language import Grid, NormConfig
from backbones.orders.base import ScanOrder
from backbones.orders.raster import BidirectionalOrder
from backbones.tally import Tally

OFFICIAL_WINDOWS = 4
"""Windows per side of the released code: it runs on maps that are multiples of it."""


class _Predicted(ScanOrder):
    """Two routes, a sequence and its reverse, that a locality predictor chooses per image."""

    num_routes: ClassVar[int] = 2
    learned: ClassVar[bool] = True
    least_channels: ClassVar[int] = 4
    context: Literal["local", "half_global"]

    def cost(self, tally: Tally, inner: int, grid: Grid) -> None:
        name, tokens, half, quarter = "mixer.predictor", self.length(grid), inner // 2, inner // 4
        tally.norm(name, NormConfig(), inner, tokens)
        tally.linear(name, inner, inner, tokens)
        if self.context == "half_global":
            tally.pooled(name, 2 * (inner - half) * tokens)
        tally.linear(name, inner, half, tokens)
        tally.linear(name, half, quarter, tokens)
        tally.linear(name, quarter, 2, tokens)


class QuadtreeOrder(_Predicted):
    """Learned quadtree: windows with the highest mean locality score are subdivided in place.

    levels: windows per side at each level, coarse to fine; each a multiple of the one before.
    refine: how many windows of a level are subdivided into the next level.
    context: what the score predictor sees; "half_global" pools half of its channels over
        2 x 2 quadrants (the paper's local and global branches), "local" does not.
    Evaluation is deterministic (argmax); training uses straight-through Gumbel-softmax.
    Source: QuadMamba, arXiv 2410.06806, section 3.3; two levels there, deeper is ours.
    """

    kind: Literal["quadtree"] = "quadtree"
    levels: tuple[PositiveInt, ...] = (2, 4)
    refine: PositiveInt = 1
    context: Literal["local", "half_global"] = "half_global"
    layout: ClassVar[str] = "backbones.orders.quadtree_module:Quadtree"

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

    def cost(self, tally: Tally, inner: int, grid: Grid) -> None:
        super().cost(tally, inner, grid)
        tally.add("mixer.predictor", 0, self.length(grid) * sum(n * n for n in self.levels[:-1]))

    def adapts_to(self, side: int) -> tuple[ScanOrder, list[str]]:
        """Drop the levels that have no room, and say which cannot act."""
        levels, notes = tuple(n for n in self.levels if n <= side), []
        if len(levels) < 2:
            none = f"quadtree {list(self.levels)} has no room to subdivide; bidirectional instead"
            return BidirectionalOrder(), [none] if side > 1 else []
        if levels != self.levels:
            notes.append(f"quadtree levels {list(self.levels)} are cut to {list(levels)}")
        # Windows of one token are visited as the window around them would be. (Windows are cut
        # from the map padded to a multiple of the finest level.)
        cell = -(-side // levels[-1])
        if idle := [n for n in levels[1:] if cell * (levels[-1] // n) < 2]:
            notes.append(f"quadtree level {idle[0]} cannot act: its windows are single tokens")
        return self.model_copy(update={"levels": levels}), notes


class QuadtreeOfficialOrder(_Predicted):
    """QuadMamba's released code, quirks included, for its checkpoints.

    The refined windows are taken from a raster of 4 x 4 windows over the whole map, so tokens
    of the chosen quadrant are added onto tokens of others and some positions hold zeros.
    Kept because released weights were trained that way; `quadtree` is what the paper describes.
    Source: VISION-SJTU/QuadMamba @ 720ecc3 (context local) and @ 07cd16d (half_global).
    """

    kind: Literal["quadtree_official"] = "quadtree_official"
    context: Literal["local", "half_global"] = "local"
    visits_all: ClassVar[bool] = False
    layout: ClassVar[str] = "backbones.orders.quadtree_module:OfficialQuadtree"

    def spare(self, grid: Grid) -> int:
        height, width = (-(-n // OFFICIAL_WINDOWS) * OFFICIAL_WINDOWS for n in grid)
        return height * width - grid[0] * grid[1]

    def adapts_to(self, side: int) -> tuple[ScanOrder, list[str]]:
        """Give way to plain rows where the released code cannot run."""
        if side % OFFICIAL_WINDOWS == 0:
            return self, []
        note = "quadtree_official needs 4 windows a side; bidirectional instead"
        return BidirectionalOrder(), [note]

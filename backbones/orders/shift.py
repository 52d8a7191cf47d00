"""Cyclic shifts of the map before a scan."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import PositiveInt

from backbones.language import Grid, Model, named

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

    def roll(self, sign: tuple[int, int], grid: Grid) -> tuple[int, int]:
        """Return by how many rows and columns a map of this size is rolled."""
        return sign[0] * (grid[0] // self.fraction), sign[1] * (grid[1] // self.fraction)

    def adapts_to(self, side: int) -> tuple[ShiftConfig, list[str]]:
        """Return what stands for this shift on a small map, and what cannot act there."""
        if side == 1:
            return self, ["shift cannot act on a single token"]
        if side >= self.fraction:
            return self, []
        note = f"shift by 1/{self.fraction} of the side is no token; by 1/{side} instead"
        return self.model_copy(update={"fraction": side}), [note]


Shift = Annotated[ShiftConfig, named("direction")]

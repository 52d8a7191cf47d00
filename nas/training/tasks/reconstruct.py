"""Reconstruct: the colors of masked tokens, from what is left of the image. No labels needed."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from nas.study.recipe import Recipe
from nas.study.tasks import Part
from nas.training.data.registry import ProxyData
from nas.training.tasks.base import Batch

CELLS = 2  # colors on a side of a token, where it has as many pixels


class Reconstruct:
    """Mean squared error of the masked tokens' colors, in standard deviations of the data."""

    num_classes = 0

    def __init__(self, data: ProxyData, part: Part, recipe: Recipe) -> None:
        self.grid, self.stride = recipe.grid, recipe.stem_stride
        self.cells = min(CELLS, self.stride)
        self.outputs = data.in_chans * self.cells**2
        down, across = part.mask_units(self.grid)
        self.mask_units = down * across
        # At least one unit is seen, and at least one hidden.
        self.hide = min(max(1, round(part.mask_share * self.mask_units)), self.mask_units - 1)
        token = torch.arange(self.grid)
        rows, cols = token * down // self.grid, token * across // self.grid
        self.unit = rows[:, None] * across + cols

    def mask(self, draws: Tensor) -> Tensor:
        """Return the tokens of the units with the lowest draws."""
        chosen = draws.argsort(dim=1)[:, : self.hide]
        units = torch.zeros(draws.shape, dtype=torch.bool).scatter_(1, chosen, True)
        return units[:, self.unit]

    def shown(self, batch: Batch) -> Tensor:
        """Return the images with masked tokens of the mean color."""
        assert batch.hidden is not None
        pixels = batch.hidden.repeat_interleave(self.stride, 1).repeat_interleave(self.stride, 2)
        return batch.images * ~pixels[:, None]

    def target(self, images: Tensor) -> Tensor:
        """Return the colors of all tokens. Shapes: (B, C, S, S) -> (B, grid, grid, outputs)."""
        small = F.avg_pool2d(images, self.stride // self.cells)
        b, c = small.shape[:2]
        cells = small.view(b, c, self.grid, self.cells, self.grid, self.cells)
        return cells.permute(0, 2, 4, 1, 3, 5).reshape(b, self.grid, self.grid, self.outputs)

    def squares(self, out: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the summed squared error of the masked tokens, and how many colors they have."""
        assert batch.hidden is not None
        error = (out - self.target(batch.images)) * batch.hidden[..., None]
        return error.square().sum(), batch.hidden.sum() * self.outputs

    def loss(self, out: Tensor, batch: Batch) -> Tensor:
        """Return the mean squared error. Shapes: out (B, grid, grid, outputs)."""
        total, count = self.squares(out, batch)
        return total / count

    def tally(self) -> ReconstructTally:
        """Return an empty tally."""
        return ReconstructTally(self)


class ReconstructTally:
    """Sums of squares of the error and of the masked colors themselves."""

    def __init__(self, task: Reconstruct) -> None:
        self.task = task
        self.error, self.tokens = 0.0, 0
        self.sum = torch.zeros(task.outputs, dtype=torch.float64)
        self.squares = torch.zeros(task.outputs, dtype=torch.float64)

    def add(self, out: Tensor, batch: Batch) -> None:
        """Count a batch."""
        assert batch.hidden is not None
        self.error += float(self.task.squares(out, batch)[0])
        colors = self.task.target(batch.images)[batch.hidden].double().cpu()
        self.tokens += len(colors)
        self.sum += colors.sum(0)
        self.squares += colors.square().sum(0)

    def scores(self) -> dict[str, float]:
        """Return loss and skill: R2 on masked tokens, 0 for their mean color."""
        spread = float((self.squares - self.sum.square() / self.tokens).sum())
        return {
            "loss": self.error / (self.tokens * self.task.outputs),
            "skill": 1 - self.error / spread if spread > 0 else math.nan,
        }

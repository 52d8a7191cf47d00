"""One head for all backbones: a linear read-out of every stage's map, for answers per token."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from backbones.network import Backbone
from nas.training.tasks import Task


class Readout(nn.Module):
    """Reads every stage's map linearly, brings what is read to one grid and sums it.

    fine: answers on a side that each token of the first map gives, where the map is coarser than
    the grid (of a plain backbone, which keeps one map of half the side).
    Shapes: maps (B, H, W, C), one per stage -> (B, grid, grid, outputs).
    """

    def __init__(self, widths: Sequence[int], outputs: int, grid: int, fine: int) -> None:
        super().__init__()
        self.grid = grid
        self.fine = [fine] + [1] * (len(widths) - 1)
        # The norm takes out the scale of the residual stream, which grows with depth.
        self.norms = nn.ModuleList(nn.LayerNorm(w, elementwise_affine=False) for w in widths)
        self.linears = nn.ModuleList(
            nn.Linear(w, outputs * n * n) for w, n in zip(widths, self.fine)
        )

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Return the answers of all tokens."""
        read = [
            self._brought(linear(norm(x)), n)
            for norm, linear, n, x in zip(self.norms, self.linears, self.fine, maps, strict=True)
        ]
        return torch.stack(read).sum(0)

    def _brought(self, x: Tensor, fine: int) -> Tensor:
        if fine > 1:
            b, h, w, _ = x.shape
            cells = x.view(b, h, w, fine, fine, -1).transpose(2, 3)
            x = cells.reshape(b, h * fine, w * fine, -1)
        # As two matrix products: torch's own interpolation is not deterministic on a GPU.
        rows = _stretch(x.shape[1], self.grid).to(x)
        cols = _stretch(x.shape[2], self.grid).to(x)
        return torch.einsum("bhwc,hr,ws->brsc", x, rows, cols)


@functools.lru_cache(maxsize=64)
def _stretch(size: int, grid: int) -> Tensor:
    """Return the weights of linear interpolation from `size` places to `grid`: (size, grid)."""
    return F.interpolate(torch.eye(size)[None], size=grid, mode="linear")[0]


class TaskNet(nn.Module):
    """A backbone with a read-out for each task that asks about tokens.

    Tasks about whole images are answered by the backbone's own classifier.
    """

    def __init__(self, backbone: Backbone, tasks: Sequence[Task], grid: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.stages = len(backbone.stages)
        widths = [stage.width for stage in backbone.config.stages]
        fine = -(-grid // min(backbone.reference_grid))
        self.readouts = nn.ModuleDict(
            {
                str(n): Readout(widths, t.outputs, grid, fine)
                for n, t in enumerate(tasks)
                if t.outputs
            }
        )

    def forward(self, images: Tensor, task: int = 0) -> Tensor:
        """Return the answer to a task, by its place in the recipe.

        Shapes: (B, C, S, S) -> (B, num_classes), or (B, grid, grid, outputs).
        """
        if str(task) not in self.readouts:
            logits: Tensor = self.backbone(images)
            return logits
        # Of a plain backbone, which counts blocks, this is the last one.
        maps = self.backbone.forward_intermediates(
            images, indices=self.stages, output_fmt="NHWC", intermediates_only=True
        )
        answers: Tensor = self.readouts[str(task)](maps)
        return answers

    def no_weight_decay(self) -> set[str]:
        """Name the backbone's parameters that weight decay would harm."""
        return {f"backbone.{name}" for name in self.backbone.no_weight_decay()}

"""What a task is to the training loop: what the network sees, its loss, and how it is scored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """Some images of one part of a recipe.

    Shapes: images float (B, C, S, S), normalized; labels as `ProxyData` holds them; hidden bool
    (B, grid, grid), the tokens that are masked, None where none are.
    """

    images: Tensor
    labels: Tensor
    hidden: Tensor | None = None


class Tally(Protocol):
    """Counts answers over a whole split."""

    def add(self, out: Tensor, batch: Batch) -> None:
        """Count a batch. Shapes: out as the task's loss takes it."""
        ...

    def scores(self) -> dict[str, float]:
        """Return scores by name, among them "loss" and "skill"; of others, higher is better."""
        ...


class Task(Protocol):
    """One task on one data set.

    outputs: channels that are read out of every token; 0 where the network's own classifier
    answers. num_classes: of that classifier. mask_units: how many units can be hidden, 0 for none.
    """

    outputs: int
    num_classes: int
    mask_units: int

    def mask(self, draws: Tensor) -> Tensor:
        """Return which tokens to hide. Shapes: uniform draws (B, mask_units) -> (B, grid, grid)."""
        ...

    def shown(self, batch: Batch) -> Tensor:
        """Return the images as the network sees them."""
        ...

    def loss(self, out: Tensor, batch: Batch) -> Tensor:
        """Return the mean loss of a batch.

        Shapes: out (B, num_classes), or (B, grid, grid, outputs).
        """
        ...

    def tally(self) -> Tally:
        """Return an empty tally."""
        ...


class Unmasked:
    """Base of tasks that show images whole."""

    mask_units = 0

    def mask(self, draws: Tensor) -> Tensor:
        """Never asked: nothing is hidden."""
        raise AssertionError("a task that hides nothing was asked for a mask")

    def shown(self, batch: Batch) -> Tensor:
        """Return the images."""
        return batch.images


def skill(right: float, constant: float) -> float | None:
    """Return accuracy with the best constant answer at 0; None where that is always right."""
    return None if constant >= 1 else (right - constant) / (1 - constant)

"""Random numbers that depend on (seed, index) alone, for generated data.

Philox is a counter-based generator: its output is a function of the key, so image i is the same
whatever was drawn before it, however many there are, and on any machine.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from nas.study.tasks import Task

if TYPE_CHECKING:
    from torch import Tensor

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")

# The second word of the key holds the image index below this bit and the stream above it.
_STREAM_BIT = 40
_PERMUTATION_STREAM = 2**20

# A token's label where it has none: it counts neither in training nor in a score.
IGNORE = -1


@dataclass(frozen=True)
class Draw:
    """What a generated data set is asked for: the first `size` images of a split.

    task: of which the labels are wanted. side: of an image in pixels. grid: tokens on a side, each
    of side / grid pixels (dense). difficulty, density: of the recipe.
    """

    task: Task
    split: Split
    size: int
    side: int
    grid: int
    seed: int
    difficulty: int
    density: float

    def uniforms(self, stream: int, index: np.ndarray, count: int) -> np.ndarray:
        """Return `count` draws per image: float64 (n, count). stream: a multiple of 8, your own."""
        return uniforms(self.seed, stream + SPLITS.index(self.split), index, count)

    def chunked(
        self, pixels: int, make: Callable[[np.ndarray], tuple[Tensor, Tensor]]
    ) -> tuple[Tensor, Tensor]:
        """Return what `make` gives for all indices, made in chunks of about so many pixels."""
        import torch

        step = max(1, pixels // self.side**2)
        parts = [make(np.arange(i, min(i + step, self.size))) for i in range(0, self.size, step)]
        return torch.cat([p[0] for p in parts]), torch.cat([p[1] for p in parts])


def generator(seed: int, stream: int, index: int) -> np.random.Generator:
    """Return the generator of one (seed, stream, index)."""
    key = np.array([seed, (stream << _STREAM_BIT) + index], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key))


def uniforms(seed: int, stream: int, index: np.ndarray, count: int) -> np.ndarray:
    """Return `count` draws in [0, 1) for each index: float64 (n, count)."""
    return np.stack([generator(seed, stream, int(i)).random(count) for i in index])


def permutation(n: int, seed: int) -> np.ndarray:
    """Return the permutation of n that splits are cut from."""
    return generator(seed, _PERMUTATION_STREAM, 0).permutation(n)

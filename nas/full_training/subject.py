"""What is trained or evaluated: a network for a data set's labels, at a size."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from nas.errors import TrainingError
from nas.full_training import loaders, scores
from nas.full_training.networks import Network
from nas.full_training.recipe import TrainingRecipe
from nas.full_training.samples import Data, Samples, open_samples
from nas.training.data.draws import Split
from nas.training.tasks.dense import Dense


@dataclass(frozen=True)
class Subject:
    """A network on a data set. side: of images, in pixels. token: pixels that share a label.

    weights: a file that a training begins with; drawn anew without.
    """

    network: Network
    data: Data
    side: int
    token: int = 4
    label_smoothing: float = 0.0
    weights: Path | None = None

    def __post_init__(self) -> None:
        if self.dense and self.side % self.token:
            down = self.side - self.side % self.token
            raise TrainingError(
                f"image size {self.side} is no multiple of {self.token}, the pixels that share a "
                f"label; use {down or self.token} or {down + self.token}"
            )

    @property
    def dense(self) -> bool:
        """Whether every token has a label."""
        return self.data.task == "dense"

    @property
    def grid(self) -> int:
        """Tokens on a side."""
        return self.side // self.token

    def samples(self, split: Split) -> Samples:
        """Return a split's images."""
        return open_samples(self.data, split, side=self.side, grid=self.grid)

    def prepare(self, samples: Samples, recipe: TrainingRecipe | None) -> loaders.Prepare:
        """Return how images are prepared: to train by a recipe, or without one to be scored."""
        if self.dense:
            return loaders.dense(self.network, self.side, self.grid, recipe, samples.mirrors)
        return loaders.classified(self.network, self.side, recipe)

    def task(self, samples: Samples) -> Dense | None:
        """Return the task of tokens, None to classify."""
        return Dense(samples.labels, self.label_smoothing) if self.dense else None

    def build(self, samples: Samples, **options: Any) -> nn.Module:
        """Return the network for the classes of these samples."""
        task = self.task(samples)
        return self.network.build(
            num_classes=len(samples.labels[0].classes),
            image_size=self.side,
            dense=None if task is None else (task, self.grid),
            **options,
        )

    def judge(self, samples: Samples) -> scores.Judge:
        """Return how answers are judged."""
        task = self.task(samples)
        return scores.classes_judged if task is None else scores.tokens_judged(task)

    def scores(
        self, found: scores.Answers, samples: Samples, *, intervals: bool = True
    ) -> dict[str, scores.Score]:
        """Return what answers are worth, by name."""
        task = self.task(samples)
        if task is None:
            return scores.class_scores(found)
        return scores.token_scores(found, task, intervals=intervals)

"""Dense: one or more labels per token, read out of every stage; trained together, scored apart."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from nas.training.data.draws import IGNORE
from nas.training.data.registry import LabelMap
from nas.training.tasks.base import Batch, Unmasked, skill


class Dense(Unmasked):
    """Mean over the labels of the mean cross entropy over the tokens that have one."""

    num_classes = 0

    def __init__(self, labels: Sequence[LabelMap], label_smoothing: float) -> None:
        self.names = [label.name for label in labels]
        self.counts = [len(label.classes) for label in labels]
        self.outputs = sum(self.counts)
        self.label_smoothing = label_smoothing

    def split(self, out: Tensor, labels: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Return logits (tokens, classes) and labels (tokens,) of each label."""
        flat = labels.long().flatten(2).transpose(0, 1).flatten(1)
        return [(o.flatten(0, 2), y) for o, y in zip(torch.split(out, self.counts, dim=-1), flat)]

    def loss(self, out: Tensor, batch: Batch) -> Tensor:
        """Return the loss. Shapes: out (B, grid, grid, outputs)."""
        total = out.new_zeros(())
        for logits, labels in self.split(out, batch.labels):
            summed = F.cross_entropy(
                logits,
                labels,
                ignore_index=IGNORE,
                reduction="sum",
                label_smoothing=self.label_smoothing,
            )
            total = total + summed / (labels != IGNORE).sum().clamp(min=1)
        return total / len(self.counts)

    def tally(self) -> DenseTally:
        """Return an empty tally."""
        return DenseTally(self)


class DenseTally:
    """Per label, the loss and how often each class was taken for each."""

    def __init__(self, task: Dense) -> None:
        self.task = task
        self.losses = [0.0 for _ in task.counts]
        # Row: the true class; column: the answer.
        self.taken = [torch.zeros(n, n, dtype=torch.int64) for n in task.counts]

    def add(self, out: Tensor, batch: Batch) -> None:
        """Count a batch."""
        for i, (logits, labels) in enumerate(self.task.split(out, batch.labels)):
            summed = F.cross_entropy(logits, labels, ignore_index=IGNORE, reduction="sum")
            self.losses[i] += float(summed)
            n, known = self.task.counts[i], labels != IGNORE
            pairs = (labels * n + logits.argmax(1))[known].cpu()
            self.taken[i] += torch.bincount(pairs, minlength=n * n).view(n, n)

    def scores(self) -> dict[str, float]:
        """Return loss, top1, miou, likelihood, skill, and the skill of each label by its name.

        A label that no token has, or only one class of, is left out.
        """
        found: dict[str, list[float]] = {"loss": [], "top1": [], "miou": [], "skill": []}
        named: dict[str, float] = {}
        for name, loss, taken in zip(self.task.names, self.losses, self.taken):
            count = int(taken.sum())
            if count == 0:
                continue
            right = int(taken.trace()) / count
            found["loss"].append(loss / count)
            found["top1"].append(right)
            found["miou"].append(mean_iou(taken))
            gained = skill(right, int(taken.sum(1).max()) / count)
            if gained is not None:
                found["skill"].append(gained)
                named[name] = gained
        mean = {k: sum(v) / len(v) if v else math.nan for k, v in found.items()}
        mean["skill"] = mean["skill"] if found["skill"] else 0.0
        apart = named if len(self.task.names) > 1 else {}
        return {**mean, "likelihood": math.exp(-mean["loss"]), **apart}


def mean_iou(taken: Tensor) -> float:
    """Return the mean intersection over union of the classes that occur or were answered.

    Shapes: taken (classes, classes), rows the true class, columns the answer.
    """
    taken = taken.double()
    union = taken.sum(0) + taken.sum(1) - taken.diag()
    return float((taken.diag() / union)[union > 0].mean())

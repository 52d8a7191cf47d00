"""Classify: one label per image, answered by the network's own head."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from nas.training.data.registry import ProxyData
from nas.training.tasks.base import Batch, Unmasked, skill


class Classify(Unmasked):
    """Cross entropy of the logits."""

    outputs = 0

    def __init__(self, data: ProxyData, label_smoothing: float) -> None:
        self.num_classes = data.num_classes
        self.label_smoothing = label_smoothing

    def loss(self, out: Tensor, batch: Batch) -> Tensor:
        """Return the mean cross entropy. Shapes: out (B, num_classes)."""
        return F.cross_entropy(out, batch.labels, label_smoothing=self.label_smoothing)

    def tally(self) -> ClassifyTally:
        """Return an empty tally."""
        return ClassifyTally(self.num_classes)


class ClassifyTally:
    """Sums of loss and of right answers, and how often each label occurs."""

    def __init__(self, num_classes: int) -> None:
        self.loss, self.right, self.count = 0.0, 0, 0
        self.shown = torch.zeros(num_classes, dtype=torch.int64)

    def add(self, out: Tensor, batch: Batch) -> None:
        """Count a batch."""
        self.loss += float(F.cross_entropy(out, batch.labels, reduction="sum"))
        self.right += int((out.argmax(1) == batch.labels).sum())
        self.count += len(batch.labels)
        self.shown += torch.bincount(batch.labels.cpu(), minlength=len(self.shown))

    def scores(self) -> dict[str, float]:
        """Return loss, top1, likelihood and skill."""
        loss, top1 = self.loss / self.count, self.right / self.count
        constant = int(self.shown.max()) / self.count
        return {
            "loss": loss,
            "top1": top1,
            "likelihood": math.exp(-loss),
            "skill": skill(top1, constant) or 0.0,
        }

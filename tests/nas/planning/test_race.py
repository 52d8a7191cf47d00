"""The race of strategies: benchmarks/strategies.py, on a table made up here."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[3]))

from benchmarks import nas_bench_201, strategies


class Sum(nas_bench_201.Table):
    """A table of the benchmark's size, whose best cell is known: more is better on every edge."""

    def __init__(self):
        digits = np.stack(np.unravel_index(np.arange(5**6), (5,) * 6), axis=1)
        self.names = ["".join(map(str, row)) for row in digits]
        self.numbers = {name: i for i, name in enumerate(self.names)}
        self.means = digits.sum(axis=1).astype(float)
        self.scores = [[m - 0.1, m + 0.1] for m in self.means]
        self.params = 1.0 + digits[:, 0]
        self.seconds = 1.0 + digits[:, 1]
        self.unit = np.stack([self.means / 24, digits[:, 0] / 4], axis=1)


@pytest.fixture(scope="module")
def table():
    return Sum()


def test_cells_are_the_points_of_the_space(table):
    space = nas_bench_201.space()
    assert space.size == len(table.means) == 15625
    point = space.sample(np.random.default_rng(0))
    digits = [nas_bench_201.OPERATIONS.index(point[edge]) for edge in nas_bench_201.EDGES]
    assert table.means[table.cell(point)] == sum(digits)


@pytest.mark.parametrize("workers", [1, 8])
def test_race_is_repeatable_and_trains_no_cell_twice(table, workers):
    first = strategies.race(table, "random", workers, 60, 0, 1)
    assert first == strategies.race(table, "random", workers, 60, 0, 1)
    assert len({cell for cell, _ in first}) == 60
    assert first != strategies.race(table, "random", workers, 60, 1, 1)


def test_regret_is_that_of_the_cell_that_scored_best(table):
    best, middling = int(table.means.argmax()), table.cell(
        {edge: "nor_conv_1x1" for edge in nas_bench_201.EDGES}
    )  # fmt: skip
    ended = [(middling, [12.1]), (best, [11.9])] + [(middling, [0.0])] * 3
    assert strategies.course(table, ended, 1) == [12.0]


def test_hypervolume_is_the_area_that_a_front_dominates():
    points = np.array([[0.5, 0.25], [1.0, 0.5], [0.4, 0.9]])
    assert strategies.hypervolume(points) == pytest.approx(0.5 * 0.25 + 1.0 * 0.5)


def test_model_finds_the_best_cell_in_few_trials(table):
    """What the table of docs/strategies.md rests on, in small: chance needs thousands."""
    ended = strategies.race(table, "surrogate", 4, 45, 0, 1)
    assert max(table.means[cell] for cell, _ in ended) >= 23


def test_table_says_after_how_many_trials_draws_are_caught_up_with():
    rows = [
        {"data": "cifar10", "objectives": 1, "workers": 1, "strategy": name, "seed": seed, "ms": 1,
         "regret": regret}
        for seed in (0, 1)
        for name, regret in (("random", [3.0, 2.0, 1.0]), ("tpe", [2.0, 1.0, 0.5]))
    ]  # fmt: skip
    text = strategies.markdown(rows)
    assert "cifar10, 1 worker: regret, % accuracy; at least 2 runs" in text
    assert "| tpe |  |  |  |  | 10 |" in text

"""Designs as points between which distances mean something: what a model of scores works on.

Two values of a choice are at most 1 apart. Names are all equally far from each other; numbers
the nearer the closer in rank; patterns by the share of blocks in which they differ; subsets by
the share of values; a choice that exists is 1 from one that does not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from search_spaces import SearchSpace
    from search_spaces.choices import Choice
    from search_spaces.rows import Matrix

# Of the squared distance between two numbers, what being different at all makes.
DIFFERENT = 0.3
# Blocks over which patterns are compared: periods of 1, 2, 3, 4 and 6 fill them evenly.
BLOCKS = 12


class Features:
    """What rows (`search_spaces.rows`) are as coordinates.

    tables: for each choice its options' coordinates, the last row for its absence.
    """

    def __init__(self, space: SearchSpace) -> None:
        self.tables = [_table(choice) for choice in space.choices.values()]

    def __call__(self, rows: Matrix) -> Matrix:
        """Return coordinates. Shapes: rows (n, choices) -> (n, columns)."""
        return np.concatenate([t[rows[:, at]] for at, t in enumerate(self.tables)], axis=1)


def _table(choice: Choice) -> Matrix:
    """Return coordinates of the options, and of absence. Shape (options + 1, columns)."""
    there = _coordinates(choice)
    # Squared norms are 1/2 throughout; with 1/2 for the flag, absence is 1 away.
    flag = np.full((len(there), 1), np.sqrt(0.5))
    return np.vstack([np.hstack([there, flag]), np.zeros(there.shape[1] + 1)])


def _coordinates(choice: Choice) -> Matrix:
    options = choice.options
    if choice.form == "pattern":
        words = [(o * BLOCKS)[:BLOCKS] for o in options]
        shares = [[w[i] == letter for i in range(BLOCKS) for letter in choice.letters]
                  for w in words]  # fmt: skip
        return np.array(shares, dtype=float) / np.sqrt(2 * BLOCKS)
    if choice.form == "subset":
        values = sorted({str(v) for o in options for v in o})
        held = np.array([[v in map(str, o) for v in values] for o in options], dtype=float)
        return held / np.sqrt(2 * held.sum(axis=1).max())
    same = np.eye(len(options)) / np.sqrt(2)
    if len(options) < 3 or not all(_is_number(o) for o in options):
        return same
    rank = np.argsort(np.argsort(np.array(options, dtype=float))) / (len(options) - 1)
    along = np.sqrt(1 - DIFFERENT) * rank
    return np.hstack([np.sqrt(DIFFERENT) * same, along[:, None]])


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)

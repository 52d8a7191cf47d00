"""Many points at once, for whoever compares thousands: rows of positions among the options.

A row has a column for each choice, in the order of the space: the position of its value among the
choice's options, or -1 where the choice does not exist.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from search_spaces.choices import Assigned, Choices
    from search_spaces.space import SearchSpace

Matrix = Any
"""Rows, integers of shape (n, choices)."""


class Rows:
    """The points of a space as rows. All of them keep conditions and constraints."""

    def __init__(self, space: SearchSpace) -> None:
        self.choices = list(space.choices.values())
        self._solver = space.solver
        self._bounds: dict[tuple[int, bytes], Any] = {}

    def sample(self, count: int, rng: np.random.Generator) -> Matrix:
        """Draw points as `SearchSpace.sample` does: of patterns the period first."""
        return self.like(np.full((count, len(self.choices)), -1), rng)

    def like(self, wanted: Matrix, rng: np.random.Generator) -> Matrix:
        """Return points that have the wanted options as far as they go together.

        From the first choice to the last; what is -1, or excluded by what came before, is drawn.
        """

        def pick(at: int, allowed: Matrix, members: Matrix) -> Matrix:
            bounds = self._cumulated(at, allowed)
            chosen = np.searchsorted(bounds, rng.random(len(members)), side="right")
            asked = wanted[members, at]
            nearest = np.minimum(np.searchsorted(allowed, asked), len(allowed) - 1)
            return np.where(
                allowed[nearest] == asked, nearest, np.minimum(chosen, len(allowed) - 1)
            )

        return self._solver.walk_many(len(wanted), pick)

    def _cumulated(self, at: int, allowed: Matrix) -> Matrix:
        """Return up to where on the way from 0 to 1 each allowed option is drawn."""
        key = (at, allowed.tobytes())
        found = self._bounds.get(key)
        if found is None:
            choice = self.choices[at]
            periods = np.array(
                [len(choice.options[i]) if choice.form == "pattern" else 0 for i in allowed]
            )
            _, group, size = np.unique(periods, return_inverse=True, return_counts=True)
            found = self._bounds[key] = np.cumsum(1 / (size[group] * len(size)))
        return found

    def point(self, row: Matrix) -> Choices:
        """Return the choices of a row."""
        return {c.name: c.options[i] for c, i in zip(self.choices, row) if i >= 0}

    def row(self, choices: Assigned) -> list[int]:
        """Return the row of a point."""
        return [c.index(choices[c.name]) if c.name in choices else -1 for c in self.choices]

"""Grid search: every point of the space once, in the order of its choices."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from nas.errors import StudyError
from nas.planning.strategies.encoding import decode
from nas.planning.strategies.uniform import WholePointSampler

if TYPE_CHECKING:
    from optuna.study import Study

    from search_spaces import SearchSpace
    from search_spaces.choices import Choice

LARGEST_GRID = 10_000


class GridSampler(WholePointSampler):
    """Proposes the first point of the grid that has not been proposed.

    skip: how many such points to pass, because they were found out of the budget.
    Raises: StudyError for a space that is too large to walk through.
    """

    skip = 0

    def __init__(self, space: SearchSpace, seed: int) -> None:
        super().__init__(space, seed)
        if space.size > LARGEST_GRID:
            raise StudyError(
                f"strategy 'grid' on space {space.name!r}: {space.size:,} points, at most "
                f"{LARGEST_GRID:,} make a grid; use surrogate or random"
            )

    def point(self, study: Study) -> dict[str, Any]:
        """Return the next point; a random one after the last."""
        trials = study.get_trials(deepcopy=False)
        seen = {_key(decode(self.space, t.params)) for t in trials if t.params}
        left = [point for point in grid(self.space) if _key(point) not in seen]
        return left[self.skip] if self.skip < len(left) else self.space.sample(self.rng)


@lru_cache(maxsize=4)
def grid(space: SearchSpace) -> tuple[dict[str, Any], ...]:
    """Return every point of a space, the last choice moving fastest."""
    points: dict[str, dict[str, Any]] = {}
    # The path to a point: for each choice asked for, which option, of how many.
    path: list[tuple[int, int]] = []
    while True:
        at = 0

        def decide(name: str, choice: Choice) -> Any:
            nonlocal at
            if at == len(path):
                path.append((0, len(choice.options)))
            at += 1
            return choice.options[path[at - 1][0]]

        point = space.from_decider(decide)
        # A decision that the constraints exclude is moved to one that has its own turn.
        points.setdefault(_key(point), point)
        while path and path[-1][0] + 1 == path[-1][1]:
            path.pop()
        if not path:
            return tuple(points.values())
        path[-1] = (path[-1][0] + 1, path[-1][1])


def _key(point: dict[str, Any]) -> str:
    return json.dumps(point, sort_keys=True)

"""Charts of a line's height, drawn in characters."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

WIDTH = 24
_LEVELS = "▁▂▃▄▅▆▇█"


def rise(scores: Sequence[float], width: int = WIDTH) -> str:
    """Return the best so far after each score, drawn from its first to its last."""
    best = list(accumulate(scores, max))
    columns = min(width, len(best))
    # The last of each column's share, so that the end is the best of all.
    return _bars([best[(i + 1) * len(best) // columns - 1] for i in range(columns)])


def front(points: Sequence[tuple[float, float]], width: int = WIDTH) -> str:
    """Return the best score at each cost or less, from the lowest cost to the highest.

    points: (cost, score).
    """
    costs = [cost for cost, _ in points]
    low, span = min(costs), max(costs) - min(costs)
    columns = width if span else 1
    edges = [low + span * (i + 1) / columns for i in range(columns - 1)] + [max(costs)]
    return _bars([max((s for c, s in points if c <= edge), default=0.0) for edge in edges])


def _bars(values: Sequence[float]) -> str:
    low, high = min(values), max(values)
    if high == low:
        return _LEVELS[-1] * len(values)
    top = len(_LEVELS) - 1
    return "".join(_LEVELS[round(top * (value - low) / (high - low))] for value in values)

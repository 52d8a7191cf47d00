"""Charts drawn in characters: a few lines high, their ends written beside them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

WIDTH, HEIGHT = 32, 4
_LEVELS = " ▁▂▃▄▅▆▇█"
_STEPS = len(_LEVELS) - 1


def rise(scores: Sequence[float], width: int = WIDTH) -> list[float]:
    """Return the best so far after each score, in at most so many columns."""
    best = list(accumulate(scores, max))
    columns = min(width, len(best))
    # The last of each column's share, so that the end is the best of all.
    return [best[(i + 1) * len(best) // columns - 1] for i in range(columns)]


def front(points: Sequence[tuple[float, float]], width: int = WIDTH) -> list[float]:
    """Return the best score at each cost or less, from the lowest cost to the highest.

    points: (cost, score).
    """
    costs = [cost for cost, _ in points]
    low, span = min(costs), max(costs) - min(costs)
    columns = width if span else 1
    edges = [low + span * i / (columns - 1) for i in range(columns - 1)] + [max(costs)]
    return [max(s for c, s in points if c <= edge) for edge in edges]


def bars(values: Sequence[float], height: int = HEIGHT) -> list[str]:
    """Return the lines of a bar chart, the highest first; the lowest value is one step high."""
    low, span = min(values), max(values) - min(values)
    top = height * _STEPS
    full = [round(1 + (top - 1) * (value - low) / span) if span else top for value in values]
    return [
        "".join(_LEVELS[max(0, min(_STEPS, steps - _STEPS * row))] for steps in full)
        for row in reversed(range(height))
    ]


def labeled(title: str, lines: Sequence[str], ends: tuple[str, str], foot: str) -> str:
    """Return a chart under its title, what its lowest and highest value are beside it.

    ends: (lowest, highest).
    """
    wide = max(map(len, ends))
    left = [ends[1], *[""] * (len(lines) - 2), ends[0]]
    drawn = [f"{end:>{wide}} {line}" for end, line in zip(left, lines)]
    return "\n".join([title, *drawn, f"{'':>{wide}} {foot}"])

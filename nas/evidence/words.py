"""How scores and differences are written: percent in points, anything else as it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

Unit = Literal["percent", "plain"]  # percent: scores are shares, shown as 89.90 %


def number(score: float, unit: Unit) -> str:
    """Return a score as it is read."""
    return f"{100 * score:.2f} %" if unit == "percent" else f"{score:.4f}"


def difference(value: float, unit: Unit, *, sign: bool = True, bare: bool = False) -> str:
    """Return a difference of scores; `bare` leaves out the unit."""
    plus = "+" if sign else ""
    if unit == "percent":
        return f"{100 * value:{plus}.2f}" + ("" if bare else " points")
    return f"{value:{plus}.4f}"


def plural(count: int, noun: str) -> str:
    """Return "1 run" or "3 runs"."""
    return f"{count} {noun}" + ("" if count == 1 else "s")


def join(names: Sequence[str]) -> str:
    """Return "a", "a and b" or "a, b and c"."""
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} and {names[-1]}"

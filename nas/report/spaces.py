"""Search spaces as plain data for tables and JSON."""

from __future__ import annotations

from typing import Any

from search_spaces import SearchSpace, list_spaces


def listing() -> list[dict[str, Any]]:
    """Return name, description and number of designs of every shipped space."""
    spaces = [SearchSpace.load(name) for name in list_spaces()]
    return [{"space": s.name, "size": s.size, "description": s.description} for s in spaces]


def explain(name: str) -> dict[str, Any]:
    """Return a space in full: its choices, constraints and published designs.

    Raises: SpaceError for an unknown space or a file that breaks the language.
    """
    space = SearchSpace.load(name)
    return {
        "space": space.name,
        "version": space.version,
        "description": space.description,
        "size": space.size,
        "widths": "solved for, to land in the budget" if space.fits_widths else "choices or fixed",
        "choices": space.explain(),
        "constraints": list(space.constraints),
        "points": list(space.points),
        "members": list(space.members),
    }

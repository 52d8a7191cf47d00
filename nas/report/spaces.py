"""Search spaces as plain data for tables and JSON."""

from __future__ import annotations

from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from backbones import cost
from backbones.image_size import ImageSize, shown
from nas.report.console import table
from nas.report.text import giga
from search_spaces import SearchSpace, list_spaces


def listing() -> list[dict[str, Any]]:
    """Return name, description and number of designs of every shipped space."""
    spaces = [SearchSpace.load(name) for name in list_spaces()]
    return [{"space": s.name, "size": s.size, "description": s.description} for s in spaces]


def explain(name: str, image_size: ImageSize = 224) -> dict[str, Any]:
    """Return a space in full: its choices, constraints and published designs with their cost.

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
        "image_size": image_size,
        "flops": {p: cost(space.point(p), image_size).flops for p in space.points},
        "members": list(space.members),
    }


def spaces_table(rows: list[dict[str, Any]]) -> RenderableType:
    """Render `listing`."""
    return table(
        ("space", "designs", "what varies"),
        [(r["space"], f"{r['size']:.2e}", r["description"]) for r in rows],
        numeric="designs",
    )


def space_view(space: dict[str, Any]) -> RenderableType:
    """Render `explain`."""
    rows = [
        (r["choice"], r["about"], r["options"], r["count"], r["when"] or "always")
        for r in space["choices"]
    ]
    points = [
        f"{name}, {giga(space['flops'][name])}"
        + ("" if name in space["members"] else " (outside, a baseline only)")
        for name in space["points"]
    ]
    parts: list[RenderableType] = [
        Text.assemble((space["space"], "bold"), f"  version {space['version']}"),
        Text(space["description"]),
        Text(f"{space['size']:,} designs; widths are {space['widths']}"),
        Text(
            f"published designs, with FLOPs at {shown(space['image_size'])} px: "
            f"{'; '.join(points) or 'none'}"
        ),
        *(Text(f"always: {rule}") for rule in space["constraints"]),
        Text(),
        table(("choice", "what it is", "options", "count", "exists when"), rows, numeric="count"),
    ]
    return Group(*parts)

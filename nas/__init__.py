"""The search: studies, budgets, strategies, proxies, executors, export.

    from nas import Study, search
    study = search(space="quadtree", budget="4.5GFLOPs", data="digits", trials=50)
    Study.open(study.name).best.config

Public names are loaded on first use, so that importing the package costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nas.api import Study, search

__all__ = ["Study", "search"]


def __getattr__(name: str) -> Any:
    """Import the room of the public names when one is first used."""
    if name not in __all__:
        raise AttributeError(f"module 'nas' has no attribute {name!r}")
    from nas import api

    return getattr(api, name)

"""The search: studies, budgets, strategies, proxies, executors, export.

    from nas import Study, search
    study = search(space="quadtree", budget="4.5GFLOPs", data="digits", trials=50)
    trained = train(study.export(), "digits")
    evaluate("vmamba_tiny_s1l8", "folder:/data/imagenet", weights="vssm1_tiny_0230s.pth")

Public names are loaded on first use, so that importing the package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nas.api import Study, search
    from nas.full_training.request import evaluate, train
    from nas.questions import ablate, analyze, fidelity

_HOME = {
    "Study": "nas.api",
    "search": "nas.api",
    "ablate": "nas.questions",
    "analyze": "nas.questions",
    "fidelity": "nas.questions",
    "evaluate": "nas.full_training.request",
    "train": "nas.full_training.request",
}

__all__ = ["Study", "ablate", "analyze", "evaluate", "fidelity", "search", "train"]


def __getattr__(name: str) -> Any:
    """Import the room of the public names when one is first used."""
    if name not in _HOME:
        raise AttributeError(f"module 'nas' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)

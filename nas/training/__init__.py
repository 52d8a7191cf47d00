"""Proxies: cheap trainings that rank architectures, and the data they are ranked on."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nas.study.recipe import Recipe, default_recipe
    from nas.training.data.catalog import check_data, list_datasets
    from nas.training.loop import EpochMetrics
    from nas.training.run import ProxyResult, train_proxy
    from nas.training.scaling import proxy_config

__all__ = [
    "EpochMetrics",
    "ProxyResult",
    "Recipe",
    "check_data",
    "default_recipe",
    "list_datasets",
    "proxy_config",
    "train_proxy",
]

# Loaded on first use: a listing command should not wait for torch.
_HOME = {
    "EpochMetrics": "nas.training.loop",
    "ProxyResult": "nas.training.run",
    "Recipe": "nas.study.recipe",
    "check_data": "nas.training.data.catalog",
    "default_recipe": "nas.study.recipe",
    "list_datasets": "nas.training.data.catalog",
    "proxy_config": "nas.training.scaling",
    "train_proxy": "nas.training.run",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)

"""Proxies: cheap trainings that rank architectures, and the data they are ranked on."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nas.proxies.datasets import check_data, list_datasets
    from nas.proxies.recipe import Recipe, default_recipe
    from nas.proxies.reliability import load_reliability
    from nas.proxies.scaling import proxy_config
    from nas.proxies.training import EpochMetrics, ProxyResult, train_proxy

__all__ = [
    "EpochMetrics",
    "ProxyResult",
    "Recipe",
    "check_data",
    "default_recipe",
    "list_datasets",
    "load_reliability",
    "proxy_config",
    "train_proxy",
]

# Loaded on first use: a listing command should not wait for torch.
_HOME = {
    "EpochMetrics": "training",
    "ProxyResult": "training",
    "Recipe": "recipe",
    "check_data": "datasets",
    "default_recipe": "recipe",
    "list_datasets": "datasets",
    "load_reliability": "reliability",
    "proxy_config": "scaling",
    "train_proxy": "training",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"nas.proxies.{_HOME[name]}"), name)

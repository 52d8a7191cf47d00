"""The parts a network may hold, each with its cost rule and its builder.

A part is known by its config class. One that is not registered can be neither built nor
counted, and none can be registered without a cost rule: a budget never misses an operation.
Builders are named, not imported, so that counting needs no torch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from backbones.errors import ConfigError

CostRule = Callable[..., Any]


@dataclass(frozen=True)
class Component:
    """A part: its config class, the `module:Class` that builds it, and its cost rule."""

    config: type
    builder: str
    cost: CostRule

    def build(self, config: Any, *args: Any, **kwargs: Any) -> Any:
        """Import the builder and call it with the config."""
        module, name = self.builder.split(":")
        return getattr(import_module(module), name)(config, *args, **kwargs)


_COMPONENTS: dict[type, Component] = {}


def register(config: type, *, builder: str, cost: CostRule | None) -> Component:
    """Add a part to the language.

    Raises: ConfigError without a cost rule, or when the config class has a part already.
    """
    if cost is None:
        raise ConfigError(
            f"component {config.__name__} has no cost rule; give one, or no budget can hold it"
        )
    if config in _COMPONENTS:
        raise ConfigError(
            f"component {config.__name__} is already built by {_COMPONENTS[config].builder}; "
            "register each config class once"
        )
    _COMPONENTS[config] = Component(config, builder, cost)
    return _COMPONENTS[config]


def component(config: Any) -> Component:
    """Return the part that a config describes.

    Raises: ConfigError for a config class that is not registered.
    """
    import backbones.counting  # noqa: F401  (its end registers the parts that ship)

    found = _COMPONENTS.get(type(config))
    if found is None:
        raise ConfigError(
            f"no component for {type(config).__name__}; register it in backbones/counting.py"
        )
    return found


def build(config: Any, *args: Any, **kwargs: Any) -> Any:
    """Build the module that a part's config describes."""
    return component(config).build(config, *args, **kwargs)

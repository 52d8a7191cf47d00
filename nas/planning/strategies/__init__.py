"""Strategies: what to try next, given what is known. Each is an Optuna sampler.

A strategy is a function from (space, seed) to a sampler, registered by name; one from elsewhere
is named module:Class. A new sampler is made for every proposal, seeded by the study's seed and
the proposal's index, and sees the whole history: what it proposes depends on these alone, so a
study continues as if never interrupted.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from kernels.errors import nearest
from nas.errors import StudyError
from nas.planning.strategies.outside import find

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler

    from search_spaces import SearchSpace

    Maker = Callable[[SearchSpace, int], BaseSampler]

# name -> module, function: samplers are imported when one is wanted, not when listed.
_STRATEGIES: dict[str, tuple[str, str]] = {}


def register(name: str, module: str, function: str) -> None:
    """Add a strategy: `function` of `module` takes (space, seed) and returns a sampler.

    Raises: ValueError when the name is taken.
    """
    if name in _STRATEGIES:
        raise ValueError(f"strategy {name!r} is registered already, by {_STRATEGIES[name][0]}")
    _STRATEGIES[name] = (module, function)


register("surrogate", "nas.planning.strategies.surrogate", "SurrogateSampler")
register("evolution", "nas.planning.strategies.evolution", "EvolutionSampler")
register("tpe", "nas.planning.strategies.borrowed", "tpe")
register("random", "nas.planning.strategies.uniform", "UniformSampler")
register("nsga2", "nas.planning.strategies.borrowed", "nsga2")
register("grid", "nas.planning.strategies.grid", "GridSampler")


def list_strategies() -> list[str]:
    """Return the names of all strategies."""
    return list(_STRATEGIES)


def check_strategy(name: str) -> None:
    """Raise StudyError for an unknown name, with the nearest known one."""
    if ":" in name:
        find(name)
    elif name not in _STRATEGIES:
        hint = nearest(name, _STRATEGIES, "use one of these")
        known = f"{', '.join(_STRATEGIES)}, or module:Class of an Optuna sampler"
        raise StudyError(f"unknown strategy {name!r}; {hint} (known: {known})")


def make_sampler(name: str, space: SearchSpace, seed: int) -> BaseSampler:
    """Return a sampler for one proposal.

    Raises: StudyError for an unknown name.
    """
    if ":" in name:
        return find(name)(space, seed)
    check_strategy(name)
    module, function = _STRATEGIES[name]
    maker: Maker = getattr(importlib.import_module(module), function)
    return maker(space, seed)

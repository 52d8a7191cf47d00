"""Between the choices of a space and the parameters of an Optuna trial."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from search_spaces import SearchSpace
    from search_spaces.choices import Choice

# What a trial of the history was: optuna's user attribute of that name.
ROLE = "role"


def distribution(choice: Choice) -> BaseDistribution:
    """Return the distribution from which a tuner draws a choice."""
    if choice.kind == "int":
        return IntDistribution(choice.low, choice.high, step=choice.step)
    return CategoricalDistribution(tuple(choice.encode(option) for option in choice.options))


def distributions(space: SearchSpace) -> dict[str, BaseDistribution]:
    """Return the distribution of every choice of a space, active or not."""
    return {name: distribution(choice) for name, choice in space.choices.items()}


def encode(space: SearchSpace, choices: Mapping[str, Any]) -> dict[str, Any]:
    """Return choices as a tuner stores them."""
    return {name: space.choices[name].encode(value) for name, value in choices.items()}


def decode(space: SearchSpace, params: Mapping[str, Any]) -> dict[str, Any]:
    """Return stored parameters as choices."""
    return {name: space.choices[name].decode(value) for name, value in params.items()}


def trained(trials: list[FrozenTrial]) -> list[FrozenTrial]:
    """Return the trials that are points of the space and no replays of another."""
    return [t for t in trials if t.params and t.user_attrs.get(ROLE) != "replay"]

"""Optuna's own samplers, with the settings that suit conditional, categorical spaces."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import NSGAIISampler, TPESampler

from nas.planning.strategies.encoding import decode, encode

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler
    from optuna.study import Study
    from optuna.trial import FrozenTrial

    from search_spaces import SearchSpace

_NUMPY_SEED = 0xFFFFFFFF
TPE_FIRST_RANDOM = 10
NSGA2_POPULATION = 20
NSGA2_CROSSOVER_RATE = 0.5


def tpe(space: SearchSpace, seed: int) -> BaseSampler:
    """Return a tree-structured Parzen estimator.

    Choices that exist together are modelled together (group), and running trials count as bad
    ones (constant liar), so that several workers do not crowd on one design.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return TPESampler(
            n_startup_trials=TPE_FIRST_RANDOM,
            multivariate=True,
            group=True,
            constant_liar=True,
            seed=seed & _NUMPY_SEED,
        )


def nsga2(space: SearchSpace, seed: int) -> BaseSampler:
    """Return NSGA-II with the space's own mutation and crossover, for Pareto fronts."""
    rng = np.random.default_rng(seed)

    def child(
        study: Study, search_space: dict[str, BaseDistribution], parents: list[FrozenTrial]
    ) -> dict[str, Any]:
        points = [t for t in parents if t.params]
        if not points:
            return encode(space, space.sample(rng))
        first, second = (decode(space, points[i].params) for i in rng.integers(len(points), size=2))
        made = first
        if rng.random() < NSGA2_CROSSOVER_RATE:
            made = space.crossover(first, second, rng)
        if made in (first, second):
            made = space.mutate(made, rng)
        return encode(space, made)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return NSGAIISampler(
            population_size=NSGA2_POPULATION,
            seed=seed & _NUMPY_SEED,
            child_generation_strategy=child,
        )

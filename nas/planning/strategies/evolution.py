"""Regularized evolution: the best of a few recent designs has a child, the oldest are forgotten.

The space's own operators make the children: a mutation changes one choice as befits its type, a
crossover mixes two parents, and both keep every condition and constraint. Widths are fitted to
the budget afterwards, so that a child is compared with its parents at equal cost.

Source: aging evolution, Real et al., arXiv 1802.01548, section 3.1. Differs: crossover beside
mutation; the population grows with the history, because a search here may be a dozen trials or
ten thousand; published designs are its first members; several objectives are weighted anew for
every child.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from optuna.trial import TrialState

from nas.planning.strategies.encoding import decode, trained
from nas.planning.strategies.uniform import WholePointSampler
from nas.planning.strategies.utility import utilities

if TYPE_CHECKING:
    import numpy as np
    from optuna.study import Study
    from optuna.trial import FrozenTrial

# Random designs (published ones count) before the first child.
FIRST_RANDOM = 6
# Designs that may be parents: the newest third of all, within these bounds.
SMALLEST_POPULATION, LARGEST_POPULATION, POPULATION_SHARE = 8, 64, 1 / 3
TOURNAMENT_SHARE = 0.35
CROSSOVER_RATE = 0.2
# A second mutation on top of the first, so that no local optimum holds a search for ever.
FURTHER_MUTATION_RATE = 0.3


class EvolutionSampler(WholePointSampler):
    """Proposes children of the best recent designs."""

    kind = "random"

    def point(self, study: Study) -> dict[str, Any]:
        """Return a child, or a random point while there are too few parents."""
        done = trained(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)))
        if len(done) < FIRST_RANDOM:
            return self.space.sample(self.rng)
        size = math.ceil(POPULATION_SHARE * len(done))
        size = min(max(size, SMALLEST_POPULATION), LARGEST_POPULATION)
        population = done[-size:]
        fitness = utilities(study, population, self.rng)
        parent = self._winner(population, fitness)
        if self.rng.random() < CROSSOVER_RATE:
            self.kind = "crossover"
            other = self._winner(population, fitness)
            child = self.space.crossover(parent, other, self.rng)
            if child not in (parent, other):
                return child
        self.kind = "mutation"
        child = self.space.mutate(parent, self.rng)
        while self.rng.random() < FURTHER_MUTATION_RATE:
            child = self.space.mutate(child, self.rng)
        return child

    def _winner(
        self, population: list[FrozenTrial], fitness: np.ndarray[Any, Any]
    ) -> dict[str, Any]:
        """Return the best of a random few."""
        size = max(2, round(TOURNAMENT_SHARE * len(population)))
        drawn = self.rng.choice(len(population), size=min(size, len(population)), replace=False)
        best = max(sorted(drawn), key=lambda i: fitness[i])
        return decode(self.space, population[best].params)

"""Random search: points drawn uniformly from the space, blind to all results."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np
from optuna.samplers import BaseSampler, RandomSampler

from nas.planning.strategies.encoding import distributions, encode

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.study import Study
    from optuna.trial import FrozenTrial

    from search_spaces import SearchSpace


class WholePointSampler(BaseSampler):
    """Base of our own strategies: a proposal is a whole point of the space, made at once."""

    def __init__(self, space: SearchSpace, seed: int) -> None:
        self.space = space
        self.rng = np.random.default_rng(seed)
        self._single = RandomSampler(seed=seed & 0xFFFFFFFF)

    @abstractmethod
    def point(self, study: Study) -> dict[str, Any]:
        """Return the choices to try next."""

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Return every choice: none is sampled on its own."""
        return distributions(self.space)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return the next point as stored parameters."""
        return encode(self.space, self.point(study))

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Draw a choice that the point lacks: Optuna asks so for a space that has grown."""
        return self._single.sample_independent(study, trial, param_name, param_distribution)


class UniformSampler(WholePointSampler):
    """Draws points uniformly."""

    def point(self, study: Study) -> dict[str, Any]:
        """Return a random point."""
        return self.space.sample(self.rng)
